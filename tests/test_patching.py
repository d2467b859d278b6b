"""Patching: which patches are wanted, their index, the crew that makes them, and the command."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typer import BadParameter

from compiler.commands.patches import _part
from compiler.patching import formats
from compiler.patching.census import CensusError, read_census
from compiler.patching.crew import work
from compiler.patching.formats import BSDIFF4, FORMATS, ZSTD_PATCH
from compiler.patching.job import Failure, Job
from compiler.patching.patch_index import Patch, add_patch, read_index
from compiler.patching.selection import Choice, Pair, Source, Target, in_order, targets_of
from compiler.plan import App, Audience, Form, Package, PackageRecord, Release, State
from compiler.storage.store import Store, open_store
from gateway.errors import FormatError
from gateway.version import VersionKey, parse_version
from patch_shop import Shop, edited, versions

ROOT = Path(__file__).parent.parent
REAL = Path(os.environ.get("TIDEGATE_REAL", ROOT.parent / "shared" / "real"))
EVERYONE = Audience()
PLENTY = 10_000_000_000


def package(version: str, *, withdrawn: bool = False, recorded: bool = True) -> Package:
    """Make a version of an app whose smallest form has 500 bytes."""
    key = parse_version(version)
    assert key is not None
    sha256 = version.encode().hex().zfill(64)
    forms = (
        Form("identity", 1000, sha256, f"files/{sha256[:2]}/{sha256}.zip"),
        Form("zstd", 500, "e" * 64, "files/ee/e.zip.zst"),
    )
    record = PackageRecord(1000, sha256, forms) if recorded else None
    return Package(version, key, withdrawn=withdrawn, record=record)


def targets(
    packages: list[Package],
    *offered: str | Release,
    counts: Mapping[str, int] | None = None,
    cover: float = 99,
    most: int | None = None,
) -> list[Target]:
    """Select the patches of an app at second 100."""
    releases = tuple(
        each if isinstance(each, Release) else Release(f"r{number}", each, EVERYONE)
        for number, each in enumerate(offered)
    )
    app = App("a", "a", "apps/a.yaml", tuple(packages), releases)
    return targets_of(app, None if counts is None else keyed(counts), Choice(cover, most), 100)


def keyed(counts: Mapping[str, int]) -> dict[VersionKey, int]:
    """Key a census by versions."""
    return {key: count for text, count in counts.items() if (key := parse_version(text))}


def wanted(found: list[Target]) -> list[tuple[str, str]]:
    """Name the pairs, by traffic."""
    return [(pair.old.version, pair.new.version) for pair in in_order(found)]


PACKAGES = [package(version) for version in ("1.0", "1.1", "1.2", "1.10")]


def test_phones_come_from_lower_versions_and_withdrawn_ones() -> None:
    """Patches lead up to what is offered, and down to it from withdrawn versions only."""
    assert wanted(targets(PACKAGES, "1.2")) == [("1.1", "1.2"), ("1.0", "1.2")]
    held_back = [*PACKAGES[:3], package("1.10", withdrawn=True)]
    assert wanted(targets(held_back, "1.2", "1.10")) == [
        ("1.10", "1.2"),
        ("1.1", "1.2"),
        ("1.0", "1.2"),
    ]
    assert wanted(targets([package("1.0", withdrawn=True), *PACKAGES[1:2]], "1.1")) == [
        ("1.0", "1.1")
    ]


def test_only_live_releases_offer() -> None:
    """What is paused, ended or over leads nobody anywhere; what starts later is made in time."""
    for release in (
        Release("r", "1.1", EVERYONE, state=State.PAUSED),
        Release("r", "1.1", EVERYONE, state=State.ENDED),
        Release("r", "1.1", EVERYONE, ends=100),
    ):
        assert targets(PACKAGES, release) == []
    for release in (
        Release("r", "1.1", EVERYONE, ends=101),
        Release("r", "1.1", EVERYONE, starts=999),
    ):
        assert wanted(targets(PACKAGES, release)) == [("1.0", "1.1")]


def test_what_has_no_record_is_left_out() -> None:
    """A version that was not uploaded is neither a target nor a beginning."""
    unknown = [package("1.0", recorded=False), *PACKAGES[1:3], package("1.10", recorded=False)]
    assert wanted(targets(unknown, "1.10", "1.2")) == [("1.1", "1.2")]


def test_without_a_census_the_newest_come_first() -> None:
    """Ten versions a target, or as many as are asked for; the highest target first."""
    many = [package(f"1.{minor}") for minor in range(20)]
    assert wanted(targets(many, "1.19")) == [(f"1.{minor}", "1.19") for minor in range(18, 8, -1)]
    assert wanted(targets(many, "1.2", "1.19", most=1)) == [("1.18", "1.19"), ("1.1", "1.2")]


def test_a_census_takes_the_most_frequent_until_they_cover_enough() -> None:
    """In order of phones; the last that is taken is the one that reaches the share."""
    counts = {"1.0": 10, "1.1": 89, "1.2": 1, "1.10": 10_000}
    assert wanted(targets(PACKAGES, "1.10", counts=counts)) == [("1.1", "1.10"), ("1.0", "1.10")]
    (found,) = targets(PACKAGES, "1.10", counts=counts)
    assert (found.phones, found.covered) == (100, 99)
    assert len(wanted(targets(PACKAGES, "1.10", counts=counts, cover=99.1))) == 3
    assert len(wanted(targets(PACKAGES, "1.10", counts=counts, cover=89))) == 1
    assert len(wanted(targets(PACKAGES, "1.10", counts=counts, cover=0))) == 0
    assert wanted(targets(PACKAGES, "1.10", counts=counts, most=1)) == [("1.1", "1.10")]
    both = wanted(targets(PACKAGES, "1.10", "1.2", counts=counts))
    assert both == [("1.1", "1.10"), ("1.1", "1.2"), ("1.0", "1.10"), ("1.0", "1.2")]


def test_a_census_counts_who_cannot_be_helped() -> None:
    """Phones with unknown versions count as phones that come; what no phone has is not made."""
    (found,) = targets(PACKAGES, "1.10", counts={"1.1": 10, "0.9": 90, "1.0": 0, "9.9": 5})
    assert [pair.old.version for pair in found.pairs] == ["1.1"]
    assert (found.phones, found.covered) == (100, 10)
    held_back = [*PACKAGES[:3], package("1.10", withdrawn=True)]
    (found,) = targets(held_back, "1.2", counts={"1.10": 7, "1.0": 3})
    assert (found.phones, found.covered) == (10, 10)


@pytest.mark.parametrize("counts", [{}, {"none": 5}, {"1.10": 9}, {"0.9": 7, "1.0": 0}])
def test_a_census_that_says_nothing_of_the_way_here_is_none(counts: Mapping[str, int]) -> None:
    """No counted phone has a version that leads to the target: the newest are taken, as without."""
    (found,) = targets(PACKAGES, "1.10", counts=counts)
    assert [pair.old.version for pair in found.pairs] == ["1.2", "1.1", "1.0"]
    assert (found.phones, found.covered) == (0, 0)
    (without,) = targets(PACKAGES, "1.10")
    assert found.pairs == without.pairs


def test_worth_follows_from_the_smallest_form() -> None:
    """At most 60 % of the smallest form of the full package."""
    (found,) = targets(PACKAGES, "1.1")
    assert [pair.most for pair in found.pairs] == [300]


def test_parts_are_disjoint_and_whole() -> None:
    """Each pair belongs to one of n parts, whatever the order in which it was found."""
    pairs = in_order(targets([package(f"1.{minor}") for minor in range(99)], "1.98", most=98))
    parts = [{pair.old.version for pair in pairs if pair.part_of(4) == part} for part in range(4)]
    assert sum(map(len, parts)) == 98 == len(set.union(*parts))
    assert all(10 < len(part) < 40 for part in parts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "holds no apps"),
        ('{"a": 1}', "holds no versions of 'a'"),
        ('{"a": {"1.0": -1}}', "-1 is no number of phones, at 'a' '1.0'"),
        ('{"a": {"1.0": true}}', "True is no number"),
        ('{"a": {"1.0": 1.5}}', "1.5 is no number"),
    ],
)
def test_a_broken_census_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Each fault of a census is a sentence that names the file."""
    (tmp_path / "census.json").write_text(text)
    with pytest.raises(CensusError, match=re.escape(message)) as found:
        read_census(tmp_path / "census.json")
    assert "census.json" in str(found.value)


