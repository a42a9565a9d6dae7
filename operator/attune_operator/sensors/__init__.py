"""The Sensor side: from what Kubernetes holds to what it should hold, again and again.

``store`` keeps what was seen, ``queue`` says whose turn it is, ``reconcile`` brings one Sensor to what it should be, and
``controller`` drives them. ``pods``, ``readiness`` and ``status`` are pure.
"""
