"""``helm install --wait`` by Helm 4 on the cluster, with a chart of a Sensor and a Rule: what is good passes, what is not fails
within the timeout with the sentence.
"""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.kubectl import CommandFailedError
from support.system import REPOSITORY, System

_RULE = """\
apiVersion: attune.dev/v1alpha1
kind: Rule
metadata: {name: tick}
spec: {trigger: {type: {{ .Values.type }}, parameters: {interval: 1}}}
"""


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A chart with a timer of its own and a Rule for it."""
    sensor: dict[str, Any] = yaml.safe_load((REPOSITORY / "packs/core/core.timer.yaml").read_text())
    sensor["metadata"] = {"name": "ticker"}
    (interval,) = (each for each in sensor["spec"]["triggerTypes"] if each["name"] == "core.intervaltimer")
    interval.pop("aliases", None)
    sensor["spec"] |= {"triggerTypes": [interval], "rules": {"namespaces": {"from": "Same"}}, "image": "IMAGE"}
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: tick, version: 0.1.0}\n")
    (tmp_path / "values.yaml").write_text("{image: attune/sensor-timer:0.1.0, type: core.intervaltimer}\n")
    text = yaml.safe_dump(sensor).replace("IMAGE", "{{ .Values.image }}")
    (tmp_path / "templates" / "sensor.yaml").write_text(text)
    (tmp_path / "templates" / "rule.yaml").write_text(_RULE)
    return tmp_path


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ("type=core.intervaltimer", ""),
        ("image=acme/none:1", "The image acme/none:1 cannot be pulled"),
        ("type=acme.unheard", "No Sensor offers the trigger type acme.unheard"),
    ],
    ids=["good", "image-missing", "type-unknown"],
)
def test_helm_waits_for_what_is_good_and_says_what_is_not(
    system: System, sample: Path, values: str, sentence: str
) -> None:
    command = ["install", "w", str(sample), "-n", system.namespace, "--wait", "--timeout", "45s", "--set", values]
    began = time.monotonic()
    if sentence:
        with pytest.raises(CommandFailedError) as failed:
            system.kube.run_helm(*command)
        assert sentence in failed.value.stderr
    else:
        system.kube.run_helm(*command)
    seconds = time.monotonic() - began
    print(f"{values}: {seconds:.1f} s")
    assert seconds < 60
