"""The Sensor ``core.event``: events that actions of kind ``emit`` make, for the Rules that take them (docs/emit.md)."""
