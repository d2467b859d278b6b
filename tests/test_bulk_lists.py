"""Lists by the million, from files to Redis: bounded memory, and only what changed is written."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compiler.compilation import compile_folder
from compiler.publication.epoch import Publication, bucket_digests, read_publication, stored_digests
from compiler.publication.publisher import Published
from gateway.keys import Keys
from loadtest.lists import ADDED, SOURCES, WORKSPACE, add, main, members, write_ids, write_plan
from processes import ROOT
from publishing import Workshop

IDS = 2_000_000 if "TIDEGATE_SOAK" in os.environ else 100_000
LISTS = 20


def written(plan: Path, store: Path, source: str, ids: int = IDS, lists: int = LISTS) -> None:
    """Write a plan and its lists."""
    write_plan(plan, source, lists)
    for name, texts in members(ids, lists):
        write_ids(plan, store, source, name, texts)


def push(workshop: Workshop, plan: Path) -> tuple[Published, Publication]:
    """Compile and push a plan; give what was written, and the epoch."""
    image, _ = compile_folder(plan, workshop.store, workshop.now)
    told = workshop.push(image, workspace=WORKSPACE)
    return told, read_publication(told.digest, workshop.store.get_blob)


@pytest.mark.parametrize("source", SOURCES)
def test_ids_added_write_their_buckets_only(
    workshop: Workshop, tmp_path: Path, source: str
) -> None:
    """A push after ids were added writes the buckets and blobs that are new, and says how much."""
    plan = tmp_path / "plan"
    written(plan, workshop.folder, source)
    first, before = push(workshop, plan)
    add(plan, workshop.folder, source, IDS)  # into a stored list: its new text is in the store
    there = {blob.digest for blob in workshop.store.list_blobs()}
    second, after = push(workshop, plan)
    fetch = workshop.store.get_blob
    new = bucket_digests(after, fetch) - bucket_digests(before, fetch)
    assert len(new) == second.buckets <= ADDED
    if IDS > 20 * ADDED:
        assert len(new) < first.buckets
    client: Any = workshop.link
    keys = Keys(WORKSPACE)
    blobs = stored_digests(after) - there
    assert second.stored == len(blobs)
    assert second.stored_bytes == sum(len(fetch(digest)) for digest in blobs)
    mirrored = [digest for digest in blobs if client.exists(keys.blob(digest))]
    assert second.blobs == len(mirrored)
    assert second.redis_bytes == sum(
        client.strlen(key) for key in [*map(keys.blob, mirrored), *map(keys.bucket, new)]
    )


def test_the_source_of_ids_changes_no_table(tmp_path: Path, workshop: Workshop) -> None:
    """The same ids from text, from Parquet and from the store give the same tables and lists."""
    found = []
    for source in SOURCES:
        plan = tmp_path / source
        written(plan, workshop.folder, source)
        image, _ = compile_folder(plan, workshop.store, workshop.now)
        digests = {name: each["digest"] for name, each in image.tree["lists"].items()}
        found.append((image.contents["membership"], digests))
    assert found[0] == found[1] == found[2]


MEASURED = """
import gc, sys, tracemalloc
from pathlib import Path
from compiler.compilation import compile_folder
plan, now = Path(sys.argv[1]), int(sys.argv[2])
compile_folder(plan, None, now)  # what is loaded once counts for nobody
tracemalloc.start()
image, _ = compile_folder(plan, None, now)
gc.collect()  # cycles are not held, only not yet noticed
held, peak = tracemalloc.get_traced_memory()
tracemalloc.stop()
print(sum(len(image.blobs[digest]) for digest in image.blobs), held, peak)
"""
"""In a process of its own, where nothing but this is measured."""


def test_memory_is_bounded_by_the_ids(tmp_path: Path, workshop: Workshop) -> None:
    """Neither all lists' texts nor the image's blobs are held: 20 bytes an id are enough."""
    ids = max(IDS, 400_000)
    plan = tmp_path / "plan"
    written(plan, workshop.folder, "text", ids, lists=80)
    command = [sys.executable, "-c", MEASURED, str(plan), str(workshop.now)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    made, held, peak = map(int, said.split())
    print(f"\n{ids:,} ids: {made / ids:.1f} bytes each, {peak / ids:.1f} at most in memory")
    assert made > 25 * ids
    assert held < ids
    assert peak < 20 * ids + 4_000_000


def test_the_load_test_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m loadtest.lists` publishes to a Redis and a gateway of its own, and says how."""
    main(["--ids", "20000", "--lists", "3", "--sources", "stored", "--plain-ids", "20000"])
    said = capsys.readouterr().out
    for figure in ("compile and publish, s", "peak memory", "buckets to Redis", "bytes an id"):
        assert figure in said