def test_a_census_sums_spellings(tmp_path: Path) -> None:
    """Spellings of one version are one; what is no version is nobody's."""
    (tmp_path / "c").write_text('{"a": {"1.0": 1, "1.0.0.0": 2, "01": 4, "unknown": 8}, "b": {}}')
    assert read_census(tmp_path / "c") == {"a": {parse_version("1.0"): 7}, "b": {}}
    with pytest.raises(CensusError, match="cannot be read: No such file"):
        read_census(tmp_path / "none")


SERVED = Patch(BSDIFF4, "1.0", "a" * 64, "b" * 64, 9, "c" * 64, f"files/cc/{'c' * 64}.bsdiff4")
DROPPED = Patch(ZSTD_PATCH, "1.0", "a" * 64, "b" * 64, 999)


def test_the_index_is_as_documented(tmp_path: Path) -> None:
    """The index has the documented members, sorted, and reads as it was written."""
    store = open_store(str(tmp_path))
    for patch in (DROPPED, SERVED):
        add_patch(store, "a", "1.1", patch)
    ends = {"from": "1.0", "from_sha256": "a" * 64, "to_sha256": "b" * 64}
    assert json.loads(store.get_named("patches/a/1.1.json") or b"") == {
        "format": 1,
        "patches": [ends | {"format": BSDIFF4, "size": 9, "sha256": "c" * 64, "path": SERVED.path}],
        "not_worth_it": [ends | {"format": ZSTD_PATCH, "size": 999}],
    }
    assert read_index(store, "a", "1.1").patches == (SERVED, DROPPED)
    assert read_index(store, "a", "1.2").patches == ()


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    """Eight that add to one index at the same time leave all that they added."""

    def add(writer: int) -> None:
        store = open_store(str(tmp_path))
        for number in range(12):
            patch = Patch(ZSTD_PATCH, f"{writer}.{number}", "a" * 64, "b" * 64, 9)
            add_patch(store, "a", "1.1", patch)

    threads = [threading.Thread(target=add, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_index(open_store(str(tmp_path)), "a", "1.1").patches) == 8 * 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no index of patches"),
        ("{}", "is no index of patches"),
        ('{"format": 2, "patches": []}', "has format 2, which this Tidegate does not know"),
        ('{"format": 1, "patches": [{}]}', "is no index of patches"),
        ('{"format": 1, "patches": 7}', "is no index of patches"),
    ],
)
def test_a_damaged_index_is_never_overwritten(tmp_path: Path, text: str, message: str) -> None:
    """What cannot be read is told of, and stays."""
    store = open_store(str(tmp_path))
    store.put_named("patches/a/1.1.json", text.encode())
    with pytest.raises(FormatError, match=message):
        add_patch(store, "a", "1.1", SERVED)
    assert store.get_named("patches/a/1.1.json") == text.encode()


