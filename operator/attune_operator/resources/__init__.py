"""What a Sensor becomes in Kubernetes: pure builders, one object a module, and what differs between wanted and found.

A builder returns exactly the fields that the operator means to own (server-side apply) and nothing else.
"""
