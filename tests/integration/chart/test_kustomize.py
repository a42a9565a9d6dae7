"""The kustomize configuration that is shipped: names and images reach into Sensors."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from attune_cluster.settings import Settings
from attune_cluster.tools import tools

CONFIG = Path(__file__).parents[3] / "deploy" / "gitops" / "kustomizeconfig.yaml"
SENSOR = {
    "apiVersion": "attune.dev/v1alpha1",
    "kind": "Sensor",
    "metadata": {"name": "queue"},
    "spec": {
        "image": "acme/sensor:1.0",
        "triggerTypes": [{"name": "acme.queue"}],
        "serviceAccountName": "reader",
        "imagePullSecrets": [{"name": "pull"}],
        "secrets": [{"name": "broker"}],
        "envFrom": [{"secretRef": {"name": "broker"}}, {"configMapRef": {"name": "options"}}],
        "volumes": [
            {"name": "settings", "configMap": {"name": "options"}},
            {"name": "broker", "secret": {"secretName": "broker"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {
                "name": "both",
                "projected": {"sources": [{"configMap": {"name": "options"}}, {"secret": {"name": "broker"}}]},
            },
        ],
        "env": [
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "broker", "key": "password"}}},
            {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "options", "key": "level"}}},
        ],
    },
}
KUSTOMIZATION = {
    "apiVersion": "kustomize.config.k8s.io/v1beta1",
    "kind": "Kustomization",
    "namePrefix": "team-",
    "resources": ["sensor.yaml", "account.yaml", "claim.yaml"],
    "configurations": ["kustomizeconfig.yaml"],
    "secretGenerator": [{"name": "broker", "literals": ["password=x"]}, {"name": "pull", "literals": ["a=b"]}],
    "configMapGenerator": [{"name": "options", "literals": ["level=1"]}],
    "images": [{"name": "acme/sensor", "newName": "registry.example/sensor", "newTag": "2.1"}],
}


def test_names_with_prefix_and_hash_and_images_reach_into_sensors(tmp_path: Path) -> None:
    shutil.copy(CONFIG, tmp_path)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}}
    bodies = {"sensor": SENSOR, "account": account, "claim": claim, "kustomization": KUSTOMIZATION}
    for name, body in bodies.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(body))
    kubectl = tools(Settings.from_environment(), ["kubectl"])["kubectl"]
    built = subprocess.run([kubectl, "kustomize", tmp_path], capture_output=True, text=True, check=True).stdout
    found: dict[str, dict[str, Any]] = {}
    for body in yaml.safe_load_all(built):
        found[f"{body['kind']}/{body['metadata']['name'].removeprefix('team-').partition('-')[0]}"] = body
    spec = found["Sensor/queue"]["spec"]
    broker, pull, options = (
        found[key]["metadata"]["name"] for key in ("Secret/broker", "Secret/pull", "ConfigMap/options")
    )
    assert broker.startswith("team-broker-")
    assert spec["image"] == "registry.example/sensor:2.1"
    assert spec["serviceAccountName"] == "team-reader"
    assert spec["imagePullSecrets"] == [{"name": pull}]
    assert spec["secrets"] == [{"name": broker}]
    assert [each["valueFrom"] for each in spec["env"]] == [
        {"secretKeyRef": {"name": broker, "key": "password"}},
        {"configMapKeyRef": {"name": options, "key": "level"}},
    ]
    assert [{key: value for key, value in volume.items() if key != "name"} for volume in spec["volumes"]] == [
        {"configMap": {"name": options}},
        {"secret": {"secretName": broker}},
        {"persistentVolumeClaim": {"claimName": "team-data"}},
        {"projected": {"sources": [{"configMap": {"name": options}}, {"secret": {"name": broker}}]}},
    ]
    assert spec["envFrom"] == [{"secretRef": {"name": broker}}, {"configMapRef": {"name": options}}]
