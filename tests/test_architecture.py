"""Imports point one way; the core does no I/O and reads no clock. Read from the source itself."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The data format and what gives it meaning: pure, and all that the compiler may know of a gateway.
FORMAT = {
    "gateway.answer",
    "gateway.attribute",
    "gateway.blob_file",
    "gateway.bucket_layout",
    "gateway.cdn",
    "gateway.check",
    "gateway.errors",
    "gateway.hashing",
    "gateway.keys",
    "gateway.layout",
    "gateway.membership",
    "gateway.program",
    "gateway.redis_url",
    "gateway.remembered",
    "gateway.request",
    "gateway.rights",
    "gateway.seating",
    "gateway.signing",
    "gateway.apps",
    "gateway.snapshot",
    "gateway.switches",
    "gateway.verify",
    "gateway.version",
}
# Redis by URL, and the store by URL, are I/O, but the same for both sides.
SHARED = FORMAT | {"gateway.link", "gateway.store_place", "gateway"}
PURE = FORMAT | {"compiler.plan", "compiler.reference", "compiler.lowering", "compiler.image"}
PURE |= {"gateway.ofrep", "compiler.switches", "compiler.splits", "compiler.switch_reference"}
PURE |= {"compiler.overrides"}
PURE |= {"loadtest.expectation", "loadtest.referee", "loadtest.rules"}
IMPURE = {
    "aiohttp",
    "asyncio",
    "datetime",
    "logging",
    "obstore",
    "os",
    "pathlib",
    "random",
    "redis",
    "secrets",
    "shutil",
    "socket",
    "structlog",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib.request",
    "uvloop",
}


def module_name(path: Path) -> str:
    """Name a file as Python imports it."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Give every module that a file imports, wherever in it; `from x import y` may name x.y."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


FILES = [
    path for top in ("gateway", "compiler", "loadtest") for path in ROOT.glob(f"{top}/**/*.py")
]
MODULES = {module_name(path) for path in FILES}
EDGES = {module_name(path): set(imports(path)) for path in FILES}


def test_the_gateway_knows_no_compiler() -> None:
    """A gateway is installed without the compiler, and never imports it."""
    for name, found in EDGES.items():
        if name.split(".")[0] == "gateway":
            wrong = {each for each in found if each.split(".")[0] in ("compiler", "loadtest")}
            assert not wrong, f"{name} imports {wrong}"


def test_the_compiler_knows_only_the_format() -> None:
    """The compiler imports the gateway's data format and its meaning, not its shell."""
    for name, found in EDGES.items():
        if name.split(".")[0] == "compiler":
            wrong = {each for each in found if each.split(".")[0] == "gateway"} - SHARED
            assert not wrong, f"{name} imports {wrong}"


def test_the_client_knows_only_the_wire() -> None:
    """The reference client proves the contract from outside: it imports nothing of ours."""
    client = [name for name in EDGES if name.startswith("loadtest.client")]
    assert "loadtest.client.update" in client
    for name in client:
        tops = {found.split(".")[0] for found in EDGES[name]} & {"gateway", "compiler"}
        inner = {found for found in EDGES[name] if found.startswith("loadtest")} - set(client)
        assert not tops | inner, f"{name} imports {tops | inner}"


@pytest.mark.parametrize("name", sorted(PURE))
def test_the_core_is_pure(name: str) -> None:
    """No I/O, no clock, no chance in the core, and none in what it imports of ours."""
    assert name in EDGES, f"{name} is gone: take it off the list"
    seen, waiting = set(), [name]
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        wrong = {found for found in EDGES[each] if found in IMPURE or found.split(".")[0] in IMPURE}
        if each.startswith("gateway") or each == name:
            assert not wrong, f"{name} reaches {wrong} through {each}"
            waiting += EDGES[each] & MODULES - {"gateway", "compiler"}


def test_imports_form_no_circle() -> None:
    """Every module can be understood before those that import it."""
    try:
        order = list(
            TopologicalSorter(
                {name: found & MODULES - {name} for name, found in EDGES.items()}
            ).static_order()
        )
    except CycleError as circle:
        pytest.fail(f"a circle of imports: {' -> '.join(circle.args[1])}")
    assert len(order) == len(EDGES)


def test_rooms_form_no_circle() -> None:
    """The compiler's folders stand on each other in one direction, too."""
    rooms: dict[str, set[str]] = {}
    for name, found in EDGES.items():
        if name.startswith("compiler."):
            inside = rooms.setdefault(_room(name), set())
            inside |= {_room(each) for each in found if each.startswith("compiler.")}
    order = TopologicalSorter({room: found - {room} for room, found in rooms.items()})
    assert "compiler.publication" in set(order.static_order())


def _room(name: str) -> str:
    return ".".join(name.split(".")[:2])


def test_redis_is_reached_through_few_doors() -> None:
    """Only the modules named here speak to Redis by its client library."""
    doors = {
        name for name, found in EDGES.items() if any(f.split(".")[0] == "redis" for f in found)
    }
    assert {"gateway.link"} <= doors
    assert len(doors) <= 8, sorted(doors)


def test_this_test_sees_imports() -> None:
    """The walk finds imports that are known to be there, also inside functions."""
    assert "gateway.hashing" in EDGES["gateway.snapshot"]
    assert "re2" in EDGES["gateway.program"]
    assert "gateway.layout" in EDGES["compiler.lowering"]
