"""Commands that publish: push, diff, revert."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from compiler.commands.console import confirm, counted, note, progress, say, say_json
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
    open_key,
    open_session,
)
from compiler.compilation import compile_folder
from compiler.diagnostic import render
from compiler.image import Image
from compiler.image_file import load_image
from compiler.overrides import in_words, named
from compiler.publication.carrying import carry, contest, only_overridden
from compiler.publication.checkout import checkout_at, read_checkout
from compiler.publication.difference import Difference, Side, compare_sides, shown
from compiler.publication.epoch import Publication, described
from compiler.publication.gateways import Served, wait_for_gateways
from compiler.publication.live import read_live
from compiler.publication.publisher import LostRaceError, publish
from compiler.publication.revert import prepare_revert
from compiler.publication.versions import check_files
from compiler.refusal import Refused
from gateway import layout
from gateway.errors import FormatError

NOT_YET_EVERYWHERE = 5
_NOTE_CHARS = 1000
_TRIES = 5
_HERE = Path()


def _one_line(text: str) -> str:
    """Hold a note to what a line of the history can show, on anybody's terminal."""
    line = " ".join(text.split())
    if not line.isprintable():
        raise typer.BadParameter("A note has printable characters only. Delete the others.")
    if len(line) > _NOTE_CHARS:
        raise typer.BadParameter(f"A note has at most {_NOTE_CHARS:,} characters. Shorten it.")
    return line


Note = Annotated[
    str, typer.Option("--note", "-m", help="Why; the history shows it.", callback=_one_line)
]
Wait = Annotated[
    float, typer.Option("--wait", min=0, help="Seconds to wait until every gateway serves it.")
]
PlanOrFile = Annotated[
    Path, typer.Argument(metavar="PLAN|FILE", help="A plan's folder, or what `compile` wrote.")
]


def push(
    plan: PlanOrFile = _HERE,
    message: Note = "",
    base: Annotated[
        int | None, typer.Option(help="Outside Git: the live epoch that this plan was made from.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Even if the checkout is stale.")] = False,
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
    wait: Wait = 10.0,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Publish a plan, and wait until every gateway serves it.

    Compiles the plan, or takes what `compile` wrote, and makes it the next epoch, signed with
    your key. Refused, with nothing changed, if the plan does not contain what is live: its Git
    commit must descend from that of the live epoch. Overrides (pause, withdraw, …) stay laid over
    it, and are named; where the plan changes the very value overridden, say --take-plan.
    """
    if plan.is_file():
        try:
            image, commit = load_image(plan)
        except FormatError as fault:
            raise typer.BadParameter(f"{fault}.") from None
        session = open_session(redis, store, workspace or _workspace_of(image), changes=True)
        live = read_live(session.store, session.mirror, session.workspace)
        checkout = checkout_at(read_checkout(_HERE), commit)
    else:
        image, session, live = _compile(plan, redis, store, workspace, changes=True)
        commit, checkout = None, read_checkout(plan)
    known = live.tree if live is not None else None
    check_files(session.store, image.tree, image.blobs.__getitem__, known)
    publish_under_overrides(
        session,
        image,
        live,
        take_plan or [],
        key=key,
        wait=wait,
        note=message,
        checkout=checkout,
        commit=commit,
        base=base,
        force=force,
        allow_shrink=allow_shrink,
    )


def publish_under_overrides(
    session: Session,
    image: Image,
    live: Publication | None,
    take: list[str],
    *,
    base: int | None,
    **options: Any,
) -> None:
    """Publish a compiled plan under the live epoch's overrides; say what became of each.

    Once more if somebody has laid or lifted one meanwhile. `options` are those of
    `publish_and_wait`. Raises Refused when the plan changes the very value that is overridden.
    """
    for _ in range(_TRIES):
        carried = carry(image, live, session.store.get_blob, take)
        if carried.settlement.contested:
            raise Refused(contest(carried.settlement.contested))
        for line in carried.lines:
            note(line)
        try:
            publish_and_wait(session, carried.image, base=base, onto=live, **options)
        except LostRaceError as lost:
            if live is None or lost.winner is None or not only_overridden(live, lost.winner):
                raise
            note(f"{described(lost.winner.epoch)} has changed an override meanwhile; once more.")
            base = lost.winner.number if base == live.number else base
            live = lost.winner
        else:
            return
    raise Refused("Overrides change all the time. Push again.")


def _workspace_of(image: Image) -> str:
    settings: layout.Settings = layout.decode(
        layout.Settings, image.blobs[image.contents["settings"]]
    )
    return settings["workspace"]


def _compile(
    plan: Path, redis: str, store: str, workspace: str, *, changes: bool
) -> tuple[Image, Session, Publication | None]:
    """Compile a folder, without overrides; read the live epoch."""
    session: Session | None = None
    if workspace:
        session = open_session(redis, store, workspace, changes=changes)
    with progress() as show:
        place = session or replace(open_session(redis, store, "?"), changes=changes)
        image, loaded = compile_folder(plan, place.store, int(time.time()), progress=show)
    if loaded.diagnostics:
        note(render(loaded.diagnostics, loaded.sources))
    for line in loaded.dropped:
        note(line)
    if session is None:
        session = open_session(redis, store, loaded.plan.workspace.name, changes=changes)
    live = read_live(session.store, session.mirror, session.workspace)
    return image, session, live


def publish_and_wait(
    session: Session, image: Image, *, key: str, wait: float, told: str = "", **options: Any
) -> None:
    """Publish an image, say what came of it, and wait until every gateway serves it.

    `told` says what it changes; `options` are those of `publish`. Exits with NOT_YET_EVERYWHERE
    when a gateway lags behind.
    """
    publisher = open_key(key)
    with progress() as show:
        published = publish(
            image,
            store=session.store,
            link=session.link,
            key=publisher,
            workspace=session.workspace,
            now=int(time.time()),
            progress=show,
            **options,
        )
    if published.already:
        say(f"Epoch {published.number} says the same already: nothing new was published.")
    elif told:
        say(f"Epoch {published.number} is live: {told}.")
    else:
        say(
            f"Epoch {published.number} is live: {counted(published.stored, 'blob')} to the "
            f"store, {counted(published.blobs, 'blob')} and "
            f"{counted(published.buckets, 'bucket')} to Redis."
        )
    served = wait_for_gateways(
        session.mirror, published.number, timeout_seconds=wait, on_change=_quietly(note)
    )
    say(served.message)
    if served.laggards:
        note("Its log says why; a key that it does not trust, for example.")
        raise typer.Exit(NOT_YET_EVERYWHERE)


def _quietly(tell: Callable[[str], None]) -> Callable[[Served], None]:
    def on_change(served: Served) -> None:
        if served.laggards:
            tell(served.message)

    return on_change


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
    reversion = prepare_revert(session.store, live, epoch)
    for each in reversion.kept:
        say(f"kept: {named(each)} {in_words(each['what'], each['value'])}")
    for stranded in reversion.stranded:
        what = stranded.version or "the whole app"
        say(
            f"stranded: {stranded.app} {what} is unknown to epoch {epoch}; "
            "phones that have it keep it"
        )
    if reversion.keys is not None:
        say(f"warning: trusted keys: {'; '.join(reversion.keys.details)}")
    if reversion.stranded and not confirm(f"Revert to epoch {epoch}?", yes=yes):
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
