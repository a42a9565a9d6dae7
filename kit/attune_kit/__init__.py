"""Mechanisms that the operator, the API and the SDK share: connections, retries, supervised tasks, logs, watched files.

The kit knows NATS, HTTP and the file system; it knows no Rule, Sensor or event. It imports lazily, because every sensor
carries it: importing :mod:`attune_kit` itself costs nothing.
"""
