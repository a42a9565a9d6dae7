"""Which rules serve which path. Several may share one when their conditions differ; of those with the same, the oldest serves
(of Rules created in the same second, the first by namespace and name).
"""

from dataclasses import dataclass

from attune_sensor import Rule
from attune_webhook.parameters import Hook
from attune_webhook.rates import Bucket


@dataclass(frozen=True, slots=True)
class Route:
    """A rule and what it takes."""

    rule: Rule
    hook: Hook
    bucket: Bucket

    @property
    def enabled(self) -> bool:
        """Whether the rule makes events. The requests of a disabled one are accepted and forgotten."""
        return self.rule.state.enabled


def _precedence(route: Route) -> tuple[bool, float, str, str]:
    # Kubernetes gives whole seconds, so Rules of one `kubectl apply` have the same: then their names decide, not chance.
    return not route.enabled, route.rule.created_at.timestamp(), route.rule.ref, route.rule.uid


class _Path:
    """The rules of one path, the oldest first; disabled ones come last."""

    __slots__ = ("all", "serving")

    def __init__(self) -> None:
        self.all: list[Route] = []
        self.serving: tuple[Route, ...] = ()

    def replace(self, uid: str, route: Route | None) -> None:
        self.all = [each for each in self.all if each.rule.uid != uid]
        if route is not None:
            self.all.append(route)
            self.all.sort(key=_precedence)
        first: dict[object, Route] = {}
        for each in self.all:
            first.setdefault(each.hook.when, each)
        self.serving = tuple(first.values())


class Routes:
    """All rules, by their paths."""

    def __init__(self) -> None:
        self._paths: dict[str, _Path] = {}  # by the path's shape
        self._shapes: dict[str, str] = {}  # of each rule, by its uid
        self._templates: list[tuple[Route, _Path]] = []  # paths with named segments, the most specific first

    def __len__(self) -> int:
        return len(self._shapes)

    def find(self, path: str) -> tuple[Route, ...]:
        """The rules that serve the path. A literal path goes before a template, and the more specific template first."""
        found = self._paths.get(path)
        if found is not None:
            return found.serving
        for route, rules in self._templates:
            if route.hook.path.match(path) is not None:
                return rules.serving
        return ()

    def serving(self) -> list[Route]:
        """Every route that serves its path."""
        return [route for path in self._paths.values() for route in path.serving]

    def put(self, route: Route) -> set[str]:
        """Add a rule, or replace what was known of it; returns the shapes of the paths at which something changed."""
        changed = self.remove(route.rule.uid)
        shape = route.hook.path.shape
        self._paths.setdefault(shape, _Path()).replace(route.rule.uid, route)
        self._shapes[route.rule.uid] = shape
        self._sort_templates(shape)
        return changed | {shape}

    def remove(self, uid: str) -> set[str]:
        """Take a rule away; returns the shapes of the paths at which something changed."""
        shape = self._shapes.pop(uid, None)
        if shape is None:
            return set()
        self._paths[shape].replace(uid, None)
        if not self._paths[shape].all:
            del self._paths[shape]
        self._sort_templates(shape)
        return {shape}

    def at(self, shape: str) -> list[Route]:
        """All rules of a path, the oldest first."""
        return list(self._paths[shape].all) if shape in self._paths else []

    def serving_instead(self, route: Route) -> Route | None:
        """The rule that serves the route's path and condition in its place; None when it serves them itself."""
        for each in self._paths[route.hook.path.shape].serving:
            if each.hook.when == route.hook.when:
                return None if each.rule.uid == route.rule.uid else each
        return None

    def _sort_templates(self, changed: str) -> None:
        if "{}" not in changed:
            return
        found = [(path.all[0], path) for path in self._paths.values() if path.all[0].hook.path.names]
        # Literal segments near the beginning are the more specific ones.
        found.sort(key=lambda each: [segment is None for segment in each[0].hook.path.segments])
        self._templates = found
