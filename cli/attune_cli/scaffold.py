"""The files of a new sensor, as texts."""

import keyword
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from attune_cli.errors import UsageError
from attune_contract import __version__
from attune_contract.identity import SensorRef

#: File name by template.
_FILES: Final = {
    "sensor.py.txt": "@MODULE@.py",
    "test_sensor.py.txt": "test_@MODULE@.py",
    "sensor.yaml.txt": "sensor.yaml",
    "rule.yaml.txt": "rule.yaml",
    "Dockerfile.txt": "Dockerfile",
    "README.md.txt": "README.md",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names of a new sensor's parts."""

    name: str
    trigger_type: str
    module: str

    @classmethod
    def of(cls, name: str, trigger_type: str | None) -> "Names":
        """From the Sensor's name, and the trigger type if it is given.

        Raises:
            UsageError: the name is not a Sensor's name.
        """
        try:
            SensorRef.parse(f"default/{name}")
        except ValueError:
            raise UsageError(
                f"{name!r} is not a Sensor's name; use lower-case letters, digits, '-' and '.', at most 63 characters."
            ) from None
        module = re.sub(r"[^a-z0-9]", "_", name)
        if not module.isidentifier() or keyword.iskeyword(module):
            module = f"sensor_{module}"
        # A trigger type is pack.name; a Sensor's name may be one already.
        return cls(name=name, trigger_type=trigger_type or (name if "." in name else f"{name}.file"), module=module)


def sensor_files(names: Names) -> dict[str, str]:
    """The files' texts by their names."""
    words = {
        "@NAME@": names.name,
        "@TYPE@": names.trigger_type,
        "@MODULE@": names.module,
        "@IMAGE@": f"{names.name}:0.1.0",
        "@BASE@": f"attune/sensor-timer:{__version__}",
    }

    def filled(text: str) -> str:
        for word, meaning in words.items():
            text = text.replace(word, meaning)
        return text

    folder = files("attune_cli").joinpath("templates", "sensor")
    return {filled(name): filled(folder.joinpath(template).read_text("utf-8")) for template, name in _FILES.items()}
