"""Events: validated, stored once, found again."""
