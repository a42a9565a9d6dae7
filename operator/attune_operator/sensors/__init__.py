"""The Sensor side of the operator: brings each Sensor's objects and its status to their desired state.

``cache`` keeps what was seen, ``controller`` decides which Sensor is reconciled when, and ``reconcile`` does it. ``pods``,
``readiness`` and ``status`` are pure.
"""
