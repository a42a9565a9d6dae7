"""``attune keys``: the keys that sign tokens."""

from datetime import UTC, datetime
from typing import Final

from attune_cli.lazy import command_app
from attune_cli.output import Format, OutputOption, show
from attune_cli.session import Session, asking
from attune_cli.times import rfc3339
from attune_contract.names import ROTATE_KEYS

app = command_app(help="Keys that sign tokens.")

#: The Secret that holds them (docs/credentials.md).
SIGNING_KEYS: Final = "attune-signing-keys"


@asking(app, "rotate")
def rotate(session: Session, output: OutputOption = Format.TABLE) -> None:
    """Start a rotation of the signing key. Running sensors are not disturbed.

    The next key is published before it signs, and the old one stays published until its last token has expired.
    """
    now = rfc3339(datetime.now(UTC).replace(microsecond=0))
    namespace = session.options.system_namespace
    session.kube.patch_core("secrets", namespace, SIGNING_KEYS, {"metadata": {"annotations": {ROTATE_KEYS: now}}})
    show(
        {"secret": f"{namespace}/{SIGNING_KEYS}", "requested_at": now},
        output,
        title=f"Requested at {now}. The next key is published now and signs some minutes later; then sensors get new tokens. "
        "`attune sensors show` shows which key signed a Sensor's token.",
    )
