"""deploy/kubernetes: built by kubectl, held to Kubernetes' own schemas and to what gateways need.

tests/data/kubernetes-1.31.json has those parts of the schemas published for Kubernetes 1.31 (the
strict ones: no property that they do not know) that the kinds used here need, undescribed.
"""

import copy
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from compiler.commands.patches import _part
from gateway.admin import PATHS
from gateway.config import VARIABLES
from gateway.slot import FINISH_SECONDS
from processes import free_port, redis_server_path, wait_until
from tools import DEPLOY, tool

KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("overlays/small", "overlays/large")
BUILDS = (*OVERLAYS, "patches")
SCHEMAS = json.loads((Path(__file__).parent / "data/kubernetes-1.31.json").read_text())
WORKER_MIB = 300  # the budget of a worker with 10,000 apps; 73 were measured
UNITS = {"Mi": 1, "Gi": 1024}

Object = dict[str, Any]


@cache
def _built(folder: str) -> str:
    command = [tool("kubectl", "Kubernetes' client"), "kustomize", str(KUBERNETES / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(folder: str) -> list[Object]:
    """Give the objects of an overlay as kubectl would send them."""
    return list(yaml.safe_load_all(_built(folder)))


def schema_of(thing: Object) -> str:
    """Give the name of the schema of an object's kind."""
    group, _, version = thing["apiVersion"].rpartition("/")
    wanted = {"group": group, "version": version, "kind": thing["kind"]}
    (name,) = (
        name
        for name, schema in SCHEMAS["$defs"].items()
        if wanted in schema.get("x-kubernetes-group-version-kind", ())
    )
    return str(name)


def faults(thing: Object) -> list[str]:
    """Tell what Kubernetes' schema finds wrong in an object."""
    validator = Draft7Validator({**SCHEMAS, "$ref": f"#/$defs/{schema_of(thing)}"})
    return [f"{list(each.path)}: {each.message[:200]}" for each in validator.iter_errors(thing)]


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    """Give the objects of one kind by name."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Give the templates of all pods, each with its owner's name."""
    for each in objects:
        if "template" in each.get("spec", {}):
            yield each["metadata"]["name"], each["spec"]["template"]


def containers(template: Object) -> Iterator[Object]:
    """Give a pod's containers, the first ones too."""
    yield from template["spec"].get("initContainers", ())
    yield from template["spec"]["containers"]


def mebibytes(text: str) -> int:
    """Read an amount of memory."""
    return int(text[:-2]) * UNITS[text[-2:]]


def gateway(objects: list[Object]) -> Object:
    """Give the gateway's container."""
    (found,) = of_kind(objects, "Deployment")["tidegate-gateway"]["spec"]["template"]["spec"][
        "containers"
    ]
    return dict(found)


def variables(container: Object) -> dict[str, str]:
    """Give a container's plain variables."""
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


@pytest.mark.parametrize("folder", BUILDS)
def test_kubernetes_knows_every_property(folder: str) -> None:
    """Each object keeps to the published schema; one with a misspelled property would not."""
    objects = build(folder)
    assert len(objects) >= 2
    for each in objects:
        assert faults(each) == [], each["metadata"]["name"]
        spoiled = copy.deepcopy(each)
        spoiled.setdefault("spec", {})["podSelektor"] = {}
        assert faults(spoiled), each["kind"]


def test_sources_keep_to_the_schema_without_kubectl() -> None:
    """Also where nothing can build overlays, each object of base and Job is held to its schema."""
    found = 0
    for path in KUBERNETES.rglob("*.yaml"):
        for each in yaml.safe_load_all(path.read_text()):
            if each["kind"] != "Kustomization":
                assert faults(each) == [], path
                found += 1
    assert found >= 15


@pytest.mark.parametrize("folder", BUILDS)
def test_pods_are_confined(folder: str) -> None:
    """No pod is root, writes its image, gains rights, or knows the cluster; all say their needs."""
    for name, template in pods(build(folder)):
        spec = template["spec"]
        assert spec["enableServiceLinks"] is False, name
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for each in containers(template):
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert {"cpu", "memory"} <= set(each["resources"]["requests"]), name
            assert "memory" in each["resources"]["limits"], name


@pytest.mark.parametrize("folder", BUILDS)
def test_names_lead_to_what_is_there(folder: str) -> None:
    """What pods refer to is built here, or is a secret that the guide tells how to make."""
    objects = build(folder)
    guide = (DEPLOY / "README.md").read_text()
    made = set(re.findall(r"create secret generic (\S+)", guide))
    keys = set(re.findall(r"--from-(?:file|literal)=([\w.-]+)=", guide))
    known = {variable.name for variable in VARIABLES} | {"TIDEGATE_KEY", "TIDEGATE_CONTROL_LISTEN"}
    for name, template in pods(objects):
        text = json.dumps(template)
        secrets = set(
            re.findall(r'"secret(?:Ref|KeyRef|)": \{[^}]*"(?:secretN|n)ame": "(\S+?)"', text)
        )
        assert secrets <= made, name
        assert set(re.findall(r'"secretKeyRef": \{"key": "(\S+?)"', text)) <= keys, name
        for each in containers(template):
            for source in each.get("envFrom", ()):
                if "configMapRef" in source:
                    data = of_kind(objects, "ConfigMap")[source["configMapRef"]["name"]]["data"]
                    assert set(data) <= known
            said = {each["name"] for each in each.get("env", ())}
            assert {each for each in said if each.startswith("TIDEGATE_")} <= known, name
        mounts = {m["name"] for each in containers(template) for m in each["volumeMounts"]}
        volumes = {each["name"] for each in template["spec"].get("volumes", ())}
        assert mounts - {"data"} == volumes, name


@pytest.mark.parametrize("folder", OVERLAYS)
def test_selectors_find_pods(folder: str) -> None:
    """Services, budgets, policies and spreads mean pods that exist; the autoscaler its target."""
    objects = build(folder)
    labels = [template["metadata"]["labels"] for _, template in pods(objects)]

    def finds(selector: Object) -> bool:
        wanted = selector.get("matchLabels", selector if "matchExpressions" not in selector else {})
        return any(wanted.items() <= found.items() for found in labels)

    for each in objects:
        spec = each.get("spec", {})
        if each["kind"] in ("Service", "PodDisruptionBudget"):
            assert finds(spec["selector"]), each["metadata"]["name"]
        if each["kind"] == "PodDisruptionBudget":  # or no node could ever be emptied
            assert str(spec["maxUnavailable"]).rstrip("%") != "0", each["metadata"]["name"]
        if each["kind"] == "NetworkPolicy":
            assert finds(spec["podSelector"]), each["metadata"]["name"]
    for _, template in pods(objects):
        for spread in template["spec"].get("topologySpreadConstraints", ()):
            assert finds(spread["labelSelector"])
    (scaler,) = of_kind(objects, "HorizontalPodAutoscaler").values()
    target = scaler["spec"]["scaleTargetRef"]
    assert target["name"] in of_kind(objects, target["kind"])
    assert "replicas" not in of_kind(objects, "Deployment")[target["name"]]["spec"]
    for name, service in of_kind(objects, "Service").items():
        ports = {
            port["name"]
            for _, template in pods(objects)
            for each in containers(template)
            for port in each.get("ports", ())
        }
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, name


@pytest.mark.parametrize("folder", OVERLAYS)
def test_a_gateway_has_time_and_room(folder: str) -> None:
    """Its grace outlasts drain and finish; workers have memory, and cores to be scaled by."""
    objects = build(folder)
    container = gateway(objects)
    said = variables(container)
    spec = of_kind(objects, "Deployment")["tidegate-gateway"]["spec"]["template"]["spec"]
    drain = int(said["TIDEGATE_DRAIN_SECONDS"])
    ready, start = container["readinessProbe"], container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 30
    assert spec["terminationGracePeriodSeconds"] > drain + 2 * FINISH_SECONDS
    assert drain > 2 * ready["periodSeconds"] * ready["failureThreshold"]
    workers = int(said["TIDEGATE_WORKERS"])
    limits = container["resources"]["limits"]
    assert "cpu" not in limits
    assert mebibytes(limits["memory"]) >= workers * WORKER_MIB
    probed = {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("liveness", "readiness")}
    assert probed == set(PATHS) - {"/metrics"}
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert said["TIDEGATE_LISTEN"].endswith(f":{ports['http']}")
    assert said["TIDEGATE_ADMIN_LISTEN"].endswith(f":{ports['admin']}")


def test_the_large_overlay_is_larger() -> None:
    """More workers a pod, more pods, and zones that must be alike."""
    small, large = (build(each) for each in OVERLAYS)
    assert int(variables(gateway(large))["TIDEGATE_WORKERS"]) > int(
        variables(gateway(small))["TIDEGATE_WORKERS"]
    )
    most = [
        next(iter(of_kind(each, "HorizontalPodAutoscaler").values()))["spec"]["maxReplicas"]
        for each in (small, large)
    ]
    assert most[0] < most[1]
    spec = of_kind(large, "Deployment")["tidegate-gateway"]["spec"]["template"]["spec"]
    zone = spec["topologySpreadConstraints"][0]
    assert (zone["topologyKey"], zone["whenUnsatisfiable"]) == (
        "topology.kubernetes.io/zone",
        "DoNotSchedule",
    )


def test_all_parts_of_the_patches_are_made() -> None:
    """The job's indices are all of N parts, each once."""
    (job,) = of_kind(build("patches"), "Job").values()
    assert job["spec"]["completionMode"] == "Indexed"
    count = job["spec"]["completions"]
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    template = arguments[arguments.index("--part") + 1]
    parts = [
        _part(template.replace("$(JOB_COMPLETION_INDEX)", str(index))) for index in range(count)
    ]
    assert sorted(part for part, _ in parts) == list(range(count))  # part N of N is part 0
    assert {of for _, of in parts} == {count}


def test_the_small_redis_keeps_and_evicts_nothing(tmp_path: Path) -> None:
    """A Redis started with the pod's own arguments appends to a file and evicts no key."""
    import redis

    (pod,) = (
        each
        for each in yaml.safe_load_all((KUBERNETES / "overlays/small/redis.yaml").read_text())
        if each["kind"] == "StatefulSet"
    )
    arguments = pod["spec"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[:2] == ["--dir", "/data"]
    port = free_port()
    own = ["--dir", str(tmp_path), "--port", str(port), "--bind", "127.0.0.1"]
    with (tmp_path / "redis.log").open("wb") as output:
        process = subprocess.Popen(
            [redis_server_path(), *own, *arguments[2:]], stdout=output, stderr=output
        )
    client = redis.Redis(port=port)

    def setting(name: str) -> str:
        return str(client.config_get(name)[name])

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False

    try:
        wait_until(answers, "Redis answers")
        assert setting("maxmemory-policy") == "noeviction"
        assert setting("appendonly") == "yes"
        assert setting("save") == ""
    finally:
        client.close()
        process.kill()
        process.wait()
