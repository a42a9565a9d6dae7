"""How a check ends when the sensor does not simply pass it."""


class CheckFailedError(Exception):
    """The sensor does not follow the protocol. The text says what was seen and what was expected."""


class NotApplicableError(Exception):
    """The check says nothing about this sensor. The text says why."""
