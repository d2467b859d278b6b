"""`tidegate patch`: small downloads from the versions that phones have."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from compiler.commands.console import counted, note, progress, say, say_json
from compiler.commands.counts import DAYS, Days
from compiler.commands.identities import IdentityFiles, identities_for
from compiler.commands.naming import app_of_file
from compiler.commands.session import AsJson, RedisUrl, StorePlace, open_session
from compiler.diagnostic import PlanError
from compiler.language.reading import WORKSPACE_FILE, read_folder
from compiler.patching.census import (
    Census,
    CensusError,
    as_census,
    counted_by_gateways,
    last_days,
    read_census,
)
from compiler.patching.crew import work
from compiler.patching.formats import FORMATS
from compiler.patching.job import Failure, Job, Outcome
from compiler.patching.patch_index import Patch, PatchIndex, add_patch, read_index
from compiler.patching.selection import (
    MOST_UNCOUNTED,
    WORTH_PERCENT,
    Choice,
    Pair,
    Target,
    in_order,
    targets_of,
)
from compiler.plan import App, Plan
from compiler.storage.store import Digest, Store, open_store
from gateway.cores import cores
from gateway.errors import StoreError

_AWAY = 4
_MB = 1_000_000
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")

_CensusFile = Annotated[
    Path | None,
    typer.Option(
        "--census",
        help='Phones by version, as JSON: {"app": {"version": 81233}}; without it, what the '
        "gateways counted, if a Redis is named.",
    ),
]


@dataclass(slots=True)
class _Report:
    """What came of it: pairs with their patches, in the order in which they were done."""

    targets: Sequence[Target]
    there: Counter[tuple[str, str]] = field(default_factory=Counter)
    made: list[tuple[Pair, Patch]] = field(default_factory=list)
    dropped: list[tuple[Pair, Patch]] = field(default_factory=list)
    failures: dict[str, None] = field(default_factory=dict)  # each said once, in order


def patch(
    store: StorePlace,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[APP…] [PLAN]", help="Apps (all), and the plan's folder (this)."),
    ] = None,
    census: _CensusFile = None,
    redis: RedisUrl = "",
    days: Days = DAYS,
    cover: Annotated[
        float, typer.Option(min=0, max=100, help="With a census: percent of the phones to cover.")
    ] = 99.0,
    most: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"At most so many versions a target; without a census {MOST_UNCOUNTED}.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Worker processes.", show_default="one a core")
    ] = cores(),
    memory: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="MB", help="For all workers together.", show_default="half of what is"
        ),
    ] = None,
    identity: IdentityFiles = None,
    part: Annotated[
        str, typer.Option(metavar="I/N", help="Only the I-th of N parts; 0/N is N/N.")
    ] = "1/1",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be made.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make patches from the versions that phones have.

    To each package that a live release offers, from lower versions and from withdrawn ones above
    it: in order of traffic, until they cover enough phones. They go into the store. What is there
    is not made again, so an interrupted run is repeated; N machines share the work by --part.

    Encrypted packages need --identity, and their patches are encrypted to whom they are.
    """
    apps, folder = _split(names or [])
    share = _part(part)
    plan = _read(folder)
    by_file = census is not None or not redis
    counts = _census(census) if by_file else _counted(redis, plan.workspace.name, days)
    place = open_store(store, create=False)
    if not dry_run:
        note(f"workspace {plan.workspace.name}, store {place.name}")
    targets = _targets(_wanted(plan, folder, apps), counts, Choice(cover, most))
    report = _Report(targets)
    missing = _missing(place, targets, share, report)
    if dry_run:
        _say_plan(missing, report, as_json=as_json)
        return
    held = identities_for(missing, identity)
    crew = partial(work, place=store, at_once=jobs, memory=_budget(memory), identities=held)
    _make(place, missing, report, crew)
    _say_report(report, as_json=as_json)
    if report.failures:
        raise typer.Exit(_AWAY)


def _targets(apps: Iterable[App], counts: Census, choice: Choice) -> list[Target]:
    """Select what is wanted for each app, and say where a census is of no help."""
    now = int(time.time())
    found = [each for app in apps for each in targets_of(app, counts.get(app.id), choice, now)]
    for each in found:
        if each.phones == 0 and each.pairs:
            note(
                f"{each.app} {each.version}: no counted phone has a version that leads here. "
                "The newest are taken, as without a census."
            )
    return found


def _split(names: list[str]) -> tuple[list[str], Path]:
    """Tell apps and the plan's folder apart: the folder is the last, and has a workspace.yaml."""
    if names and (Path(names[-1]) / WORKSPACE_FILE).is_file():
        return names[:-1], Path(names[-1])
    return names, Path()


def _part(text: str) -> tuple[int, int]:
    number, slash, parts = text.partition("/")
    if slash and number.isdecimal() and parts.isdecimal() and 0 <= int(number) <= int(parts) > 0:
        return int(number) % int(parts), int(parts)
    raise typer.BadParameter(f"--part is I/N with I from 1 to N, as 2/3, not {text!r}.")


def _read(folder: Path) -> Plan:
    reading = read_folder(folder, now=int(time.time()))
    if reading.plan is None:
        raise PlanError(reading.diagnostics, reading.sources)
    return reading.plan


def _wanted(plan: Plan, folder: Path, names: Iterable[str]) -> list[App]:
    """Give the named apps, or all."""
    known = {app.id: app for app in plan.apps}
    ids = {app_of_file(folder, name): name for name in names}
    for id_, name in ids.items():
        if id_ not in known:
            raise typer.BadParameter(f"The plan has no app {name!r}. Name its id or its file.")
    return [known[id_] for id_ in ids or known]


