"""What goes wrong with AWS, in sentences for the rules' authors. Pure."""

from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ReadTimeoutError,
)

from attune_sensor import SourceError

#: What a call may raise.
FAILURES: Final = (BotoCoreError, ClientError, OSError, TimeoutError)
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "AuthorizationError"})
_UNKNOWN: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidIdentityToken",
        "InvalidSecurity",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)


def code_of(error: Exception) -> str:
    """The server's code for an error; empty when it has none."""
    if not isinstance(error, ClientError):
        return ""
    # SQS puts the namespace of its older protocol in front: AWS.SimpleQueueService.NonExistentQueue.
    return str(error.response.get("Error", {}).get("Code", "")).rpartition(".")[2]


def is_denied(error: Exception) -> bool:
    """Whether the credentials are known, and may not do that."""
    return code_of(error) in _DENIED


def source_error(where: str, error: Exception) -> SourceError:
    """What to tell the rules' authors.

    Args:
        where: the server, in a few words.
        error: one of :data:`FAILURES`.
    """
    code = code_of(error)
    if isinstance(error, NoCredentialsError):
        return SourceError(
            f"{where}: there are no credentials: give the pod's service account a role, or write accessKeyId and "
            "secretAccessKey in spec.config.servers of the Sensor"
        )
    if isinstance(error, NoRegionError):
        return SourceError(f"{where}: nobody says which region; write region in spec.config.servers of the Sensor")
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError | ReadTimeoutError):
        return SourceError(f"{where} does not answer ({type(error).__name__})")
    if isinstance(error, ClientError):
        said = str(error.response.get("Error", {}).get("Message", "")) or code
        doing = f"{said} ({error.operation_name})"
        if code in _DENIED:
            return SourceError(f"{where} does not allow it: {doing}")
        if code in _UNKNOWN:
            return SourceError(f"{where} does not accept the credentials: {doing}")
        return SourceError(f"{where}: {code}: {doing}")
    return SourceError(f"{where}: {str(error) or type(error).__name__}")
