"""What runs on the node and with which arguments and configuration: pure functions from the layout to text.

The settings are those that were tried on machines with little in them (cgroup v1, no systemd, few capabilities); where a
setting is there because something failed without it, it says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .layout import CONTAINERD_SOCKET, NODE, Layout

PAUSE_IMAGE = "localhost/attune-pause:1"
DOMAIN = "cluster.local"


@dataclass(frozen=True, kw_only=True)
class Component:
    """One program the supervisor keeps running.

    `needs` must answer first: addresses (`host:port`), paths of sockets, `https` URLs.
    """

    name: str
    argv: list[str]
    needs: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)


def containerd_config(layout: Layout, *, cni: Path, snapshotter: str) -> str:
    """containerd, with everything of its own: it shares nothing with one that the machine may run."""
    return f"""version = 2
root = "{layout.folder / "containerd"}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/run/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE runc can't lower the score and dies: "can't get final child's PID from pipe".
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "{layout.config / "cni"}"
"""


def cni_config(layout: Layout, *, mtu: int) -> str:
    """Pods on one bridge. The supervisor makes the bridge first, so that its address can be pinned."""
    address_management = {
        "type": "host-local",
        "ranges": [[{"subnet": layout.network.pods, "gateway": layout.network.gateway}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": "/run/cni",
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "mtu": mtu}
    plugins = [bridge | {"ipam": address_management}, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return json.dumps({"cniVersion": "0.4.0", "name": "attune", "plugins": plugins}, indent=2)


def kubelet_config(layout: Layout) -> str:
    """kubelet: changed Secrets reach pods within seconds, images are never deleted, and a full disk evicts no pod early."""
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": layout.cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [layout.network.gateway],
        "clusterDomain": DOMAIN,
        "resolvConf": str(layout.config / "resolv.conf"),
        "syncFrequency": "5s",
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        # 100 switches image collection off: images are loaded by hand here and could not be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "podLogsDir": str(layout.settings.logs / "pods"),
        "volumePluginDir": "/var/lib/kubelet/plugins-exec",
        "healthzBindAddress": "127.0.0.1",
        "readOnlyPort": 0,
        "registryPullQPS": 0,
        "logging": {"verbosity": 1},
    }
    return json.dumps(config, indent=2)


def kube_proxy_config(layout: Layout, *, bridge_filter: bool) -> str:
    """kube-proxy over iptables.

    Without the kernel's bridge filter, answers between two pods on the bridge bypass the rules that would translate
    them back, so then every connection to a Service is masqueraded.
    """
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(layout.config / "kube-proxy.kubeconfig")},
        "clusterCIDR": layout.network.pods,
        "hostnameOverride": NODE,
        "mode": "iptables",
        "iptables": {"minSyncPeriod": "0s", "masqueradeAll": not bridge_filter},
        # These sysctls can't be written in a network namespace that isn't the machine's.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    }
    return json.dumps(config, indent=2)


def corefile(layout: Layout, *, upstream: list[str]) -> str:
    """Names of Services from Kubernetes; all others from the machine's name servers, where there are any to ask."""
    forward = f"    forward . {' '.join(upstream)}\n" if upstream else ""
    return f""".:53 {{
    bind {layout.network.gateway}
    errors
    ready {layout.network.gateway}:8181
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig "{layout.config / "coredns.kubeconfig"}"
        pods insecure
        ttl 5
        fallthrough in-addr.arpa
    }}
{forward}    cache 5
    loadbalance
}}
"""