def source(store: Store, version: str, data: bytes) -> Source:
    """Put a package into the store."""
    sha256 = hashlib.sha256(data).hexdigest()
    path = f"files/{sha256[:2]}/{sha256}.zip"
    store.put_named(path, data)
    return Source(version, path, len(data), sha256)


def slow_job(store: Store) -> Job:
    """Make a job that takes bsdiff very long: runs of one byte are sorted in quadratic time."""
    zeros = source(store, "0", bytes(3_000_000))
    return Job(Pair("a", zeros, zeros, PLENTY, None), (BSDIFF4,))


def quick_job(store: Store) -> Job:
    """Make a job that takes no time."""
    old, new = versions(2, 5000).values()
    return Job(Pair("a", source(store, "1", old), source(store, "2", new), 4000, None), FORMATS)


def children() -> set[int]:
    """Give the processes that this one started."""
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found |= {int(pid) for pid in (thread / "children").read_text().split()}
    return found


def outcomes(*jobs: Job, place: Path, **changed: Any) -> list[tuple[Job, Any]]:
    """Have jobs done by one worker."""
    usual = {"at_once": 1, "memory": PLENTY}
    return list(work(jobs, place=str(place), **(usual | changed)))


def test_a_killed_worker_costs_its_job_only(tmp_path: Path) -> None:
    """A worker that the kernel kills is told of, and another does the rest."""
    store = open_store(str(tmp_path))
    before = children()
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.02):
            for pid in children() - before:
                text = Path(f"/proc/{pid}/status").read_text()
                resident = re.search(r"VmRSS:\s+(\d+)", text)
                if resident and int(resident[1]) > 45_000:  # it is at work
                    os.kill(pid, signal.SIGKILL)
                    return

    killer = threading.Thread(target=kill)
    killer.start()
    slow, quick = slow_job(store), quick_job(store)
    found = outcomes(slow, quick, place=tmp_path)
    over.set()
    killer.join()
    (job, failure), *rest = found
    assert job == slow
    assert isinstance(failure, Failure)
    assert (
        "was killed by signal 9, most likely by the kernel for want of memory" in failure.sentence
    )
    assert [job for job, _ in rest] == [slow, quick, quick, quick]
    assert children() == before


