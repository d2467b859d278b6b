"""Commands that publish: push, diff, revert."""

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from compiler.amendments import laid_lines
from compiler.commands.console import confirm, note, progress, say, say_json
from compiler.commands.going_live import Note, Wait, publish_and_wait
from compiler.commands.session import (
    DEFAULT_REDIS,
    AsJson,
    KeyFile,
    PlanFolder,
    RedisUrl,
    Session,
    StorePlace,
    WorkspaceName,
    Yes,
    open_session,
)
from compiler.compilation import compile_folder
from compiler.diagnostic import render
from compiler.image import Image
from compiler.image_file import load_image
from compiler.plan import Plan
from compiler.publication.carrying import carry, contest, same_plan
from compiler.publication.checkout import Checkout, checkout_at, read_checkout
from compiler.publication.difference import Difference, Side, compare_sides, shown
from compiler.publication.epoch import Publication, described
from compiler.publication.freshness import check_base
from compiler.publication.live import UnreadableError, read_live
from compiler.publication.publisher import LostRaceError
from compiler.publication.revert import prepare_revert
from compiler.publication.versions import check_files
from compiler.publication.windows import carry_over
from compiler.refusal import Refused
from compiler.repatching import repatch
from compiler.windows import Frozen, windows_of
from gateway import layout
from gateway.errors import FormatError

_HERE = Path()
_TRIES = 5

PlanOrFile = Annotated[
    Path, typer.Argument(metavar="PLAN|FILE", help="A plan's folder, or what `compile` wrote.")
]

Again = Annotated[
    bool, typer.Option("--again", help="Even if nothing is new: your key signs it anew.")
]


