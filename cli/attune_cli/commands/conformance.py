"""``attune conformance -- COMMAND…``: examine a sensor program against the sensor protocol."""

from attune_cli.lazy import command_app
from attune_conformance.command import conformance

app = command_app()
app.command()(conformance)
