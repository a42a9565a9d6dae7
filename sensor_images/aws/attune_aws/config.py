"""The Sensor's configuration (``spec.config``): the regions and accounts that its rules may read, and as whom.

They are called servers here as with every other Sensor. They stand here and not in rules: a rule's author could otherwise
use the sensor's rights anywhere. And the server's name is part of event ids, so its address may change.
"""

from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from attune_kit.servers import Reference, read_address
from attune_sensor import read_servers

_Region = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,40}\Z")]
_Role = Annotated[str, Meta(pattern=r"^arn:[a-z0-9-]+:iam::[0-9]{12}:role/[-+=,.@_/a-zA-Z0-9]{1,512}\Z")]
#: The region that requests to servers that are not Amazon's are signed for, where none is given.
_ANY_REGION: Final = "us-east-1"
_PORTS: Final = {"http": 80, "https": 443}


class _Given(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A server as it is written."""

    region: _Region | None = None
    url: str | None = None
    access_key_id: Reference | None = None
    secret_access_key: Reference | None = None
    session_token: Reference | None = None
    role: _Role | None = None
    external_id: Annotated[str, Meta(min_length=2, max_length=1224)] | None = None
    ca: Reference | None = None
    visibility_seconds: Annotated[int, Meta(ge=10, le=43_200)] = 30
    receivers: Annotated[int, Meta(ge=1, le=20)] = 10
    path_style: bool | None = None


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A region of an account, or a server that speaks the same protocols.

    Attributes:
        name: its name in the configuration.
        region: the region; None: what the pod's environment says (``AWS_REGION``).
        url: its address; None: Amazon's for the region.
        access_key_id, secret_access_key, session_token: references of the Secret's keys; None: what the pod is (its service
            account's role, a role of the node).
        role: the role to take on; None: none.
        external_id: what the role's trust policy may ask for.
        ca: reference of the Secret's key with the authority that signed its certificate; None: those of the image.
        visibility: seconds for which a message is not given to others, once received.
        receivers: how many requests for messages may run at once for one queue.
        path_style: whether addresses have the bucket in their path, and not in the host's name; None: as the client decides.
    """

    name: str
    region: str | None = None
    url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None
    role: str | None = None
    external_id: str | None = None
    ca: str | None = None
    visibility: int = 30
    receivers: int = 10
    path_style: bool | None = None

    @property
    def where(self) -> str:
        """Where it is, in a few words for messages."""
        if self.url is not None:
            return urlsplit(self.url).netloc
        return f"AWS in {self.region}" if self.region is not None else "AWS"


def servers_of(config: dict[str, Any]) -> dict[str, Server]:
    """The servers by name.

    Raises:
        SettingsError: the configuration cannot be used.
    """
    return read_servers(config, _Given, _server)


def _server(name: str, given: _Given) -> Server:
    if (given.access_key_id is None) != (given.secret_access_key is None):
        raise ValueError("accessKeyId and secretAccessKey are written both, or neither")
    if given.session_token is not None and given.access_key_id is None:
        raise ValueError("sessionToken is never used without accessKeyId")
    if given.external_id is not None and given.role is None:
        raise ValueError("externalId is never used without role")
    if given.url is not None:
        like = "https://sqs.example.com, or http://host:9324"
        read_address(given.url, ports=_PORTS, like=like, ca=given.ca is not None)
    elif given.ca is not None:
        raise ValueError("ca is never used without url: Amazon's authorities are those of the image")
    return Server(
        name=name,
        region=given.region or (None if given.url is None else _ANY_REGION),
        url=given.url,
        access_key_id=given.access_key_id,
        secret_access_key=given.secret_access_key,
        session_token=given.session_token,
        role=given.role,
        external_id=given.external_id,
        ca=given.ca,
        visibility=given.visibility_seconds,
        receivers=given.receivers,
        path_style=given.path_style,
    )
