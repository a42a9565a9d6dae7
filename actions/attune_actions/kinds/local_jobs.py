"""Actions of kind ``job`` under ``attune up``: the template's command as a process of this machine."""

import asyncio
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attune_actions.carrying import Task, expectation
from attune_actions.settling import Outcome, excerpt, object_name
from attune_contract.actions import RunReason

_LOOK: Final = 0.5
_HIDDEN: Final = ("ATTUNE_", "KUBECONFIG", "KUBERNETES_")


class LocalJobs:
    """Runs Jobs as processes. Each has a folder with its output and, at its end, its status.

    Args:
        folder: where these folders are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._running: dict[str, asyncio.Task[None]] = {}

    async def __call__(self, task: Task) -> Outcome:
        """Make an attempt."""
        name = object_name(task.run)
        folder = self._folder / name
        result = {"kind": "Job", "name": name, "folder": str(folder)}
        waits = expectation(task.step.action, "await") is not None
        if not folder.exists():
            try:
                arguments, environment = command_of(task.step.request["template"])
            except ValueError as error:
                return Outcome(reason=RunReason.OBJECT_FAILED, message=str(error))
            folder.mkdir(parents=True)
            try:
                await self._start(name, folder, arguments, environment)
            except OSError as error:
                (folder / "status").write_text("127")
                return Outcome(
                    reason=RunReason.OBJECT_FAILED,
                    result=result,
                    message=f"{arguments[0]} cannot be started: {error.strerror}",
                )
        if not waits:
            return Outcome(result=result)
        status = folder / "status"
        if status.exists():
            code = status.read_text()
            if code == "0":
                return Outcome(result=result)
            tail = (folder / "output.log").read_text(errors="replace")[-500:]
            return Outcome(
                reason=RunReason.OBJECT_FAILED,
                result=result,
                message=f"it ended with status {code}",
                answer=excerpt(tail),
            )
        if name not in self._running:
            return Outcome(reason=RunReason.OBJECT_FAILED, result=result, message="it ended together with attune up")
        return Outcome(awaiting=_LOOK, result=result, message="the process is under way")

    async def _start(self, name: str, folder: Path, arguments: list[str], environment: Mapping[str, str]) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(_HIDDEN)}
        with (folder / "output.log").open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                cwd=folder,
                env={**inherited, **environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        task = asyncio.create_task(self._wait(process, folder), name=f"job {name}")
        self._running[name] = task
        task.add_done_callback(lambda _: self._running.pop(name, None))

    @staticmethod
    async def _wait(process: asyncio.subprocess.Process, folder: Path) -> None:
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        (folder / "status").write_text(str(code))

    async def close(self) -> None:
        """End what still runs."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def command_of(template: Any) -> tuple[list[str], dict[str, str]]:
    """The command of the template's first container, and its environment. Pure.

    Raises:
        ValueError: it has none that this machine could run.
    """
    try:
        (container, *_) = template["spec"]["template"]["spec"]["containers"]
    except (KeyError, TypeError, ValueError):
        raise ValueError("job.template has no container") from None
    arguments = [str(part) for part in (*(container.get("command") or ()), *(container.get("args") or ()))]
    if not container.get("command"):
        raise ValueError("under attune up a Job's container needs a command: there is no image to take one from")
    environment = {str(each["name"]): str(each["value"]) for each in container.get("env") or () if "value" in each}
    return arguments, environment