def push(
    plan: PlanOrFile = _HERE,
    message: Note = "",
    base: Annotated[
        int | None, typer.Option(help="Outside Git: the live epoch that this plan was made from.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Even if the checkout is stale, or the live epoch unreadable."
        ),
    ] = False,
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="Even if a list loses half of its ids.")
    ] = False,
    take_plan: Annotated[
        list[str] | None,
        typer.Option(
            "--take-plan",
            metavar="APP/RELEASE",
            help="End the override of this release, of APP/VERSION or of check_after.",
        ),
    ] = None,
    again: Again = False,
    wait: Wait = 10.0,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Publish a plan, and wait until every gateway serves it.

    Compiles the plan, or takes what `compile` wrote, and makes it the next epoch, signed with
    your key, with the patches that the store knows now. Refused, with nothing changed, if the
    plan does not contain what is live: its Git commit must descend from that of the live epoch.
    Overrides (pause, withdraw, …) stay laid over it, and are named; where the plan changes the very
    value overridden, say --take-plan.
    """
    if plan.is_file():
        try:
            image, commit = load_image(plan)
        except FormatError as fault:
            raise typer.BadParameter(f"{fault}.") from None
        session = open_session(redis, store, workspace or _workspace_of(image), changes=True)
        image = repatch(image, session.store)
        live = _live(session, force=force)
        frozen = _frozen(session, live, image.tree["windows"])
        checkout = checkout_at(read_checkout(_HERE), commit)
    else:
        image, session, live = _compile(plan, redis, store, workspace, changes=True, force=force)
        commit, checkout, frozen = None, read_checkout(plan), None
    known = live.tree if live is not None else None
    check_files(session.store, image.tree, image.blobs.__getitem__, known)
    publish_under_overrides(
        session,
        image,
        live,
        take_plan or [],
        frozen,
        key=key,
        wait=wait,
        note=message,
        checkout=checkout,
        commit=commit,
        base=base,
        force=force,
        allow_shrink=allow_shrink,
        again=again,
    )


def publish_under_overrides(
    session: Session,
    image: Image,
    live: Publication | None,
    take: list[str],
    frozen: Mapping[str, Frozen] | None = None,
    *,
    checkout: Checkout | None,
    base: int | None,
    force: bool,
    **options: Any,
) -> None:
    """Publish a compiled plan under the live epoch's overrides; then say what became of each.

    Once more if somebody has laid or lifted one meanwhile, or frozen a window. `frozen` has the
    seats of frozen windows for an image that was compiled without them. `options` are those of
    `publish_and_wait`. Raises Refused when the plan changes the very value that is overridden,
    but first when it is stale, as it then knows nothing of what it changes.
    """
    check_base(live, checkout, base, force=force)
    taken: tuple[layout.Override, ...] | None = None
    for _ in range(_TRIES):
        carried = carry(image, live, session.store.get_blob, take, frozen)
        if taken is not None and carried.settlement.taken != taken:
            raise Refused("Somebody has just overridden what you take from the plan. Push again.")
        if carried.settlement.contested:
            raise Refused(contest(carried.settlement.contested))
        try:
            publish_and_wait(
                session,
                carried.image,
                became=carried.lines,
                checkout=checkout,
                base=base,
                force=force,
                onto=live,
                **options,
            )
        except LostRaceError as lost:
            if live is None or lost.winner is None or not same_plan(live, lost.winner):
                raise
            note(f"{described(lost.winner.epoch)} has the same plan, and was faster; once more.")
            base = lost.winner.number if base == live.number else base
            live, taken = lost.winner, carried.settlement.taken
            frozen = _frozen(session, live, image.tree["windows"])
        else:
            return
    raise Refused("Overrides change all the time. Push again.")


def _workspace_of(image: Image) -> str:
    settings: layout.Settings = layout.decode(
        layout.Settings, image.blobs[image.contents["settings"]]
    )
    return settings["workspace"]


def _frozen(
    session: Session, live: Publication | None, wanted: Mapping[str, layout.Window]
) -> Mapping[str, Frozen]:
    known = live.tree["windows"] if live is not None else {}
    return carry_over(session.mirror, known, wanted, session.store.get_blob)


def _compile(
    plan: Path, redis: str, store: str, workspace: str, *, changes: bool, force: bool = False
) -> tuple[Image, Session, Publication | None]:
    """Compile a folder, without overrides; read the live epoch."""
    session: Session | None = None
    if workspace:
        session = open_session(redis, store, workspace, changes=changes)

    def frozen(found: Plan) -> Mapping[str, Frozen]:
        place = open_session(redis, store, workspace or found.workspace.name)
        live = None
        try:
            live = read_live(place.store, place.mirror, place.workspace)
        except UnreadableError:
            if not force:
                raise
        return _frozen(place, live, windows_of(found.apps))

    with progress() as show:
        place = session or replace(open_session(redis, store, "?"), changes=changes)
        image, loaded = compile_folder(
            plan, place.store, int(time.time()), progress=show, frozen=frozen
        )
    if loaded.diagnostics:
        note(render(loaded.diagnostics, loaded.sources))
    for line in loaded.dropped:
        note(line)
    if session is None:
        session = open_session(redis, store, loaded.plan.workspace.name, changes=changes)
    return image, session, _live(session, force=force)


def _live(session: Session, *, force: bool) -> Publication | None:
    """Read the live epoch; with `force` one that cannot be read counts as none."""
    try:
        return read_live(session.store, session.mirror, session.workspace)
    except UnreadableError as fault:
        if not force:
            raise
        note(f"Starting over, under no overrides. {fault.args[0].partition('. ')[0]}.")
        return None


def diff(
    plan: PlanFolder = _HERE,
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
    as_json: AsJson = False,
) -> None:
    """Show what a push of this plan would change.

    Compares it with the live epoch; nothing is written.
    """
    image, session, live = _compile(plan, redis, store, workspace, changes=False)
    carried = carry(image, live, session.store.get_blob)
    image = carried.image
    if carried.settlement.contested:
        note(f"A push would be refused. {contest(carried.settlement.contested)}")
    for line in carried.lines:
        note(line)
    before = None
    if live is not None:
        before = Side(live.contents, live.tree, session.store.get_blob)
    after = Side(image.contents, image.tree, image.blobs.__getitem__)
    difference = compare_sides(before, after)
    if as_json:
        say_json(as_data(difference))
        return
    say(shown(difference))


def as_data(difference: Difference) -> dict[str, object]:
    """Give a difference as plain data for `--json`."""
    return asdict(difference)


def revert(
    epoch: Annotated[int, typer.Argument(help="The epoch whose content is wanted again.")],
    message: Note = "",
    wait: Wait = 10.0,
    yes: Yes = False,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Publish an earlier epoch's content again.

    It gets a new number, as numbers never fall. Every override is kept, and what was withdrawn
    since stays withdrawn. What phones have of versions that the earlier epoch does not know is
    named first, and so is a change of the keys that the plan trusts.
    """
    session = open_session(redis, store, workspace, changes=True)
    live = session.live()
    moment = int(time.time())
    reversion = prepare_revert(session.store, session.mirror, live, epoch, now=moment)
    for line in laid_lines(reversion.kept):
        say(f"kept: {line}")
    for stranded in reversion.stranded:
        what = stranded.version or "the whole app"
        say(
            f"stranded: {stranded.app} {what} is unknown to epoch {epoch}; "
            "phones that have it keep it"
        )
    for host in reversion.hosts:
        say(f"stranded: {host}")
    if reversion.keys is not None:
        say(f"warning: trusted keys: {'; '.join(reversion.keys.details)}")
    some_stranded = bool(reversion.stranded or reversion.hosts)
    if some_stranded and not confirm(f"Revert to epoch {epoch}?", yes=yes):
        raise typer.Exit(3)
    publish_and_wait(
        session,
        reversion.image,
        key=key,
        wait=wait,
        note=message or f"revert to epoch {epoch}",
        commit=live.epoch["commit"],
        force=True,
        onto=live,
        allow_shrink=True,
    )