def test_work_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """A pair over its time is ended with a sentence, and the rest is done."""
    store = open_store(str(tmp_path))
    before = children()
    slow, quick = slow_job(store), quick_job(store)

    def done_within(seconds: int) -> set[str]:
        found = outcomes(slow, quick, place=tmp_path, seconds=seconds)
        assert f"took longer than {seconds} s and was given up" in found[0][1].sentence
        assert children() == before
        return {each.format for job, each in found if job == quick and isinstance(each, Patch)}

    # On a busy machine even what takes no time may take seconds.
    assert any(done_within(seconds) == set(FORMATS) for seconds in (2, 8, 32))


def test_memory_bounds_what_runs_at_once(tmp_path: Path) -> None:
    """What does not fit beside others waits; what never fits is told of; the rest is done."""
    store = open_store(str(tmp_path))
    quick, large = quick_job(store), slow_job(store)
    before, together, found = children(), 0, []
    memory = quick.memory + 1
    for _, each in work(
        [quick, large, quick, quick], place=str(tmp_path), at_once=4, memory=memory
    ):
        together = max(together, len(children() - before))
        found.append(each)
    assert together == 1
    (failure,) = (each for each in found if isinstance(each, Failure))
    assert failure.sentence == (
        f"Patching a 0 to 0 takes 130 MB, and --memory allows {memory / 1e6:,.0f}. Allow more, or "
        "run it on a larger machine."
    )
    assert len([each for each in found if isinstance(each, Patch)]) == 6


@pytest.mark.parametrize("format_", FORMATS)
def test_the_estimate_of_memory_holds(format_: str, tmp_path: Path) -> None:
    """Making and applying a patch takes no more than is reckoned, and at least a quarter of it."""
    old = random.Random(5).randbytes(4_000_000)
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "new").write_bytes(edited(old, 1, 99))
    command = ["-m", "loadtest.sizes", "--measure", format_, "old", "new"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, check=True
    )
    reckoned = formats.memory(format_, len(old), len(old)) + 64_000_000
    assert reckoned / 4 < json.loads(done.stdout)["peak"] < reckoned


def test_missing_and_foreign_files_cost_their_patches_only(tmp_path: Path) -> None:
    """A file that is missing, or not as recorded, is told of once; the rest is made; code 4."""
    shop = Shop(tmp_path)
    packages = versions(5)
    shop.fill(packages, offered="1.5")
    missing = shop.record("coffee", "1.1", packages["1.1"])
    shop.store.delete_named(missing)
    shop.store.put_named(shop.record("coffee", "1.2", packages["1.2"]), packages["1.3"])
    found = shop.patch(code=4)
    assert len(found["failures"]) == 2
    for said in (
        f'The file of coffee 1.1, "{missing}", is missing',
        "is there with other bytes than its record says",
    ):
        assert any(said in each for each in found["failures"]), found["failures"]
    assert {each["from"] for each in found["made"]} == {"1.3", "1.4"}


def test_a_store_that_fails_stops_the_run(tmp_path: Path) -> None:
    """When the store cannot be written, one sentence says so; exit code 4."""
    shop = Shop(tmp_path)
    shop.fill(versions(3), offered="1.3")
    (shop.where / "patches").write_text("a file in the way")
    assert "a file stands where a folder is needed" in shop.patch(code=4)


