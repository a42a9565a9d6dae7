"""Deleting events that need not be kept."""