def components(layout: Layout, tools: Mapping[str, Path], *, environment: Mapping[str, str]) -> list[Component]:
    """Everything the node runs, in the order of starting. `environment` are the machine's proxy and certificate settings."""
    pki, config, network = layout.pki, layout.config, layout.network
    etcd, api = "127.0.0.1:2379", f"{network.node}:6443"

    def leaderless(name: str, *arguments: str) -> Component:
        kubeconfig = str(config / f"{name}.kubeconfig")
        return Component(
            name=name,
            argv=[
                str(tools[name]),
                f"--kubeconfig={kubeconfig}",
                f"--authentication-kubeconfig={kubeconfig}",
                f"--authorization-kubeconfig={kubeconfig}",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                *arguments,
            ],
            needs=[f"{layout.server}/readyz"],  # before that it may not read what it needs, and ends
        )

    return [
        Component(
            name="containerd",
            argv=["containerd", "--config", str(config / "containerd.toml")],
            env=dict(environment),
        ),
        Component(
            name="etcd",
            argv=[
                str(tools["etcd"]),
                f"--data-dir={layout.folder / 'etcd'}",
                "--unsafe-no-fsync",  # a development cluster: a power cut may cost it, a killed process may not
                f"--listen-client-urls=https://{etcd}",
                f"--advertise-client-urls=https://{etcd}",
                "--listen-peer-urls=http://127.0.0.1:2380",
                f"--cert-file={pki / 'etcd.crt'}",
                f"--key-file={pki / 'etcd.key'}",
                f"--trusted-ca-file={pki / 'etcd-ca.crt'}",
                "--client-cert-auth",
                "--auto-compaction-retention=30m",
                "--log-level=warn",
            ],
        ),
        Component(
            name="kube-apiserver",
            argv=[
                str(tools["kube-apiserver"]),
                f"--etcd-servers=https://{etcd}",
                f"--etcd-cafile={pki / 'etcd-ca.crt'}",
                f"--etcd-certfile={pki / 'etcd-client.crt'}",
                f"--etcd-keyfile={pki / 'etcd-client.key'}",
                f"--advertise-address={network.node}",
                "--secure-port=6443",
                f"--tls-cert-file={pki / 'apiserver.crt'}",
                f"--tls-private-key-file={pki / 'apiserver.key'}",
                f"--client-ca-file={pki / 'ca.crt'}",
                f"--service-cluster-ip-range={network.services}",
                "--service-account-issuer=https://kubernetes.default.svc." + DOMAIN,
                f"--service-account-key-file={pki / 'service-accounts.key'}",
                f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                f"--kubelet-client-certificate={pki / 'apiserver-kubelet.crt'}",
                f"--kubelet-client-key={pki / 'apiserver-kubelet.key'}",
                f"--kubelet-certificate-authority={pki / 'ca.crt'}",
                "--kubelet-preferred-address-types=InternalIP",  # else it looks the node's name up
                f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
                "--requestheader-allowed-names=front-proxy",
                "--requestheader-username-headers=X-Remote-User",
                "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-extra-headers-prefix=X-Remote-Extra-",
                f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
                f"--proxy-client-key-file={pki / 'front-proxy.key'}",
                "--allow-privileged=true",
                "--v=1",
            ],
            needs=[etcd],
        ),
        leaderless(
            "kube-controller-manager",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--cluster-signing-cert-file={pki / 'ca.crt'}",
            f"--cluster-signing-key-file={pki / 'ca.key'}",
            f"--service-account-private-key-file={pki / 'service-accounts.key'}",
            "--use-service-account-credentials=true",
        ),
        leaderless("kube-scheduler"),
        Component(
            name="kubelet",
            argv=[
                str(tools["kubelet"]),
                f"--config={config / 'kubelet.json'}",
                f"--kubeconfig={config / 'kubelet.kubeconfig'}",
                f"--node-ip={network.node}",
                f"--hostname-override={NODE}",
            ],
            needs=[api, str(CONTAINERD_SOCKET)],
        ),
        Component(
            name="kube-proxy",
            argv=[str(tools["kube-proxy"]), f"--config={config / 'kube-proxy.json'}"],
            needs=[api],
        ),
        Component(name="coredns", argv=[str(tools["coredns"]), "-conf", str(config / "Corefile")], needs=[api]),
        Component(
            name="provisioner",
            argv=[sys.executable, "-m", "attune_cluster.provisioner", str(config / "provisioner.json")],
            needs=[api],
        ),
    ]
