"""What every controller of the operator is built on: work queue, calls to Kubernetes, Events, metrics, probes.

Nothing here knows what a Sensor or a Rule is decided to be. ``views`` holds the values that the two sides show each other.
"""
