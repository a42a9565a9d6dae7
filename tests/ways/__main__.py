"""``make ways [WAY=name,…] [OUT=file]``: run the ways, print what was found, and write the table."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path

from support.kubectl import Kubectl
from ways import in_pods, in_programs, in_rules, in_the_system, table
from ways.looks import Looker, StatusLooker
from ways.run import Runner
from ways.stage import REPOSITORY, SYSTEM
from ways.way import REGISTRY, Found, Way

from attune_cluster.settings import Settings
from attune_cluster.tools import tools
from attune_demo import system as installed
from attune_demo.kube import Kube

PAGE = REPOSITORY / "docs" / "ways-not-to-fire.md"
#: So that the ways of tokens need not wait for ten minutes.
VALUES = ("--set", "operator.tokenMinTTL=10s")
MODULES = (in_rules, in_programs, in_pods, in_the_system)


def chosen(names: str) -> list[Way]:
    """The ways of these names (regular expressions with commas between them), or all."""
    wanted = [re.compile(name.strip()) for name in names.split(",") if name.strip()]
    found = [way for way in REGISTRY.values() if not wanted or any(each.fullmatch(way.name) for each in wanted)]
    if not found:
        raise SystemExit(f"no way is called {names}; there are: {', '.join(REGISTRY)}")
    return found


def with_earlier(found: list[Found], file: Path | None) -> list[Found]:
    """What was found now, and of other ways what the file holds from earlier runs."""
    if file is None or not file.is_file():
        return found
    names = {one.name for one in found}
    earlier = [Found(**one) for one in json.loads(file.read_text())["ways"]]
    return [*found, *(one for one in earlier if one.name not in names and one.name in REGISTRY)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ways", description=__doc__)
    parser.add_argument("--only", default="", help="names of ways, as regular expressions with commas between them")
    parser.add_argument(
        "--out", type=Path, help="write what was found to this file, as JSON, beside what it holds of other ways"
    )
    parser.add_argument("--at-once", type=int, default=4, help="how many run at once, where they may")
    parser.add_argument("--table", action="store_true", help=f"write the table into {PAGE.name}")
    parser.add_argument("--list", action="store_true", help="only say which there are")
    options = parser.parse_args()
    ways = chosen(options.only)
    if options.list:
        for way in ways:
            print(f"{way.name:36} {'alone' if way.alone else '':6} {way.what}")
        return 0
    settings = Settings.from_environment()
    programs = tools(settings, ["kubectl", "helm"])
    kube = Kubectl(settings.kubeconfig, programs["kubectl"], programs["helm"])
    installed.install(Kube.of_checkout(settings), REPOSITORY, *VALUES)
    for folder in ("core", "kubernetes"):
        kube("apply", "-f", str(REPOSITORY / "packs" / folder))
    in_programs.prepare(kube)
    kube("wait", "--for=condition=Ready", "sensors", "--all", "-n", SYSTEM, "--timeout=120s")
    environment = {**os.environ, "KUBECONFIG": str(settings.kubeconfig), "NO_COLOR": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    with kube.proxy() as base:
        looker, status = Looker(lambda: base), StatusLooker(environment)
        try:
            found = Runner(kube, looker, status).all(ways, at_once=options.at_once)
        finally:
            looker.close()
            status.close()
    found = with_earlier(found, options.out)
    order = {name: place for place, name in enumerate(REGISTRY)}
    found.sort(key=lambda one: order[one.name])
    ways = list(REGISTRY.values())
    summary = table.verdict(ways, found)
    print(json.dumps(summary, indent=2))
    if options.out:
        options.out.write_text(
            json.dumps({"summary": summary, "ways": [asdict(one) for one in found]}, indent=2) + "\n"
        )
    if options.table:
        PAGE.write_text(table.into(PAGE.read_text(), table.rows(ways, found), table.figures(summary)))
    good = summary["told everywhere"] == len(found) and not summary["wrong"]
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
