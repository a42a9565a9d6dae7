"""What the local node is given: addresses, configuration, volumes."""

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest

from attune_cluster import cgroups, components, network, storage
from attune_cluster.console import ClusterError
from attune_cluster.layout import Layout
from attune_cluster.network import Network
from attune_cluster.settings import Settings
from attune_cluster.tools import NAMES

LAYOUT = Layout(settings=Settings(repository=Path("/repo"), cache=Path("/cache")), network=Network(number=244))
TOOLS = {name: Path("/cache", name) for name in NAMES}


def parts() -> dict[str, components.Component]:
    return {part.name: part for part in components.components(LAYOUT, TOOLS, environment={})}


def test_the_first_network_that_nobody_uses_is_taken() -> None:
    assert network.choose([]).number == 244
    assert network.choose(["10.244.3.0/24", "192.168.0.0/16"]).number == 234
    assert network.choose(["10.244.0.1", "fe80::/10"]).number == 234


def test_no_free_network_is_said_clearly() -> None:
    with pytest.raises(ClusterError, match=r"10\.244\.0\.0/16.*overlaps a route"):
        network.choose(["10.0.0.0/8"])


def test_pods_services_and_the_link_do_not_overlap() -> None:
    plan = Network(number=244)
    cidrs = (plan.pods, plan.services, f"{plan.machine}/30")
    ranges = [ipaddress.ip_network(cidr, strict=False) for cidr in cidrs]
    assert not any(a.overlaps(b) for a in ranges for b in ranges if a is not b)
    assert ipaddress.ip_address(plan.node) in ranges[2]
    assert ipaddress.ip_address(plan.gateway) in ranges[0]
    assert ipaddress.ip_address(plan.api_service) in ranges[1]
    assert int(plan.bridge_mac[:2], 16) & 3 == 2, "locally administered, and for one station"


def test_name_servers_on_loopback_are_no_use_to_the_node(tmp_path: Path) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("nameserver 127.0.0.53\noptions edns0\n")
    real.write_text("# x\nnameserver 192.0.2.1\nnameserver fe80::1\n nameserver 192.0.2.2\n")
    assert network.name_servers([tmp_path / "absent", stub, real]) == ["192.0.2.1", "192.0.2.2"]
    assert network.name_servers([stub]) == []


def test_only_rules_with_exactly_our_comment_are_ours() -> None:
    listing = (
        "-P FORWARD DROP\n"
        "-A FORWARD -i attune-abc123 -m comment --comment attune-abc123 -j ACCEPT\n"
        "-A FORWARD -i attune-abc124 -m comment --comment attune-abc124 -j ACCEPT\n"
        '-A FORWARD -m comment --comment "not attune-abc123" -j DROP\n'
        "-A FORWARD -i attune-abc123 -j ACCEPT\n"
    )
    rule = ["FORWARD", "-i", "attune-abc123", "-m", "comment", "--comment", "attune-abc123", "-j", "ACCEPT"]
    assert network.marked_rules(listing, "attune-abc123") == [rule]


def test_the_link_s_name_fits_the_kernel_s_limit() -> None:
    assert len(network.link_name(LAYOUT.settings.identity)) <= 15


def test_two_checkouts_have_different_marks() -> None:
    other = Settings(repository=Path("/elsewhere"), cache=Path("/cache"))
    assert other.mark != LAYOUT.settings.mark


def test_components_start_after_what_they_need() -> None:
    assert parts()["kube-apiserver"].needs == ["127.0.0.1:2379"]
    assert parts()["kubelet"].needs == ["10.244.255.2:6443", "/run/containerd/containerd.sock"]
    assert parts()["kube-controller-manager"].needs == ["https://10.244.255.2:6443/readyz"]


def test_the_api_server_authorises_and_reaches_kubelet_by_address() -> None:
    arguments = parts()["kube-apiserver"].argv
    assert "--authorization-mode=Node,RBAC" in arguments
    assert "--kubelet-preferred-address-types=InternalIP" in arguments
    assert "--client-cert-auth" in parts()["etcd"].argv, "a pod in the host network must not reach etcd"


def test_kubelet_refreshes_secrets_within_seconds_and_keeps_images() -> None:
    config: dict[str, Any] = json.loads(components.kubelet_config(LAYOUT))
    assert config["syncFrequency"] == "5s"
    assert config["imageGCHighThresholdPercent"] == 100
    assert config["failCgroupV1"] is False
    assert config["clusterDNS"] == ["10.244.0.1"]
    assert config["cgroupRoot"] == f"/{LAYOUT.settings.mark}"
    assert config["authentication"]["anonymous"] == {"enabled": False}


@pytest.mark.parametrize("bridge_filter", [True, False])
def test_services_work_without_the_kernel_s_bridge_filter(bridge_filter: bool) -> None:
    config = json.loads(components.kube_proxy_config(LAYOUT, bridge_filter=bridge_filter))
    assert config["iptables"]["masqueradeAll"] is not bridge_filter
    assert config["conntrack"]["maxPerCore"] == 0, "not writable in the node's network namespace"


def test_containerd_shares_nothing_with_the_machine_s() -> None:
    config = components.containerd_config(LAYOUT, cni=Path("/usr/lib/cni"), snapshotter="native")
    assert 'root = "/repo/.cluster/node/containerd"' in config
    assert "restrict_oom_score_adj = true" in config
    assert f'sandbox_image = "{components.PAUSE_IMAGE}"' in config
    assert 'snapshotter = "native"' in config


def test_outer_names_are_forwarded_only_where_somebody_can_be_asked() -> None:
    assert "forward . 192.0.2.1 192.0.2.2\n" in components.corefile(LAYOUT, upstream=["192.0.2.1", "192.0.2.2"])
    assert "forward" not in components.corefile(LAYOUT, upstream=[])


def test_control_groups_are_found_in_both_versions() -> None:
    text = (
        "22 1 0:20 / / rw - ext4 /dev/vda rw\n"
        "30 22 0:26 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
        "31 22 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
    )
    assert cgroups.hierarchies(text) == [
        (Path("/sys/fs/cgroup/memory"), False),
        (Path("/sys/fs/cgroup/unified"), True),
    ]


def claim(**spec: object) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "data",
            "namespace": "default",
            "uid": "u-1",
            "annotations": {"volume.kubernetes.io/selected-node": "attune"},
        },
        "spec": {
            "storageClassName": "standard",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            **spec,
        },
    }


def test_a_claim_gets_a_volume_once_its_pod_is_scheduled() -> None:
    assert storage.wanted(claim())
    assert not storage.wanted(claim(volumeName="pvc-u-1"))
    assert not storage.wanted(claim(storageClassName="other"))
    waiting = claim()
    waiting["metadata"]["annotations"] = {}
    assert not storage.wanted(waiting)


def test_a_volume_is_bound_to_its_claim_and_removed_after_it() -> None:
    made = storage.volume(claim(), folder=Path("/v/pvc-u-1"))
    assert made["metadata"]["name"] == "pvc-u-1"
    assert made["spec"]["claimRef"]["uid"] == "u-1"
    assert made["spec"]["local"] == {"path": "/v/pvc-u-1"}, "kubelet applies fsGroup to local volumes, not to hostPath"
    assert not storage.finished(made | {"status": {"phase": "Bound"}})
    assert storage.finished(made | {"status": {"phase": "Released"}})
    made["metadata"]["annotations"] = {}
    assert not storage.finished(made | {"status": {"phase": "Released"}}), "somebody else's"
