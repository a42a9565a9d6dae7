"""What makes attempts, a module for each kind of action."""
