"""What pages show, computed from values. Pure: the time is passed in."""
