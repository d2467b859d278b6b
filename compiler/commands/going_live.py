"""What every publishing command does in the end: publish, say what came of it, wait."""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any

import typer

from compiler.carried_plan import plan_digests, read_plan
from compiler.commands.console import counted, note, progress, say
from compiler.commands.session import Session, open_key
from compiler.image import Image
from compiler.plan import Plan
from compiler.publication.epoch import Publication, Reader, described
from compiler.publication.gateways import Served, wait_for_gateways
from compiler.publication.publisher import LostRaceError, publish
from compiler.publication.windows import lost
from compiler.refusal import Refused
from compiler.windows import split_name

NOT_YET_EVERYWHERE = 5
REASONS = 20
"""Gateways that are told of one by one."""

_NOTE_CHARS = 1000
_TRIES = 10

Relay = Callable[[Publication, Plan, Reader], tuple[Image | None, str]]
"""Makes an image out of the live epoch, its plan as it is written, and what reads its blobs.

It gives None where the live epoch says the same already, and the words that say what holds then.
"""


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


def publish_and_wait(
    session: Session,
    image: Image,
    *,
    key: str,
    wait: float,
    told: str = "",
    became: Sequence[str] = (),
    tell: Callable[[str], None] = say,
    **options: Any,
) -> None:
    """Publish an image, say what came of it, and wait until every gateway serves it.

    `told` says what it changes, and `became`, a line each, what of the overrides, once that is
    done; `tell` says the result; `options` are those of `publish`. Exits with NOT_YET_EVERYWHERE
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
        tell(f"Epoch {published.number} says the same already: nothing new was published.")
    elif told:
        tell(f"Epoch {published.number} is live: {told}.")
    else:
        tell(
            f"Epoch {published.number} is live: {counted(published.stored, 'blob')} to the "
            f"store, {counted(published.blobs, 'blob')} and "
            f"{counted(published.buckets, 'bucket')} to Redis."
        )
    for line in became:
        note(line)
    for window in lost(session.mirror, image.tree["windows"]):
        app, release = split_name(window)
        note(
            f"Redis has lost the seats of the window {window}: nobody is seated there until "
            f"`tidegate window reopen {app} {release}`."
        )
    served = wait_for_gateways(
        session.mirror, published.number, timeout_seconds=wait, on_change=_quietly(note)
    )
    tell(served.message)
    if served.laggards:
        for name, why in zip(served.laggards[:REASONS], served.reasons, strict=False):
            note(f"{name}: {why or 'it does not say why; look into its log'}")
        raise typer.Exit(NOT_YET_EVERYWHERE)


def publish_on_top(
    session: Session,
    live: Publication,
    apps: Collection[str],
    relay: Relay,
    *,
    tell: Callable[[str], None] = say,
    **options: Any,
) -> None:
    """Publish what `relay` makes of the live epoch, or of the next one if somebody was faster.

    The plan is read with these apps alone; `options` are those of `publish_and_wait`. Raises
    Refused when others are faster all the time, and what `relay` raises.
    """
    for _ in range(_TRIES):
        blobs = dict(session.store.get_blobs(plan_digests(live.tree, apps)))

        def blob(digest: bytes, known: dict[bytes, bytes] = blobs) -> bytes:
            return known.get(digest) or session.store.get_blob(digest)

        image, told = relay(live, read_plan(live.tree, blob, apps), blob)
        if image is None:
            tell(f"{told}: that is so already in {described(live.epoch)}.")
            return
        options |= {"commit": live.epoch["commit"], "force": True, "onto": live}
        try:
            publish_and_wait(session, image, told=told, tell=tell, **options)
        except LostRaceError as race:
            if race.winner is None:
                raise
            note(f"{described(race.winner.epoch)} was faster; once more, on top of it.")
            live = race.winner
        else:
            return
    raise Refused("Others publish all the time; nothing of yours is published. Run it again.")


def _quietly(tell: Callable[[str], None]) -> Callable[[Served], None]:
    def on_change(served: Served) -> None:
        if served.laggards:
            tell(served.message)

    return on_change
