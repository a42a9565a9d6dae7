"""Taking events from sensors: read, checked, stored once."""