def test_a_patch_lost_from_the_store_is_made_again(tmp_path: Path) -> None:
    """What the index names is looked for, and made again when it is gone."""
    shop = Shop(tmp_path)
    shop.fill(versions(2), offered="1.2")
    (lost, kept) = shop.patch()["made"]
    shop.store.delete_named(lost["path"])
    assert shop.patch()["made"] == [lost]
    assert shop.store.size_named(kept["path"]) == kept["size"]


@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "not yet indexed"])
def test_a_damaged_patch_is_made_again(tmp_path: Path, indexed: bool) -> None:
    """Other bytes of the right size are noticed and replaced, whether the index has the patch."""
    shop = Shop(tmp_path)
    shop.fill(versions(2), offered="1.2")
    (damaged, _) = shop.patch()["made"]
    whole = shop.made()
    shop.store.put_named(damaged["path"], bytes(damaged["size"]))
    if not indexed:
        shop.store.delete_named("patches/coffee/1.2.json")
    assert damaged in shop.patch()["made"]
    assert shop.made() == whole
    assert shop.patch()["made"] == []


def test_every_command_starts_where_no_affinity_is_known() -> None:
    """On macOS a process cannot ask which cores it may use: all cores count."""
    script = (
        "import os\n"
        "del os.sched_getaffinity\n"
        "from compiler.cli import COMMANDS, register\n"
        "register(COMMANDS)\n"
        "from gateway.cores import cores\n"
        "assert cores() == os.cpu_count()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_dry_run_says_what_is_missing_and_changes_nothing(tmp_path: Path) -> None:
    """It names pairs, formats and phones, by traffic, and writes nothing."""
    shop = Shop(tmp_path)
    shop.fill(versions(4), offered="1.4")
    (tmp_path / "census.json").write_text('{"coffee": {"1.1": 5, "1.2": 90, "1.3": 5}}')
    found = shop.patch("--dry-run", "--census", str(tmp_path / "census.json"), "--cover", "91")
    assert [(each["from"], each["phones"]) for each in found] == [("1.2", 90), ("1.3", 5)]
    assert {tuple(each["formats"]) for each in found} == {FORMATS}
    assert shop.made() == {}


@pytest.mark.parametrize("text", ["4/3", "1/0", "x", "1/", "/3", "-1/3", "1/3/3"])
def test_a_part_is_one_of_several(text: str) -> None:
    """A part counts from 1, or from 0 as Kubernetes does; anything else is refused."""
    with pytest.raises(BadParameter, match="--part is I/N with I from 1 to N, as 2/3, not"):
        _part(text)
    assert {_part(f"{number}/3") for number in (1, 2, 3)} == {(0, 3), (1, 3), (2, 3)}
    assert _part("0/3") == _part("3/3")


def test_apps_are_named_and_known(tmp_path: Path) -> None:
    """Only the named apps are patched; an unknown one, or no census, is said with exit code 2."""
    shop = Shop(tmp_path)
    shop.fill(versions(2), offered="1.2")
    shop.fill(versions(2), offered="1.1", app="tea")
    assert "The plan has no app 'milk'" in shop.patch("tea", "milk", code=2)
    assert "none.json cannot be read" in shop.patch("--census", "none.json", code=2)
    assert shop.patch("tea")["targets"][0]["app"] == "tea"
    assert shop.index("1.2") is None


def test_the_table_of_sizes(tmp_path: Path) -> None:
    """The command prints each form, and each patch with its share, time and memory."""
    if not REAL.is_dir():
        pytest.skip("the real bundles are not here")
    bundles = [str(REAL / f"vant-weapp-{version}.tgz") for version in ("1.11.6", "1.11.7")]
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.sizes", *bundles],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "421,575" in done.stdout
    shares = [
        (line.split()[3], float(found[1]))
        for line in done.stdout.splitlines()
        if (found := re.search(r"([0-9.]+) %", line))
    ]
    assert sorted(format_ for format_, _ in shares) == sorted(FORMATS)
    assert all(share <= 1.5 for _, share in shares)


def test_the_table_needs_something_to_measure() -> None:
    """Without arguments the usage says what to name."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.sizes"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "name bundles" in done.stderr
