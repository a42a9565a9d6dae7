"""Programs that hold their output back when it goes into a pipe, and the option that mends it. Pure."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final

#: By the program's name: the options of which one is enough, and what to add.
_HOLDING: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "grep": (("--line-buffered",), "--line-buffered"),
    "egrep": (("--line-buffered",), "--line-buffered"),
    "sed": (("-u", "--unbuffered"), "-u"),
    "jq": (("--unbuffered",), "--unbuffered"),
    "kcat": (("-u",), "-u"),
    "kafkacat": (("-u",), "-u"),
    "mawk": (("interactive",), "-W interactive"),
    "tshark": (("-l",), "-l"),
    "tcpdump": (("-l", "-U", "--packet-buffered"), "-l"),
    "perl": (("$|", "autoflush"), "$| = 1; at the program's beginning"),
}
_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh"})


def hints(command: Sequence[str]) -> list[str]:
    """A sentence for each program of a command that holds its output back. Programs in the script of a shell (``sh -c``) are
    looked at too.
    """
    return list(dict.fromkeys(_hints(command)))


def _hints(command: Sequence[str]) -> Iterator[str]:
    name = PurePosixPath(command[0]).name
    if name in _SHELLS and "-c" in command[1:-1]:
        script = command[command.index("-c") + 1]
        for part in re.split(r"[|;&\n]+", script):
            try:
                words = shlex.split(part)
            except ValueError:
                words = part.split()
            if words:
                yield from _hints(words[1:] if words[0] == "exec" and len(words) > 1 else words)
        return
    if name not in _HOLDING:
        return
    enough, add = _HOLDING[name]
    if not any(option in argument if "$" in option or len(option) > 2 else _has(argument, option)
               for argument in command[1:] for option in enough):  # fmt: skip
        yield f"{name} holds its output back when it writes into a pipe, so events come late; add {add}."


def _has(argument: str, option: str) -> bool:
    """Whether an argument is a short option, or several that contain it (``-nu``)."""
    return bool(re.fullmatch(r"-[A-Za-z]+", argument)) and option[1] in argument[1:]
