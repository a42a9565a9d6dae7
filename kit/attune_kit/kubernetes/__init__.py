"""The Kubernetes API over REST: how it is reached, and one client for it."""
