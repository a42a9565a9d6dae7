"""Which rule serves which path: the oldest of those that ask for it."""

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


def _age(route: Route) -> tuple[float, str]:
    return route.rule.created_at.timestamp(), route.rule.uid


class Routes:
    """All rules that run, by their paths."""

    def __init__(self) -> None:
        self._by_path: dict[str, list[Route]] = {}  # the oldest first
        self._paths: dict[str, str] = {}  # of each rule, by its uid

    def __len__(self) -> int:
        return len(self._paths)

    def find(self, path: str) -> Route | None:
        """Who serves the path."""
        routes = self._by_path.get(path)
        return routes[0] if routes else None

    def serving(self) -> list[Route]:
        """Every route that serves its path."""
        return [routes[0] for routes in self._by_path.values()]

    def put(self, route: Route) -> set[str]:
        """Add a rule, or replace what was known of it; returns the paths at which something changed."""
        changed = self.remove(route.rule.uid)
        path = route.hook.path
        routes = self._by_path.setdefault(path, [])
        routes.append(route)
        routes.sort(key=_age)
        self._paths[route.rule.uid] = path
        return changed | {path}

    def remove(self, uid: str) -> set[str]:
        """Take a rule away; returns the paths at which something changed."""
        path = self._paths.pop(uid, None)
        if path is None:
            return set()
        left = [route for route in self._by_path[path] if route.rule.uid != uid]
        if left:
            self._by_path[path] = left
        else:
            del self._by_path[path]
        return {path}

    def at(self, path: str) -> list[Route]:
        """All that ask for the path, the oldest (who has it) first."""
        return list(self._by_path.get(path, ()))
