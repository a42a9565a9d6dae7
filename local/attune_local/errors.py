"""Why ``attune up`` cannot continue: one sentence for people."""


class UpError(Exception):
    """What is wrong, where, and what to do."""
