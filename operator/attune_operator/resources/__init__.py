"""What a Sensor becomes in Kubernetes: kinds, pure builders, and the difference between a desired and a found object.

A builder returns exactly the fields that the operator owns (server-side apply) and nothing else.
"""
