"""Makes the ways happen, several at once where they do not disturb each other, and notes when each is told where."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from support.kubectl import CommandFailedError, Kubectl
from ways.looks import Look, Looker, StatusLooker
from ways.stage import SYSTEM, Stage
from ways.way import Found, Way

_EVERY = 0.1
#: How long after it was told everywhere something wrong may still appear.
_SETTLES = 1.5


@dataclass
class Runner:
    """Runs ways."""

    kube: Kubectl
    looker: Looker
    status: StatusLooker

    def all(self, ways: Iterable[Way], *, at_once: int) -> list[Found]:
        """Run ways: first those that disturb nobody, then one by one those that do."""
        ways = list(ways)
        with ThreadPoolExecutor(at_once) as pool:
            together = list(pool.map(self.one, [way for way in ways if not way.alone]))
        return together + [self.one(way) for way in ways if way.alone]

    def one(self, way: Way) -> Found:
        """Make one way happen and look until it is told everywhere, or its time is over."""
        stage = Stage(self.kube, f"way-{way.name}")
        found = Found(name=way.name)
        self.status.want(stage.namespace)
        try:
            self._gone(stage)
            stage.open(way)
            stage.begin()
            way.breaks(stage)
            self._watch(way, stage, found)
        except (CommandFailedError, AssertionError, OSError) as error:
            found.error = str(error)
        finally:
            self.status.enough(stage.namespace)
            try:
                stage.close(way)
            except (CommandFailedError, AssertionError, OSError) as error:
                found.error = f"{found.error} and at its end: {error}".strip()
        sys.stderr.write(f"{_summary(way, found)}\n")
        return found

    def _gone(self, stage: Stage) -> None:
        self.kube("delete", "namespace", stage.namespace, "--ignore-not-found", "--timeout=90s")

    def _looks(self, way: Way, stage: Stage) -> dict[str, Look]:
        return {
            "get": self.looker.latest("get"),
            "describe": self.looker.latest("describe"),
            "kubernetes": self.looker.latest("kubernetes"),
            "status": self.status.latest(stage.namespace),
        }

    def _watch(self, way: Way, stage: Stage, found: Found) -> None:
        cause = re.compile(way.cause, re.IGNORECASE)
        kubelet = re.compile(way.kubelet, re.IGNORECASE) if way.kubelet else None
        about = {stage.namespace, *({SYSTEM, ""} if way.alone else ())}
        settled: float | None = None
        while True:
            now = time.monotonic()
            looks = self._looks(way, stage)
            for place in way.places:
                look = looks[place]
                if place in found.seconds or look.time <= stage.began:
                    continue
                if (line := _first(cause, look.of(about))) is not None:
                    found.seconds[place] = round(look.time - stage.began, 1)
                    found.lines[place] = line
            known = looks["kubernetes"]
            if (
                kubelet is not None
                and found.kubelet is None
                and known.time > stage.began
                and _first(kubelet, known.of(about))
            ):
                found.kubelet = round(known.time - stage.began, 1)
            told = all(place in found.seconds for place in way.places)
            if told and settled is None:
                settled = now + _SETTLES
            if (settled is not None and now >= settled) or now > stage.began + way.within:
                break
            time.sleep(_EVERY)
        for place in way.places:
            lines = looks[place].of(about)
            now_said = [line for line in lines if ": Event " not in line]  # events say what was
            found.wrong += [line for wrong in way.wrong for line in now_said if re.search(wrong, line, re.IGNORECASE)]
            if place not in found.seconds or way.wrong:
                found.last[place] = lines


def _first(pattern: re.Pattern[str], lines: list[str]) -> str | None:
    return next((line for line in lines if pattern.search(line)), None)


def _summary(way: Way, found: Found) -> str:
    if found.error:
        return f"✗ {way.name}: could not be made to happen: {found.error[:500]}"
    times = " ".join(f"{place} {found.seconds.get(place, 'never')}" for place in way.places)
    kubelet = "" if found.kubelet is None else f" (Kubernetes {found.kubelet})"
    slowest = found.slowest(way)
    sign = "✓" if slowest is not None and slowest <= 10 and not found.wrong else "✗"
    wrong = "".join(f"\n    wrong: {line}" for line in found.wrong)
    missing = "".join(
        f"\n    {place}: {line[:700]}"
        for place, lines in found.last.items()
        if place not in found.seconds
        for line in lines
    )
    return f"{sign} {way.name}: {times}{kubelet}{wrong}{missing}"
