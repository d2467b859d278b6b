"""An operators' office in tests: a real Redis, a store, two keys, and the commands in this process.

What is needed to play days of work quickly, and to look afterwards at what Redis and store hold.
"""

import io
import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

import drafts
from compiler import cli
from compiler.commands import session
from compiler.publication.epoch import Publication
from compiler.publication.freezing import freeze_due
from compiler.publication.history import Entry, read_history
from compiler.publication.live import peek_live
from compiler.publication.publisher_key import create_key, load_key
from compiler.publication.seat_records import SeatRecords
from compiler.windows import split_name
from gateway import layout
from gateway.link import connect_sync, parse_url
from gateway.signing import PublicKey, parse_trusted_keys
from interruption import SteppedLink, Steps
from publishing import WORKSPACE, Workshop

if TYPE_CHECKING:
    from collections.abc import Callable

OPERATORS = ("ann", "bob")
CONTROLLER = "controller"


@dataclass(frozen=True)
class Ran:
    """What a command said, to whomever, and its exit code."""

    code: int
    said: str


@dataclass(frozen=True)
class Seated:
    """A window as it stands in Redis or, frozen, in the epoch; None: Redis has lost the seats."""

    hashes: frozenset[int] | None
    frozen: bool


class Office:
    """One workspace, from its first day on."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        """Begin in an empty folder, on a Redis that is emptied."""
        self.folder = folder
        self.plan = folder / "plan"
        self._url = redis_url
        self.workshop = Workshop(
            folder / "store", connect_sync(parse_url(redis_url), timeout_seconds=20)
        )
        self.workshop.link.flushall()
        self.keys = {
            name: create_key(folder / "keys", name, None) for name in (*OPERATORS, CONTROLLER)
        }

    @property
    def trusted(self) -> list[PublicKey]:
        """The public keys of everybody here."""
        texts = (path.with_suffix(".pub").read_text() for path in self.keys.values())
        return list(parse_trusted_keys("\n".join(texts)))

    def close(self) -> None:
        """Go home."""
        self.workshop.link.close()

    def run(self, who: str, *arguments: str, steps: Steps | None = None) -> Ran:
        """Run `tidegate`; `steps` counts what it asks of Redis."""
        places = {
            "TIDEGATE_REDIS": self._url,
            "TIDEGATE_STORE": str(self.workshop.folder),
            "TIDEGATE_WORKSPACE": WORKSPACE,
            "TIDEGATE_KEY": str(self.keys[who]),
            "TIDEGATE_DEBUG": "1",
        }
        said = io.StringIO()
        with (
            patch.dict(os.environ, places),
            patch.object(sys, "argv", ["tidegate", *arguments]),
            redirect_stdout(said),
            redirect_stderr(said),
            _stepped(steps),
            pytest.raises(SystemExit) as ended,
        ):
            cli.main()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, said.getvalue())

    def freeze(self) -> bool:
        """Freeze the windows that are due, as the controller does; tell whether any was."""
        done = freeze_due(
            store=self.workshop.store,
            link=self.workshop.link,
            key=load_key(self.keys[CONTROLLER], None),
            workspace=WORKSPACE,
            now=int(time.time()),
        )
        return done is not None

    def live(self) -> Publication:
        """Read the live epoch, mending nothing."""
        shop = self.workshop
        found = peek_live(shop.store, shop.mirror, WORKSPACE)
        assert found is not None
        return found

    def newest(self, count: int) -> tuple[Entry, ...]:
        """Give the newest entries of the history."""
        digest = self.live().digest
        store = self.workshop.store
        return read_history(store, digest, limit=count, differences=False).entries

    def overrides(self) -> dict[drafts.Place, str]:
        """Give what is laid over the live plan."""
        found = {}
        for each in self.live().tree["overrides"]:
            parts = {
                "check_after": (),
                "member": (each["app"], each["name"]),
                "enabled": (each["app"],),
                "variant": (each["app"],),
            }
            found[each["what"], *parts.get(each["what"], (each["name"],))] = each["value"]
        return found

    def seated(self) -> dict[str, Seated]:
        """Look who sits in each window of the live epoch, by release."""
        windows = self.live().tree["windows"]
        return {name.partition("/")[2]: self._seated(name, each) for name, each in windows.items()}

    def _seated(self, name: str, window: layout.Window) -> Seated:
        if window["seats"]:
            seats = self.workshop.store.get_blob(window["seats"])
            found = (seats[at : at + 8] for at in range(0, len(seats), 8))
            return Seated(frozenset(int.from_bytes(each, "big") for each in found), frozen=True)
        records = SeatRecords(self.workshop.mirror)
        record = records.read(*split_name(name))
        if record is None or not record.has_sets:
            return Seated(None, frozen=False)
        hashes = frozenset(map(int, records.seats(*split_name(name), record)))
        assert record.seated == len(hashes)
        return Seated(hashes, frozen=False)

    def everything(self) -> dict[str, Any]:
        """Give all that a command can change, but blobs, which nobody sees before they are live."""
        client: Any = self.workshop.link
        read: dict[bytes, Callable[[bytes], Any]] = {
            b"string": client.get,
            b"hash": client.hgetall,
            b"set": client.smembers,
        }
        found: dict[str, Any] = {}
        for key in client.scan_iter():
            if b":blob:" not in key and b":bucket:" not in key:
                found[key.decode()] = read[client.type(key)](key)
        for path in ("live", "collected", "lists/vip.json"):
            found[f"store {path}"] = self.workshop.store.get_named(path)
        return found


def _stepped(steps: Steps | None) -> AbstractContextManager[Any]:
    """Let what is connected to Redis from now on count its steps."""
    if steps is None:
        return nullcontext()

    def connect(*arguments: Any, **options: Any) -> Any:
        return SteppedLink(connect_sync(*arguments, **options), steps)

    return patch.object(session, "connect_sync", connect)
