"""How the node's network namespace is tied to the machine, and how that is undone.

    machine                        node (own network namespace)
    attune-xxxxxx 10.N.255.1 ───── eth0 10.N.255.2 ── cni0 10.N.0.1 ── pods 10.N.0.0/24

The bridge, the pods' interfaces and every rule that kube-proxy writes are inside and end with the namespace. The machine
has one virtual link (it ends with the namespace too) with routes to pods and Services, two FORWARD rules and one
masquerading rule that carry the cluster's mark as a comment, and forwarding switched on for the interface to the world.
N is the first of a few numbers that no route of the machine uses, so clusters of several checkouts get along.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .commands import capture, succeeds
from .console import ClusterError

CANDIDATES = (244, 234, 224, 214, 204, 194, 184, 174)


@dataclass(frozen=True, kw_only=True)
class Network:
    """The addresses of one cluster: everything is inside 10.`number`.0.0/16."""

    number: int

    @property
    def whole(self) -> str:
        return f"10.{self.number}.0.0/16"

    @property
    def pods(self) -> str:
        return f"10.{self.number}.0.0/24"

    @property
    def gateway(self) -> str:
        """The bridge's address, where CoreDNS listens."""
        return f"10.{self.number}.0.1"

    @property
    def bridge_mac(self) -> str:
        """A bridge takes its lowest port's address unless one is set, and stalls connections when pods come and go."""
        return f"02:61:74:74:{self.number:02x}:01"

    @property
    def services(self) -> str:
        return f"10.{self.number}.64.0/18"

    @property
    def api_service(self) -> str:
        """The address of the Service `kubernetes`: the first of the range."""
        return f"10.{self.number}.64.1"

    @property
    def machine(self) -> str:
        """The machine's end of the link; a server on the machine is reached there from pods."""
        return f"10.{self.number}.255.1"

    @property
    def node(self) -> str:
        """The node's end of the link, where the API server and NodePorts are."""
        return f"10.{self.number}.255.2"


def choose(used: Iterable[str]) -> Network:
    """The first network that overlaps none of `used` (CIDRs or addresses)."""
    taken = [ipaddress.ip_network(entry, strict=False) for entry in used]
    for number in CANDIDATES:
        network = Network(number=number)
        if not any(ipaddress.ip_network(network.whole).overlaps(other) for other in taken if other.version == 4):
            return network
    listed = ", ".join(f"10.{number}.0.0/16" for number in CANDIDATES)
    raise ClusterError(f"Each of {listed} overlaps a route of this machine: no addresses are left for pods.")


def used_networks() -> list[str]:
    """What the machine has routes to, and the addresses of its name servers."""
    routes = json.loads(capture(["ip", "-j", "-4", "route", "show", "table", "all"]) or "[]")
    return [route["dst"] for route in routes if route["dst"] != "default"] + name_servers()


def name_servers(
    files: Iterable[Path] = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf")),
) -> list[str]:
    """The machine's name servers that can be asked from another network namespace (so not those on loopback)."""
    for file in files:
        try:
            text = file.read_text()
        except OSError:
            continue
        found = re.findall(r"^\s*nameserver\s+(\S+)", text, re.MULTILINE)
        outside = [server for server in found if ":" not in server and not server.startswith("127.")]
        if outside:
            return outside[:3]
    return []


def link_name(identity: str) -> str:
    """The machine's end of the link."""
    return f"attune-{identity}"


def rules(network: Network, identity: str) -> list[tuple[str, list[str]]]:
    """The machine's firewall rules: (table, chain and rule), each with the cluster's mark as its comment."""
    name = link_name(identity)
    comment = ["-m", "comment", "--comment", name]
    return [
        ("filter", ["FORWARD", "-i", name, *comment, "-j", "ACCEPT"]),
        ("filter", ["FORWARD", "-o", name, *comment, "-j", "ACCEPT"]),
        ("nat", ["POSTROUTING", "-s", network.node, "!", "-o", name, *comment, "-j", "MASQUERADE"]),
    ]


def _default_device() -> str | None:
    routes = json.loads(capture(["ip", "-j", "-4", "route", "show", "default"]) or "[]")
    return routes[0].get("dev") if routes else None


def _forwarding(device: str) -> Path:
    return Path(f"/proc/sys/net/ipv4/conf/{device}/forwarding")


def connect(network: Network, identity: str, *, namespace_of: int, mtu: int, record: Path) -> None:
    """Make the link between the machine and the namespace of process `namespace_of`; what is changed is recorded first."""
    name = link_name(identity)
    device = _default_device()
    before: dict[str, str] = {}
    if device is not None:
        before[device] = _forwarding(device).read_text().strip()
    record.write_text(json.dumps({"forwarding": before}))
    ours = ["ip", "link", "add", name, "mtu", str(mtu), "type", "veth"]
    theirs = ["peer", "name", "eth0", "mtu", str(mtu), "netns", str(namespace_of)]
    capture([*ours, *theirs])
    capture(["ip", "address", "add", f"{network.machine}/30", "dev", name])
    capture(["ip", "link", "set", name, "up"])
    for destination in (network.pods, network.services):
        capture(["ip", "route", "add", destination, "via", network.node, "dev", name])
    _forwarding(name).write_text("1")
    if device is not None:
        _forwarding(device).write_text("1")
    for table, rule in rules(network, identity):
        position = [rule[0], "1"] if rule[0] == "FORWARD" else [rule[0]]
        capture(["iptables", "-w", "-t", table, "-I" if len(position) == 2 else "-A", *position, *rule[1:]])


def disconnect(identity: str, *, record: Path) -> None:
    """Remove link, routes and rules, and put forwarding back; any of it may be gone already."""
    name = link_name(identity)
    if succeeds(["ip", "link", "show", name]):
        succeeds(["ip", "link", "delete", name])
    for table in ("filter", "nat"):
        for rule in marked_rules(capture(["iptables", "-w", "-t", table, "-S"]), name):
            capture(["iptables", "-w", "-t", table, "-D", *rule])
    try:
        before: dict[str, str] = json.loads(record.read_text())["forwarding"]
    except (OSError, ValueError, KeyError):
        before = {}
    if Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "0":  # else somebody else needs it by now
        for device, value in before.items():
            if _forwarding(device).exists():
                _forwarding(device).write_text(value)
    record.unlink(missing_ok=True)


def marked_rules(listing: str, comment: str) -> list[list[str]]:
    """Of a table's rules as `iptables -S` lists them, those with exactly this comment, ready to be deleted."""
    found = []
    for line in listing.splitlines():
        words = shlex.split(line)
        if words[:1] == ["-A"] and any(pair == ("--comment", comment) for pair in itertools.pairwise(words)):
            found.append(words[1:])
    return found


def mtu() -> int:
    """The largest packet of the way out of this machine; the pods' network must not exceed it."""
    device = _default_device()
    if device is None:
        return 1500
    return int(json.loads(capture(["ip", "-j", "link", "show", device]))[0]["mtu"])
