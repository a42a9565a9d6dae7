"""The Rule side of the operator: which Sensor serves a Rule, what stands on the rule stream, what a Rule's status says.

``binding``, ``validation``, ``projection``, ``conditions`` and ``selectors`` decide, as functions of values. ``inventory``,
``view`` and ``acks`` remember what Kubernetes, the stream and the sensors said. ``controller`` brings them together.
"""
