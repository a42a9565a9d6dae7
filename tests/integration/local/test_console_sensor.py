"""A Sensor's page in the console of a real ``attune up``, and a Rule that its editor makes, over HTTP."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.attune_up import AttuneUp, attune_up
from support.eventually import eventually

from attune_contract.local import read_endpoints

pytestmark = [pytest.mark.nats, pytest.mark.timeout(600)]

PACK = Path(__file__).parents[3] / "packs" / "core"
SENSOR = "/console/sensors/attune-system/core.timer"
EDITOR = f"{SENSOR}/types/core.intervaltimer/new-rule"
FILLED = {"namespace": "team-a", "p.interval": "500", "p.unit": '"milliseconds"'}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttuneUp]:
    folder = tmp_path_factory.mktemp("console-sensor")
    shutil.copy(PACK / "core.timer.yaml", folder)
    with attune_up(folder) as running:
        yield running


@pytest.fixture
def visitor(up: AttuneUp) -> Iterator[httpx.Client]:
    """A browser that signed in with a pasted token."""
    endpoints = read_endpoints(up.data_dir)
    assert endpoints is not None
    token = (up.data_dir / "admin.token").read_text().strip()
    own = {"Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=endpoints.api.url, headers=own, trust_env=False, timeout=60) as client:
        assert client.post("/console/sign-in", data={"token": token}).status_code == 303
        yield client


@pytest.fixture
def form(visitor: httpx.Client) -> dict[str, str]:
    """The editor's form, filled but for the Rule's name."""
    answer = visitor.get(EDITOR)
    assert answer.status_code == 200, answer.text
    secret = re.search(r'name="csrf" value="([^"]+)"', answer.text)
    assert secret is not None
    return {**FILLED, "csrf": secret[1]}


def test_a_sensor_s_page_says_how_it_is_and_what_it_offers(up: AttuneUp, visitor: httpx.Client) -> None:
    def ready() -> str:
        page = visitor.get(SENSOR).text
        assert "It runs, and serves its Rules." in page
        assert page.replace("\n", "").replace("</svg>", ">").count(">Ready</span>") >= 2  # the Sensor's, and a pod's
        return page

    page = eventually(ready, within=120, what="the Sensor's page says that it and its pod are ready")
    for said in ("core.intervaltimer", "core.crontimer", "Also called core.timer.", "The unit of the interval.",
                 "<dt>Expires</dt>", "<dt>Renewed</dt>", "one of milliseconds, seconds"):  # fmt: skip
        assert said in page, said
    assert f'href="{EDITOR}"' in page
    assert 'href="/console/?sensor=attune-system%2Fcore.timer"' in page
    for secret in up.data_dir.glob("pods/**/token"):
        assert secret.read_text().strip() not in page
    assert f'href="{SENSOR}"' in visitor.get("/console/").text


def test_a_sensor_s_page_is_sent_again_only_when_it_has_changed(visitor: httpx.Client) -> None:
    part = {"HX-Request": "true"}

    def unchanged() -> bool:
        # What a part says of itself is asked for at once; a minute may end, or the Sensor may change, in between.
        again = re.search(r'hx-get="([^"]+\?seen=[0-9a-f]+)"', visitor.get(SENSOR, headers=part).text)
        assert again is not None
        return visitor.get(again[1], headers=part).status_code == 204

    eventually(unchanged, within=60, what="nothing has changed")
    old = visitor.get(f"{SENSOR}?seen=other", headers=part)
    assert old.status_code == 200
    assert old.text.startswith('<section id="state"')


def test_a_rule_that_the_editor_makes_becomes_active(up: AttuneUp, visitor: httpx.Client, form: dict[str, str]) -> None:
    shown = visitor.post(EDITOR, data={**form, "name": "made", "do": "show"})
    assert shown.status_code == 200
    assert "type: core.intervaltimer\n    parameters:\n      interval: 500\n      unit: milliseconds" in shown.text
    assert up.kube.find("rule", "made", "team-a") is None
    done = visitor.post(EDITOR, data={**form, "name": "made", "do": "apply"})
    assert (done.status_code, done.headers["location"]) == (303, "/console/rules/team-a/made?said=created")
    assert "The Rule was made." in visitor.get(done.headers["location"]).text
    up.kube("wait", "--for=condition=Active", "rule/made", "-n", "team-a")
    made = up.kube.get("rule", "made", "team-a")
    assert made["spec"]["trigger"]["parameters"] == {"interval": 500, "unit": "milliseconds"}
    assert "attune-console" in {each["manager"] for each in made["metadata"]["managedFields"]}
    again = visitor.post(EDITOR, data={**form, "name": "made", "do": "apply"})
    assert again.status_code == 409
    assert "there is a Rule team-a/made already" in again.text


def test_a_mistake_is_told_beside_its_field_and_nothing_is_made(
    up: AttuneUp, visitor: httpx.Client, form: dict[str, str]
) -> None:
    answer = visitor.post(EDITOR, data={**form, "name": "Wrong", "p.interval": "<b>soon", "do": "apply"})
    assert answer.status_code == 422
    interval = re.search(r'<label for="(p-\d+)">interval', answer.text)
    assert interval is not None
    told = re.search(rf'<span class="wrong" id="{interval[1]}-wrong">([^<]*)</span>', answer.text)
    assert told is not None
    assert "is not of type" in told[1]
    assert 'id="f-name-wrong"' in answer.text
    assert "<b>soon" not in answer.text
    assert 'value="&lt;b&gt;soon"' in answer.text
    assert up.kube.find("rule", "Wrong", "team-a") is None


def test_another_site_makes_no_rule(up: AttuneUp, visitor: httpx.Client, form: dict[str, str]) -> None:
    wanted = {**form, "name": "foreign", "do": "apply"}
    assert visitor.post(EDITOR, data={**wanted, "csrf": "guessed"}).status_code == 403
    assert visitor.post(EDITOR, data=wanted, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert visitor.post(EDITOR, json=wanted).status_code == 415
    assert up.kube.find("rule", "foreign", "team-a") is None


def test_what_is_not_there_has_a_page(visitor: httpx.Client) -> None:
    assert visitor.get("/console/sensors/attune-system/never-was").status_code == 404
    answer = visitor.get(f"{SENSOR}/types/core.nothing/new-rule")
    assert answer.status_code == 404
    assert "has no trigger type core.nothing" in answer.text
