"""Following events as they are stored (server-sent events)."""
