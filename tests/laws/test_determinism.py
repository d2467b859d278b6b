"""Law 2: the same plan gives the same blobs, whatever the order of files and of rows."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import plans
from compiler.image import Image, build_image
from compiler.language.reading import read_files
from compiler.lists.allowlist import read_ids
from compiler.plan import ListSource, Plan


def _image(written: Plan, ids: dict[str, list[str]], random: Random, folder: Path) -> Image:
    """Write a plan and its lists in a random order of everything; read and compile them."""
    files = list(plans.to_files(written, random).items())
    random.shuffle(files)
    reading = read_files(dict(files), now=plans.NOW)
    assert reading.plan is not None, reading.diagnostics
    lists = []
    for source in random.sample(reading.plan.lists, len(reading.plan.lists)):
        if source.regex:
            continue
        rows = [*ids[source.name], random.choice(ids[source.name])]
        (folder / "ids.txt").write_text("\n".join(random.sample(rows, len(rows))))
        moved = ListSource(source.name, source.of, file="ids.txt")
        lists.append(read_ids(moved, folder, reading.plan.workspace.placeholders))
    return build_image(reading.plan, lists)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=plans.plans(), one=st.integers(0, 2**32), other=st.integers(0, 2**32))
def test_order_changes_no_tables(drawn: Any, one: int, other: int, tmp_path_factory: Any) -> None:
    """Settings, programs, sets, shards and packs are equal, byte for byte."""
    folder = tmp_path_factory.mktemp("lists")
    first = _image(*drawn, Random(one), folder)
    second = _image(*drawn, Random(other), folder)
    for part in ("format", "settings", "programs", "membership"):
        assert first.contents[part] == second.contents[part], part  # type: ignore[literal-required]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=plans.plans(), seed=st.integers(0, 2**32))
def test_the_same_files_give_the_same_image(drawn: Any, seed: int, tmp_path_factory: Any) -> None:
    """The same texts give the same root, which names every blob: so they are all equal."""
    folder = tmp_path_factory.mktemp("lists")
    first = _image(*drawn, Random(seed), folder)
    second = _image(*drawn, Random(seed), folder)
    assert first.root == second.root
    assert first.blobs == second.blobs


_CHANGES: list[Callable[[dict[str, Any]], None]] = [
    lambda app: app["releases"][0].update(package=app["packages"][0]["version"], upgrade="force"),
    lambda app: app["releases"][0].update(audience={"percent": 77.77}),
    lambda app: app["packages"][0].update(install="preload", download="wifi", info=12345),
]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=plans.plans(), change=st.sampled_from(_CHANGES))
def test_a_change_of_one_app_changes_one_program(drawn: Any, change: Any) -> None:
    """What is not touched keeps its blob, so that a push writes the changed app only."""
    written, _ = drawn
    files = plans.to_files(written, Random(0))
    before = read_files(files, now=plans.NOW).plan
    app = json.loads(files["apps/a1.yaml"])
    change(app)
    after = read_files({**files, "apps/a1.yaml": json.dumps(app)}, now=plans.NOW).plan
    assert before is not None
    assert after is not None
    first, second = build_image(before, []), build_image(after, [])
    assert first.contents["programs"]["b.2"] == second.contents["programs"]["b.2"]
    assert first.contents["settings"] == second.contents["settings"]
