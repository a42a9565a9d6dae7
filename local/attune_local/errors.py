"""Why ``attune up`` cannot go on: one sentence for people."""


class UpError(Exception):
    """What is wrong, where, and what to do."""
