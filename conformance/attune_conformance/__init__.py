"""Says of any sensor program, check by check, whether it keeps to the sensor protocol (docs/sensor-protocol.md).

The program runs as it would in a pod: with the same environment and files, against a real NATS server that grants it the rights
of a sensor and no more, and against an API that answers as each check wants. What it does is observed from outside.
"""
