"""Errors of the SDK. Each text says what is wrong, where, and what to do."""

from attune_kit.watched_file import WatchedFileError


class SensorError(Exception):
    """Base of the SDK's errors."""


class SettingsError(SensorError):
    """An environment variable is missing or has a value that is not valid."""


class CredentialsError(SensorError, WatchedFileError):
    """The token file is missing, empty or holds something else."""


class InvalidRuleError(SensorError):
    """A rule cannot run as written. The text is shown in the Rule's condition ``Active`` (reason ``Rejected``)."""


class SpoolError(SensorError):
    """The spool directory cannot be used."""


class StoppingError(SensorError, ValueError):
    """The sensor is stopping and accepts no more events."""
