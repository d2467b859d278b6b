"""Time windows at a publication: what freezes, and what their records in Redis say.

    due          which windows are full or over, and not yet frozen
    carry_over   which windows are frozen in the epoch to come; the image is made of that
    prepare      before the pointer moves: of what changes, new records and whatever seats fewer
    settle       after it: whatever seats more, by the tree of the epoch that is live then

So a pause holds before any gateway can hear of it, and a push that loses its race has opened
nothing. A window freezes when it is full or over, by its record and by the plan: nobody else will
be seated, so its seats can be a list. Raising `first` or `until` thaws it: its seats are written
back. An override changes nothing but the states of the windows that it touches: it freezes and
thaws none. A record that Redis has lost is made by `reopen` alone; so is one whose seats `gc` has
dropped, and whose release came back after the plan had been without it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from compiler.progress import Progress, quiet
from compiler.publication.epoch import Publication, Reader, read_publication
from compiler.publication.mirror import Mirror
from compiler.publication.seat_records import SeatRecord, SeatRecords, limits_of
from compiler.refusal import Refused
from compiler.windows import Frozen, freeze, kind_of, split_name
from gateway import layout
from gateway.pointer import decode_pointer
from gateway.seating import FROZEN, OPEN, THAWED, shard_count

if TYPE_CHECKING:  # numpy is imported where it is used, as in compiler/windows.py
    from compiler.windows import Hashes

Windows = Mapping[str, layout.Window]

_ENDED = "ended"
_GROWN = 1.5
"""Seats are spread anew once so many times the sets are meant: of twice as many seats every other
set would be too large to be packed, and take four times the memory."""


def due(mirror: Mirror, windows: Windows) -> dict[str, int]:
    """Find the windows that are full or over and not yet frozen, and how many seats each has."""
    opened = {name: each for name, each in windows.items() if not each["seats"]}
    said = SeatRecords(mirror).read_many(map(split_name, opened))
    return {
        name: record.seated
        for name, window in opened.items()
        if (record := said[split_name(name)]) is not None and _is_due(window, record)
    }


def _is_due(window: layout.Window, record: SeatRecord) -> bool:
    """Tell whether nobody else will be seated, by plan and record, and the seats are there."""
    closed = record.seated >= window["first"] or record.now >= window["until"]
    return closed and record.is_closed and record.has_sets


def carry_over(
    mirror: Mirror,
    known: Windows,
    wanted: Windows,
    blob: Reader,
    progress: Progress = quiet,
) -> dict[str, Frozen]:
    """Find which of the wanted windows are frozen in the next epoch, with their seats.

    `known` are those of the live epoch; its frozen seats come from `blob`. Raises Refused when
    `by` of a window with seats would change; StoreError, FormatError.
    """
    records = SeatRecords(mirror)
    found = {}
    names = [name for name in wanted if name in known]
    said = records.read_many(map(split_name, names))
    for name in names:
        window, before = wanted[name], known[name]
        app, release = split_name(name)
        record = said[app, release]
        seated = before["count"] if before["seats"] else record.seated if record else 0
        if seated and kind_of(before) != kind_of(window):
            raise Refused(
                f"The window of {name} has {seated:,} seats of its {kind_of(before)}s, so `by` "
                "cannot change. Give the release another id."
            )
        if before["seats"]:
            now = record.now if record is not None else mirror.now()
            if seated >= window["first"] or now >= window["until"]:
                found[name] = Frozen(blob(before["seats"]))
        elif record is not None and _is_due(window, record):
            found[name] = freeze(records.seats(app, release, record, progress))
    return found


def prepare(mirror: Mirror, before: Windows, after: Windows, blob: Reader) -> None:
    """Bring the records to what both epochs allow; `blob` gives the seats of `before`.

    Raises Refused when a window to be frozen has got other seats meanwhile.
    """
    records = SeatRecords(mirror)
    for name, window in after.items():
        if before.get(name) != window:  # else the record allows no more than the window does
            _prepare(records, name, before.get(name), window, blob)
    for name in before.keys() - after.keys():
        records.change(*split_name(name), {"state": _ENDED})


def _prepare(
    records: SeatRecords,
    name: str,
    before: layout.Window | None,
    window: layout.Window,
    blob: Reader,
) -> None:
    if window["seats"]:
        if before is not None:
            _freeze(records, name, before, window)
        return
    app, release = split_name(name)
    record = records.read(app, release)
    if before is not None and before["seats"]:
        _thaw(records, name, window, Frozen(blob(before["seats"])), record)
        return
    if record is None:
        if before is None:  # else Redis has lost it
            records.make(app, release, window, _state(window), 0)
        return
    lower: dict[str, str | int] = {
        "first": min(record.first, window["first"]),
        "until": min(record.until, window["until"]),
    }
    if _state(window) != OPEN:
        lower["state"] = _state(window)
    if any(_said(record)[field] != value for field, value in lower.items()):
        records.change(app, release, lower)
    if shard_count(window["first"]) > _GROWN * record.shards > 0:
        _spread(records, name, window)


def _freeze(records: SeatRecords, name: str, before: layout.Window, window: layout.Window) -> None:
    """Let nobody else be seated, if those who are stand in the epoch to come."""
    if before["seats"] == window["seats"]:
        return
    seated = before["count"]
    if not before["seats"]:
        state: dict[str, str | int] = {"state": _state(window)}
        seated = records.change(*split_name(name), state, seated=window["count"])
        if seated in (window["count"], -1):  # or Redis has lost it since
            return
    raise _other_seats(name, seated, window["count"])


def _thaw(
    records: SeatRecords,
    name: str,
    window: layout.Window,
    frozen: Frozen,
    record: SeatRecord | None,
) -> None:
    """Write the seats of a frozen window back; `settle` opens it."""
    if record is None:
        app, release = split_name(name)
        records.make(app, release, {**window, "first": frozen.count}, THAWED, frozen.count)
    record = _hold(records, name)
    if record.seated > frozen.count:  # somebody else's push has opened it
        raise _other_seats(name, record.seated, frozen.count)
    _move(records, name, window, record, frozen.hashes)


def _spread(records: SeatRecords, name: str, window: layout.Window) -> None:
    """Spread the seats of an open window over more sets; `settle` opens it again."""
    record = _hold(records, name)
    _move(records, name, window, record, records.seats(*split_name(name), record))


def _hold(records: SeatRecords, name: str) -> SeatRecord:
    """Let nobody else be seated, nor `gc` drop the sets; give the record as it is from then on."""
    window = split_name(name)
    for state in (OPEN, FROZEN):  # one that is paused stays so
        records.change(*window, {"state": THAWED}, state=state)
    record = records.read(*window)
    if record is None:
        raise _other_seats(name, 0, 0)
    return record


def _move(
    records: SeatRecords, name: str, window: layout.Window, record: SeatRecord, hashes: "Hashes"
) -> None:
    """Put seats into sets of the window's size, if the record is still what they were read of.

    Two pushes may do so at once, and a third one may have let the window seat somebody meanwhile.
    Raises Refused.
    """
    app, release = split_name(name)
    moved = replace(record, shards=shard_count(window["first"]), sets=records.fresh())
    records.fill(app, release, hashes, moved.shards, moved.sets)
    fields: dict[str, str | int] = {
        "shards": moved.shards,
        "sets": moved.sets,
        "seated": max(len(hashes), record.seated),
    }
    seated = records.change(app, release, fields, sets=record.sets, seated=record.seated)
    if seated != record.seated:
        records.drop(app, release, moved)
        raise _other_seats(name, max(seated, 0), record.seated)
    records.drop(app, release, record)


def _other_seats(name: str, found: int, wanted: int) -> Refused:
    return Refused(
        f"The window of {name} has got other seats meanwhile: {found:,}, not {wanted:,}. "
        "Push again."
    )


def settle(mirror: Mirror, blob: Reader, known: Sequence[Publication] = ()) -> None:
    """Let the records follow the epoch that is live, whoever published it.

    `known` need not be read again.
    """
    records, read = SeatRecords(mirror), {each.pointer: each for each in known}
    while (pointer := mirror.pointer()) is not None:
        live = read.get(pointer) or read_publication(decode_pointer(pointer)[1], blob)
        windows = live.tree["windows"]
        for name, wanted in unsettled(mirror, windows).items():
            records.change(*split_name(name), wanted)
        if mirror.pointer() == pointer:
            return


def unsettled(mirror: Mirror, windows: Windows) -> dict[str, dict[str, str | int]]:
    """Find the records that do not say what these windows do, and what they should say."""
    said = SeatRecords(mirror).read_many(map(split_name, windows))
    found = {}
    for name, window in windows.items():
        record = said[split_name(name)]
        wanted = limits_of(window) | {"state": _state(window)}
        if record is not None and wanted != _said(record):
            found[name] = wanted
    return found


def _said(record: SeatRecord) -> dict[str, str | int]:
    return {
        "first": record.first,
        "until": record.until,
        "starts": "" if record.starts is None else record.starts,
        "by": record.by,
        "state": record.state,
    }


def reopen(mirror: Mirror, windows: Windows, name: str) -> int:
    """Make the record anew that Redis has lost; give the number of free seats.

    Raises Refused when there is no such window, when it is frozen, or its record is there.
    """
    window = windows.get(name)
    if window is None:
        raise Refused(f"The live epoch has no window {name}.")
    if window["seats"]:
        raise Refused(
            f"The window {name} is frozen with {window['count']:,} seats, which are no longer in "
            "Redis but in the epoch. To seat more, raise first or until in the plan."
        )
    records = SeatRecords(mirror)
    app, release = split_name(name)
    record = records.read(app, release)
    if record is not None and not record.has_sets:
        records.forget(app, release)
    if not records.make(app, release, window, _state(window), 0):
        raise Refused(f"Redis has the record of the window {name}: nothing was lost.")
    return window["first"]


def collect(mirror: Mirror, kept: list[Windows], *, dry_run: bool) -> int:
    """Delete what no kept epoch asks Redis for; give how many keys. `kept` begins with the live.

    That is the seats of windows that are frozen in all of them, whatever is of windows that none
    has any more, and seats that no record names.
    """
    records, gone = SeatRecords(mirror), 0
    for (app, release), sets in records.every().items():
        found = [each[f"{app}/{release}"] for each in kept if f"{app}/{release}" in each]
        record = records.read(app, release)
        gone += records.drop_orphans(sets, record, dry_run=dry_run)
        if record is None or any(not each["seats"] for each in found):
            continue
        if dry_run:
            gone += record.shards
            continue
        state = FROZEN if found else _ENDED
        # From here on nobody looks into the sets; a thaw meanwhile writes others.
        if record.shards and records.change(app, release, {"shards": 0}, state=state) >= 0:
            gone += records.drop(app, release, record)
        if not found and record.state == _ENDED:
            records.forget(app, release)
            gone += 1
    return gone


def _state(window: layout.Window) -> str:
    """Give what the record's state is to be."""
    if window["state"] != "live":
        return window["state"]
    return FROZEN if window["seats"] else OPEN


def lost(mirror: Mirror, windows: Windows) -> Iterator[str]:
    """Name the open windows whose seats Redis has lost."""
    records = SeatRecords(mirror)
    said = records.read_many(map(split_name, windows))
    for name, window in windows.items():
        record = said[split_name(name)]
        if not window["seats"] and (record is None or not record.has_sets):
            yield name
