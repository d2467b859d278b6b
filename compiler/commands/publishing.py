"""Commands that publish: push, diff, revert."""

import time
from collections.abc import Callable, Mapping
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
from compiler.image import Image, rebuild_image
from compiler.image_file import load_image
from compiler.plan import Plan
from compiler.publication.checkout import checkout_at, read_checkout
from compiler.publication.difference import Difference, Side, compare_sides, shown
from compiler.publication.epoch import Publication
from compiler.publication.gateways import Served, wait_for_gateways
from compiler.publication.live import read_live
from compiler.publication.publisher import publish
from compiler.publication.revert import prepare_revert
from compiler.publication.versions import check_files
from compiler.publication.windows import carry_over
from compiler.storage.spool import Spool
from compiler.windows import Frozen, windows_of
from gateway import layout
from gateway.errors import FormatError

NOT_YET_EVERYWHERE = 5
_NOTE_CHARS = 1000
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
    wait: Wait = 10.0,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Publish a plan, and wait until every gateway serves it.

    Compiles the plan, or takes what `compile` wrote, and makes it the next epoch, signed with
    your key. Refused, with nothing changed, if the plan does not contain what is live: its Git
    commit must descend from that of the live epoch.
    """
    if plan.is_file():
        try:
            image, commit = load_image(plan)
        except FormatError as fault:
            raise typer.BadParameter(f"{fault}.") from None
        session = open_session(redis, store, workspace or _workspace_of(image), changes=True)
        live = read_live(session.store, session.mirror, session.workspace)
        image = _under_withdrawals(image, live, session)
        checkout = checkout_at(read_checkout(_HERE), commit)
    else:
        image, session, live = _compile(plan, redis, store, workspace, changes=True)
        commit, checkout = None, read_checkout(plan)
    known = live.tree if live is not None else None
    check_files(session.store, image.tree, image.blobs.__getitem__, known)
    for each in image.tree["withdrawals"]:
        note(f"kept from before: {each['app']} {each['version']} stays withdrawn")
    publish_and_wait(
        session,
        image,
        key=key,
        wait=wait,
        note=message,
        checkout=checkout,
        commit=commit,
        base=base,
        force=force,
        allow_shrink=allow_shrink,
    )


def _workspace_of(image: Image) -> str:
    settings: layout.Settings = layout.decode(
        layout.Settings, image.blobs[image.contents["settings"]]
    )
    return settings["workspace"]


def _under_withdrawals(
    image: Image, live: Publication | None, unfrozen: Session | None = None
) -> Image:
    """Lay the live epoch's withdrawals over an image that was compiled without them.

    If it was compiled without a look at Redis, `unfrozen` tells which windows are frozen.
    """
    frozen = None
    if live is not None and unfrozen is not None:
        known, wanted = live.tree["windows"], image.tree["windows"]
        frozen = carry_over(unfrozen.mirror, known, wanted, unfrozen.store.get_blob)
    if live is None or not (live.tree["withdrawals"] or frozen):
        return image
    return rebuild_image(
        image.tree,
        image.contents["membership"],
        image.blobs.__getitem__,
        live.tree["withdrawals"],
        Spool(),
        frozen,
    )


def _compile(
    plan: Path, redis: str, store: str, workspace: str, *, changes: bool
) -> tuple[Image, Session, Publication | None]:
    """Compile a folder, with the live epoch's withdrawals laid over it."""
    session: Session | None = None
    if workspace:
        session = open_session(redis, store, workspace, changes=changes)

    def frozen(found: Plan) -> Mapping[str, Frozen]:
        place = open_session(redis, store, workspace or found.workspace.name)
        live = read_live(place.store, place.mirror, place.workspace)
        known = live.tree["windows"] if live is not None else {}
        return carry_over(place.mirror, known, windows_of(found.apps), place.store.get_blob)

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
    live = read_live(session.store, session.mirror, session.workspace)
    return _under_withdrawals(image, live), session, live


def publish_and_wait(
    session: Session, image: Image, *, key: str, wait: float, **options: Any
) -> None:
    """Publish an image, say what came of it, and wait until every gateway serves it.

    `options` are those of `publish`. Exits with NOT_YET_EVERYWHERE when a gateway lags behind.
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

    It gets a new number, as numbers never fall. What was withdrawn since stays withdrawn, and
    what phones have of versions that the earlier epoch does not know is named first, and so is a
    change of the keys that the plan trusts.
    """
    session = open_session(redis, store, workspace, changes=True)
    live = session.live()
    reversion = prepare_revert(session.store, live, epoch, session.mirror)
    for withdrawn in reversion.kept:
        say(f"stays withdrawn: {withdrawn['app']} {withdrawn['version']}")
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