def _census(file: Path | None) -> Census:
    try:
        return read_census(file) if file is not None else {}
    except CensusError as fault:
        raise typer.BadParameter(str(fault)) from None


def _counted(redis: str, workspace: str, days: int) -> Census:
    """Ask Redis for what the gateways counted. Raises StoreError."""
    mirror = open_session(redis, "", workspace).mirror
    found = counted_by_gateways(mirror, last_days(time.time(), days))
    checks = sum(sum(numbers.values()) for numbers in found.values())
    note(f"census of {counted(days, 'day')} in Redis at {mirror.host}: {counted(checks, 'check')}")
    return as_census(found)


def _budget(megabytes: int | None) -> int:
    return megabytes * _MB if megabytes is not None else _usable_memory() // 2


def _usable_memory() -> int:
    """Give the bytes that this machine, or its container, has."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.is_file() else ""
    return min(found, int(limit)) if limit.isdecimal() else found


def _missing(
    store: Store, targets: Iterable[Target], part: tuple[int, int], report: _Report
) -> list[Job]:
    """Give the work of this part that is not done yet, in order of traffic."""
    indexes = {
        (each.app, each.version): read_index(store, each.app, each.version) for each in targets
    }
    jobs = []
    for pair in in_order(list(targets)):
        if pair.part_of(part[1]) != part[0]:
            continue
        place = (pair.app, pair.new.version)
        formats = tuple(each for each in FORMATS if not _done(store, indexes[place], pair, each))
        report.there[place] += len(FORMATS) - len(formats)
        if formats:
            jobs.append(Job(pair, formats))
    return jobs


def _done(store: Store, index: PatchIndex, pair: Pair, format_: str) -> bool:
    """Tell whether the index knows this patch, its judgement still holds, and its bytes too."""
    found = index.find(pair, format_)
    if found is None:
        return False
    if found.path is None or found.sha256 is None:
        return found.size > pair.most
    wanted = Digest(found.size, bytes.fromhex(found.sha256))
    return found.size <= pair.most and store.digest_named(found.path) == wanted


def _make(
    store: Store,
    jobs: list[Job],
    report: _Report,
    crew: Callable[[list[Job]], Iterator[tuple[Job, Outcome | None]]],
) -> None:
    done = 0
    with progress() as show:
        for job, outcome in crew(jobs):
            if outcome is None:
                done += 1
                show("patches: pairs of versions", done, len(jobs))
            elif isinstance(outcome, Failure):
                if outcome.store:
                    raise StoreError(outcome.sentence)
                report.failures.setdefault(outcome.sentence)
            else:
                add_patch(store, job.pair.app, job.pair.new.version, outcome)
                kept = report.made if outcome.path is not None else report.dropped
                kept.append((job.pair, outcome))


def _say_plan(jobs: list[Job], report: _Report, *, as_json: bool) -> None:
    if as_json:
        say_json([_named(job.pair) | {"formats": job.formats} for job in jobs])
        return
    phones = {(each.app, each.version): each.phones for each in report.targets}
    for job in jobs:
        pair = job.pair
        all_phones = phones[pair.app, pair.new.version]
        why = "among the newest versions"
        if pair.phones is not None and all_phones:
            why = f"{pair.phones * 100 / all_phones:.2f} % of the phones that would come to it"
        say(f"{pair.app} {pair.old.version} → {pair.new.version}: {', '.join(job.formats)}; {why}")
    there = sum(report.there.values())
    say(f"{counted(len(jobs), 'pair')} of versions to patch; {there:,} patches known.")


def _say_report(report: _Report, *, as_json: bool) -> None:
    if as_json:
        say_json(_as_data(report))
        return
    made = _by_target(report.made)
    dropped = _by_target(report.dropped)
    for target in report.targets:
        place = (target.app, target.version)
        said = [f"{made[place]} made", f"{report.there[place]} known before"]
        if dropped[place]:
            said.append(f"{dropped[place]} not worth it (over {WORTH_PERCENT} % of the package)")
        if target.phones:
            percent = (target.covered or 0) * 100 / target.phones
            said.append(f"for {percent:.2f} % of {counted(target.phones, 'phone')} that would come")
        say(f"{target.app} {target.version}: {'; '.join(said)}")
    if not report.targets:
        say("No live release offers a package with a record: there is nothing to patch.")
    for sentence in report.failures:
        note(sentence)


def _by_target(found: list[tuple[Pair, Patch]]) -> Counter[tuple[str, str]]:
    return Counter((pair.app, pair.new.version) for pair, _ in found)


def _as_data(report: _Report) -> dict[str, Any]:
    lists = {"made": report.made, "not_worth_it": report.dropped}
    return {
        **{
            name: [
                _named(pair) | {"format": each.format, "size": each.size, "path": each.path}
                for pair, each in found
            ]
            for name, found in lists.items()
        },
        "known_before": sum(report.there.values()),
        "failures": list(report.failures),
        "targets": [
            {
                "app": each.app,
                "version": each.version,
                "phones": each.phones,
                "covered": each.covered,
            }
            for each in report.targets
        ],
    }


def _named(pair: Pair) -> dict[str, Any]:
    return {
        "app": pair.app,
        "from": pair.old.version,
        "to": pair.new.version,
        "phones": pair.phones,
    }
