"""The network policies of deploy/kubernetes: what pods need is let through, and nothing else."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import yaml

from tools import DEPLOY

FILES = ("base/network.yaml", "overlays/small/redis.yaml")
POLICIES: list[dict[str, Any]] = [
    each["spec"]
    for name in FILES
    for each in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text())
    if each["kind"] == "NetworkPolicy"
]
ZONE = "kubernetes.io/metadata.name"
PART = "app.kubernetes.io/component"
Peer = dict[str, str]
"""The far end: `address`, or `namespace`, with `component` for a pod of ours."""


def _selected(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {})
    among = selector.get("matchExpressions", ())
    assert all(each["operator"] == "In" for each in among)
    return wanted.items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in among
    )


def _is(told: dict[str, Any], peer: Peer) -> bool:
    if "ipBlock" in told:
        network = ip_network(told["ipBlock"]["cidr"])
        return "address" in peer and ip_address(peer["address"]) in network
    if "namespaceSelector" in told:
        return _selected(told["namespaceSelector"], {ZONE: peer.get("namespace", "")})
    ours = peer.get("namespace") == "tidegate"
    return ours and _selected(told["podSelector"], {PART: peer.get("component", "")})


def allowed(pod: str, way: str, peer: Peer, port: int, protocol: str = "TCP") -> bool:
    """Judge as Kubernetes does: some policy of this way about the pod must let it through."""
    about = [
        each
        for each in POLICIES
        if way in each["policyTypes"] and _selected(each["podSelector"], {PART: pod})
    ]
    assert about, "a pod that no policy is about may do everything"
    side = {"Ingress": "from", "Egress": "to"}[way]
    return any(
        (side not in rule or any(_is(told, peer) for told in rule[side]))
        and any(
            (each["port"], each.get("protocol", "TCP")) == (port, protocol)
            for each in rule["ports"]
        )
        for each in about
        for rule in each.get(way.lower(), ())
    )


def address(text: str) -> Peer:
    """Name a machine outside the cluster, or a node's own service."""
    return {"address": text}


NAMES, ELSEWHERE = {"namespace": "kube-system"}, address("198.51.100.7")
REDIS = {"namespace": "tidegate", "component": "redis"}
ROLES = [("169.254.169.254", 80), ("169.254.170.23", 80), ("169.254.169.252", 988)]


@pytest.mark.parametrize("pod", ["gateway", "control", "patch"])
def test_pods_reach_what_they_need(pod: str) -> None:
    """Names, Redis by any URL, the bucket, and where a role's rights are; and no other port."""
    for protocol in ("UDP", "TCP"):
        assert allowed(pod, "Egress", NAMES, 53, protocol)
        assert allowed(pod, "Egress", address("169.254.20.10"), 53, protocol)
        assert not allowed(pod, "Egress", ELSEWHERE, 53, protocol)
    for port in (6379, 6380, 26379, 443):
        assert allowed(pod, "Egress", ELSEWHERE, port)
    assert allowed(pod, "Egress", REDIS, 6379)
    assert allowed("redis", "Ingress", {"namespace": "tidegate", "component": pod}, 6379)
    for place, port in ROLES:
        assert allowed(pod, "Egress", address(place), port)
        assert not allowed(pod, "Egress", ELSEWHERE, port)
    assert not allowed(pod, "Egress", ELSEWHERE, 22)


def test_pods_are_reached_by_whom_they_serve() -> None:
    """Clients reach a gateway, Prometheus the metrics, and nobody else either."""
    monitoring = {"namespace": "monitoring"}
    assert allowed("gateway", "Ingress", ELSEWHERE, 8080)
    for pod, port in (("gateway", 9080), ("control", 9081)):
        assert allowed(pod, "Ingress", monitoring, port)
        assert not allowed(pod, "Ingress", ELSEWHERE, port)
    for stranger in (monitoring, ELSEWHERE, {"namespace": "tidegate", "component": "else"}):
        assert not allowed("redis", "Ingress", stranger, 6379)
    assert not allowed("redis", "Egress", ELSEWHERE, 443)
    assert not allowed("patch", "Ingress", ELSEWHERE, 8080)
