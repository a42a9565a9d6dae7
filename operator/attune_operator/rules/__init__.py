"""The Rule side of the operator: which Sensor serves a Rule, what the rule stream has of it, what its status says.

``binding``, ``validation``, ``projection``, ``conditions`` and ``selectors`` decide, as functions of values. ``cache`` keeps
one ``entry`` for each Rule. ``side`` puts the parts together and has the way of a change through them.
"""
