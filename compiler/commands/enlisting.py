"""`tidegate allowlist add` and `remove`: ids are on a list, or off it, at once.

On a list of the live epoch as overrides, whatever its source; a stored list is changed in the
store too, so that the next push says the same and ends them.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import typer

from compiler.amendments import MOST_IDS, laid_ids
from compiler.carried_plan import read_plan
from compiler.commands.console import counted, note, say, say_json
from compiler.commands.given_ids import Column, From, Ids, Name, Shrink, given_ids
from compiler.commands.going_live import Note, Wait, publish_on_top
from compiler.commands.session import (
    DEFAULT_REDIS,
    AsJson,
    KeyFile,
    RedisUrl,
    Session,
    StorePlace,
    WorkspaceName,
    open_session,
)
from compiler.image import Image
from compiler.lists.allowlist import ListIds, ids_from_text
from compiler.lists.amendment import Amended, add_ids, remove_ids
from compiler.lists.stored_list import (
    StoredList,
    amend_stored_list,
    as_data,
    check_amendment,
    read_stored_list,
)
from compiler.plan import ListSource, Plan
from compiler.publication.enlisting import Enlisted, Enlistment, enlist
from compiler.publication.epoch import Publication, Reader, described, read_epoch
from compiler.publication.live import stored_pointer
from compiler.refusal import Refused
from compiler.storage.store import Store, open_store
from gateway.pointer import decode_pointer

LATER = "It takes effect with the next push."
_SHOWN = 3


def add(
    name: Name,
    store: StorePlace,
    ids: Ids = None,
    file: From = "",
    column: Column = "",
    message: Note = "",
    wait: Wait = 10.0,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    workspace: WorkspaceName = "",
    as_json: AsJson = False,
) -> None:
    """Add ids to a list.

    At once, whatever the list's file says; a push of the plan keeps them, and says so. A stored
    list is changed in the store too; one that no epoch has yet, or by more than 10,000 ids, only
    there. One fault in an id, and none is added. Ids that are on the list already are counted.
    """
    given = given_ids(name, ids, file, column)
    options = {"key": key, "wait": wait, "note": message}
    _change(given, True, open_store(store), redis, workspace, options, as_json=as_json)


def remove(
    name: Name,
    store: StorePlace,
    ids: Ids = None,
    file: From = "",
    column: Column = "",
    allow_shrink: Shrink = False,
    message: Note = "",
    wait: Wait = 10.0,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    workspace: WorkspaceName = "",
    as_json: AsJson = False,
) -> None:
    """Remove ids from a list.

    At once and with the store, as `add` does. One fault in an id, and none is removed. Ids that
    are not on the list are counted.
    """
    given = given_ids(name, ids, file, column)
    options = {"key": key, "wait": wait, "note": message}
    place = open_store(store)
    _change(
        given, False, place, redis, workspace, options, as_json=as_json, allow_shrink=allow_shrink
    )


def _change(
    given: ListIds,
    on: bool,
    place: Store,
    redis: str,
    workspace: str,
    options: dict[str, Any],
    *,
    as_json: bool,
    allow_shrink: bool = False,
) -> None:
    """Lay the ids over the live epoch, then change the stored list; say what came of them."""
    name, amend = given.name, partial(add_ids if on else remove_ids, given=given.text)
    session, live = _live(place, redis, workspace)
    source = _source(session, live, name) if session is not None and live is not None else None
    if source is not None:
        in_store = source.stored
        at_once = not (in_store and given.count > MOST_IDS)
    else:  # what lies over a list that the plan has lost ends at once, too
        at_once = live is not None and _lifts(live, given, on)
        in_store = not at_once or read_stored_list(place, name) is not None
    if in_store:
        check_amendment(place, name, amend, given.count, allow_shrink=on or allow_shrink)
    counts, late, data = (0, 0), None, dict[str, Any]({"list": name})
    if at_once:
        assert session is not None
        assert live is not None
        wish = Enlistment(name, tuple(ids_from_text(given.text)), on)
        tell = note if as_json else say
        try:
            counts = _at_once(session, live, wish, tell, options)
        except typer.Exit as fault:  # not yet on every gateway; the store is still to be changed
            late = fault
    if in_store:
        written, amended = amend_stored_list(
            place, name, amend, int(time.time()), allow_shrink=True
        )
        data = as_data(written)
        if not at_once:
            counts = amended.changed, amended.unchanged
        if not as_json:
            say(_outcome(written, counts, on, amended, at_once=at_once))
    if as_json and late is None:
        keys = ("added", "there_already") if on else ("removed", "not_there")
        say_json(data | dict(zip(keys, counts, strict=True)) | {"at_once": at_once})
    if late is not None:
        raise late


def _live(place: Store, redis: str, workspace: str) -> tuple[Session | None, Publication | None]:
    """Read the live epoch; nothing is asked of Redis where the store knows of none."""
    pointer = stored_pointer(place)
    if pointer is None:
        return None, None
    if not workspace:
        _, epoch = read_epoch(place.get_blob(decode_pointer(pointer)[1]))
        workspace = epoch["workspace"]
    session = open_session(redis, place.name, workspace, changes=True)
    session.__dict__["store"] = place
    return session, session.live()


def _source(session: Session, live: Publication, name: str) -> ListSource | None:
    lists = read_plan(live.tree, session.store.get_blob, ()).lists
    return next((each for each in lists if each.name == name), None)


def _lifts(live: Publication, given: ListIds, on: bool) -> bool:
    """Tell whether one of the ids lies over the list the other way."""
    laid = laid_ids(live.tree["overrides"]).get(given.name, ([], []))
    return not set(laid[on]).isdisjoint(ids_from_text(given.text))


def _at_once(
    session: Session,
    live: Publication,
    wish: Enlistment,
    tell: Callable[[str], None],
    options: dict[str, Any],
) -> tuple[int, int]:
    """Publish the ids as overrides, on top of who was faster; give how many changed, or not.

    Raises Refused when who was faster has changed one of these ids to something else.
    """
    before: Enlisted | None = None
    counts = (0, 0)

    def relay(live: Publication, plan: Plan, blob: Reader) -> tuple[Image | None, str]:
        nonlocal before, counts
        if wish.name not in {
            *laid_ids(live.tree["overrides"]),
            *(each.name for each in plan.lists),
        }:
            raise Refused(f"{described(live.epoch)} has no list {wish.name} any more.")
        found = enlist(live, plan, blob, wish)
        for text, there in found.held.items():
            if before and there is not wish.on and there is not before.held[text]:
                raise Refused(
                    f"{described(live.epoch)} has changed {wish.name}/{text} meanwhile: it is "
                    f"{'' if there else 'not '}on the list. Nothing of yours is published."
                )
        before = found
        changed = found.changed(on=wish.on)
        counts = changed, len(wish.ids) - changed
        return found.image, f"{wish.name}: {_counted(counts, on=wish.on)}"

    options = options | {"note": options["note"] or _said(wish)}
    publish_on_top(session, live, (), relay, tell=tell, **options)
    return counts


def _said(wish: Enlistment) -> str:
    more = f" … ({len(wish.ids):,} ids)" if len(wish.ids) > _SHOWN else ""
    verb = "add" if wish.on else "remove"
    return f"allowlist {verb} {wish.name} {' '.join(wish.ids[:_SHOWN])}{more}"


def _counted(counts: tuple[int, int], *, on: bool) -> str:
    changed, unchanged = counts
    if on:
        return f"{changed:,} added, {unchanged:,} there already"
    return f"{changed:,} removed, {unchanged:,} not on it"


def _outcome(
    written: StoredList, counts: tuple[int, int], on: bool, amended: Amended, *, at_once: bool
) -> str:
    has = f"{counted(written.count, f'{written.of} id')}"
    if at_once:
        return f"In the store {written.name} has {has} now; the next push takes them from there."
    later = LATER if amended.changed else "Nothing has changed."
    return f"{written.name}: {_counted(counts, on=on)}. It has {has}. {later}"
