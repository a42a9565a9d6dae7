"""A running ``attune up`` whose files are edited in every wrong way: nothing ends, and no Rule loses its uid or its switch.

``ATTUNE_EDITS=2000 pytest tests/integration/local/test_edits.py -s`` is the long run.
"""

import os
import random
import shutil
import time
from pathlib import Path
from typing import Final

import pytest
from support.attune_up import AttuneUp, attune_up
from support.eventually import eventually

pytestmark = [pytest.mark.nats, pytest.mark.timeout(1200)]

EDITS: Final = int(os.environ.get("ATTUNE_EDITS", "150"))
RULES: Final = 6
PACK: Final = Path(__file__).parents[3] / "packs" / "core"
#: What somebody may have in a file for a moment.
WRONG: Final = (
    "", "\n", "a: [1\n", "just a text\n", "[" * 50_000, "{" * 50_000, "\x00\x01", "kind: Rule\n",
    "- - - -\n", "{{ .Values.x }}\n",
    "apiVersion: attune.dev/v1alpha1\nkind: Rule\nmetadata: {name: ~}\n",
    "apiVersion: attune.dev/v1alpha1\nkind: Rule\nmetadata: {name: n, namespace: }\nspec: {trigger: {type: a.b}}\n",
    "apiVersion: attune.dev/v1alpha1\nkind: Rule\nmetadata: {name: '../x'}\nspec: {trigger: {type: a.b}}\n",
    "apiVersion: attune.dev/v1alpha1\nkind: Rule\nmetadata: []\nspec: 5\n",
    "apiVersion: attune.dev/v1alpha1\nkind: Sensor\nmetadata: {name: s}\nspec: {triggerTypes: [~]}\n",
    "apiVersion: v1\nkind: Secret\nmetadata: {name: w}\nstringData: user=ann\n",
    "apiVersion: v1\nkind: Secret\nmetadata: {name: w}\ndata: {a: my-token}\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: w}\ndata: [x]\n",
    "apiVersion: v1\nkind: List\nitems: [~, 5, {kind: Rule}]\n", "a: &a [*a]\n", "? [a]\n: b\n", "x: !!int y\n", "e: .inf\n",
)  # fmt: skip


def text(number: int, *, interval: int = 3600) -> str:
    return (
        "apiVersion: attune.dev/v1alpha1\nkind: Rule\n"
        f"metadata: {{name: r{number}}}\nspec:\n  trigger:\n    type: core.intervaltimer\n"
        f"    parameters:\n      interval: {interval}\n"
    )


def edit(path: Path, rng: random.Random, good: str) -> None:
    """One edit, as editors, shells, renderers and accidents make them."""
    match rng.randrange(9):
        case 0 | 1:
            path.write_text(rng.choice(WRONG))
        case 2:
            path.write_text(good[: rng.randrange(len(good))])
        case 3:
            path.unlink(missing_ok=True)
        case 4:
            path.write_bytes(rng.randbytes(200))
        case 5:
            temporary = path.with_name(f".{path.name}.new")
            temporary.write_text(good)
            temporary.replace(path)
        case 6:
            path.write_text(f"{good}---\n{rng.choice(WRONG)}")
        case 7:
            if path.exists():
                path.rename(path.with_name(f"moved-{path.name}"))
        case _:
            with path.open("w") as file:  # half, a pause, and the rest
                place = rng.randrange(len(good))
                file.write(good[:place])
                file.flush()
                time.sleep(rng.random() * 0.3)
                file.write(good[place:])


def restored(folder: Path, intervals: dict[int, int]) -> None:
    for number, interval in intervals.items():
        (folder / f"moved-r{number}.yaml").unlink(missing_ok=True)
        (folder / f"r{number}.yaml").write_text(text(number, interval=interval))


def rules(up: AttuneUp) -> dict[str, tuple[str, bool]]:
    found = {body["metadata"]["name"]: body for body in up.kube.list("rule", "default")}
    return {
        name: (body["metadata"]["uid"], body["spec"]["enabled"]) for name, body in found.items() if name.startswith("r")
    }


def test_no_edit_ends_it_or_costs_a_rule_its_uid_or_its_switch(tmp_path: Path) -> None:
    rng = random.Random(20261127)
    shutil.copy(PACK / "core.timer.yaml", tmp_path)
    intervals = dict.fromkeys(range(RULES), 3600)
    restored(tmp_path, intervals)
    with attune_up(tmp_path) as up:
        assert up.process is not None
        eventually(lambda: len(rules(up)) == RULES, within=60, what="all rules are there")
        for number in range(0, RULES, 2):
            up.kube.patch("rule", f"r{number}", "default", {"spec": {"enabled": False}})
        before = rules(up)
        assert [enabled for _, enabled in before.values()].count(False) == RULES // 2
        ends, lost, switched = 0, 0, 0
        for count in range(1, EDITS + 1):
            number = rng.randrange(RULES)
            edit(tmp_path / f"r{number}.yaml", rng, text(number, interval=intervals[number]))
            time.sleep(rng.random() * 0.1)
            if count % 10 == 0:
                intervals[number] += 1
                restored(tmp_path, intervals)
                time.sleep(0.5)
                ends += up.process.poll() is not None
                assert not ends, up.said()[-3000:]
                now = rules(up)
                lost += sum(now.get(name, ("", False))[0] != uid for name, (uid, _) in before.items())
                switched += sum(now[name][1] != enabled for name, (_, enabled) in before.items() if name in now)
        restored(tmp_path, intervals)

        def settled() -> bool:
            found = {body["metadata"]["name"]: body for body in up.kube.list("rule", "default")}
            return all(
                found[f"r{number}"]["spec"]["trigger"]["parameters"]["interval"] == interval
                for number, interval in intervals.items()
            )

        eventually(settled, within=60, what="the store says what the files say")
        assert rules(up) == before
        print(f"{EDITS} edits: {ends} ends, {lost} lost uids, {switched} wrong switches")
        assert (ends, lost, switched) == (0, 0, 0)
        assert "Traceback" not in up.said()
