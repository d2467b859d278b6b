"""Following the live epoch: hear of it, load it aside, verify it, swap one reference.

The pointer is read twice a second, and at once on a notice. Whatever goes wrong, what was served
stays served: a pointer to something that must not be served changes nothing but the counters.
"""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import NoReturn

import structlog

from gateway import cold_start, layout
from gateway.config import Config
from gateway.errors import FormatError, StoreError
from gateway.fetching import fetch
from gateway.kept import Kept
from gateway.keys import Keys
from gateway.lifecycle import TABLE, Event, State
from gateway.link import AsyncLink, RedisFault
from gateway.loading import Loading, Mark, Rules, hold_to_history
from gateway.metrics import Metrics, Served
from gateway.pointer import decode_pointer
from gateway.shelf import Shelf
from gateway.snapshot import Snapshot

POLL_SECONDS = 0.5
MAX_POLL_SECONDS = 2.0
"""While Redis is away, the poll slows down to this."""

RETIRE_SECONDS = 2.0
"""Longer than checks wait, unless they are told to."""

MAX_RETRY_SECONDS = 10.0
"""While an epoch's blobs are not all there, loading it slows down to this."""

REMEMBERED = 1_000
"""Refused epochs that are remembered, and so not loaded again."""

NOT_TAKEN = "the live epoch is not taken: "

log = structlog.get_logger()

Fetch = Callable[[Sequence[bytes]], AsyncIterator[dict[bytes, bytes]]]


class Follower:
    """Holds the served snapshot, None before the first; it alone changes it."""

    def __init__(self, config: Config, link: AsyncLink, keys: Keys, metrics: Metrics) -> None:
        self.snapshot: Snapshot | None = None
        self.activated = 0.0
        self.swapped = asyncio.Event()
        self.state = State.EMPTY
        self.why = ""  # it is not LIVE, in a sentence without secrets; "" while it is
        self.redis_ahead: float | None = None  # by so many seconds, as far as known
        self._answered = time.monotonic()
        self._config = config
        self._link = link
        self._keys = keys
        self._metrics = metrics
        self._kept = Kept(config.cache)
        self._highest: Mark | None = None
        self._blobs: Mapping[bytes, layout.Blob] = {}
        self._partial: Mapping[bytes, layout.Blob] = {}
        self._refused: dict[Mark, str] = {}
        self._said: set[str] = set()
        self._retry: tuple[Mark | None, float, float] = (None, 0.0, 0.0)
        self._retried = ""
        self._spared = 0
        self._heard = asyncio.Event()
        self._settling: asyncio.Task[None] | None = None
        metrics.served = self._served

    async def start(self) -> None:
        """Serve an epoch if any can be had: from Redis, else the disk, else the store.

        Raises StoreError when the highest epoch served before is kept, but unreadable.
        """
        self._highest = await asyncio.to_thread(self._kept.highest)
        await self._follow_safely()
        await self._restore()

    async def _restore(self) -> None:
        for restore in (self._restore_kept, self._restore_stored):
            if self.snapshot is None:
                try:
                    await restore()
                except (FormatError, StoreError, OSError) as fault:
                    self._say("an epoch could not be restored", why=str(fault))

    async def run(self) -> NoReturn:
        """Follow for ever."""
        wait = POLL_SECONDS
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), wait)
            self._heard.clear()
            reached = await self._follow_safely()
            wait = POLL_SECONDS if reached else min(wait * 2, MAX_POLL_SECONDS)
            await self._restore()
            self._spare()

    def silence(self) -> float:
        """Tell for how many seconds Redis has said nothing, from the start if it never has."""
        return time.monotonic() - self._answered

    def take_clock(self, ahead: float) -> None:
        """Note by how many seconds Redis's clock is ahead."""
        self.redis_ahead = ahead

    def hear(self) -> None:
        """Look at the pointer now: somebody says that it moved."""
        self._heard.set()

    async def close(self) -> None:
        """Let a write to the disk finish."""
        if self._settling is not None:
            await asyncio.gather(self._settling, return_exceptions=True)

    async def _follow_safely(self) -> bool:
        """Take one look at the pointer; tell whether Redis answered."""
        try:
            await self._follow()
        except RedisFault as fault:
            self._metrics.redis_errors += 1
            self._become(Event.LOST, f"Redis is away: {str(fault) or type(fault).__name__}")
            return False
        except (FormatError, StoreError) as fault:
            self._metrics.refused_epochs += 1
            self._say("the live epoch is not taken", why=str(fault))
            self._become(Event.LOST, NOT_TAKEN + str(fault))
        except Exception as fault:  # a bug must not end the following, nor hide
            self._metrics.failures += 1
            log.exception("following the live epoch failed")
            self._become(Event.LOST, f"a fault in the gateway: {fault!r}")
            return False
        return True

    async def _follow(self) -> None:
        text = await self._link.get(self._keys.live)
        self._answered = time.monotonic()
        if text is None:
            self._become(Event.LOST, "Redis names no live epoch")
            return
        assert isinstance(text, bytes)  # no link of ours decodes
        mark = Mark(*decode_pointer(text))
        if self.snapshot is not None and self._mark() == mark:
            self._become(Event.FOLLOWED, "Redis names the served epoch")
            return
        tried, at, delay = self._retry
        if mark in self._refused or (tried == mark and time.monotonic() < at):
            self._become(Event.LOST, self._refused.get(mark, self._retried))
            return
        try:
            hold_to_history(mark, self._highest)
            await self._take(mark.digest, self._fetch, number=mark.number)
        except FormatError as fault:
            # Its bytes are what its digest says, so it will never be better.
            if len(self._refused) >= REMEMBERED:
                del self._refused[next(iter(self._refused))]
            self._refused[mark] = NOT_TAKEN + str(fault)
            raise
        except StoreError as fault:
            # Blobs may yet come, as an emptied Redis is filled again.
            delay = min(delay * 2, MAX_RETRY_SECONDS) if tried == mark else POLL_SECONDS
            self._retry = mark, time.monotonic() + delay, delay
            self._retried = NOT_TAKEN + str(fault)
            raise
        self._become(Event.FOLLOWED, "Redis names the served epoch")

    async def _take(self, digest: bytes, fetched: Fetch, *, number: int | None = None) -> None:
        """Load, verify, build, swap. Raises FormatError, StoreError, RedisFault."""
        with ExitStack() as stack:
            shelf = await self._mapped(digest)
            if shelf is None:
                await asyncio.to_thread(stack.enter_context, self._kept.turn(digest))
                shelf = await self._mapped(digest)  # by now another worker may have written it
            loading = await self._load(digest, fetched, shelf)
            assert loading.epoch is not None
            found = loading.epoch["number"]
            if number is not None and found != number:
                raise FormatError(f"the pointer says epoch {number}, but names epoch {found}")
            blobs = await self._shelve(loading, shelf)
        built = await asyncio.to_thread(loading.build, self.snapshot, blobs)
        mark = Mark(found, digest)
        self._highest = await self._remember(mark)
        hold_to_history(mark, self._highest)  # another worker of this folder may be ahead
        if blobs is not loading.blobs:
            await asyncio.to_thread(loading.blobs.clear)  # which takes its time, as in _swap
        self._spared = 0
        self._swap(built, blobs)

    async def _load(self, digest: bytes, fetched: Fetch, shelf: Shelf | None) -> Loading:
        config = self._config
        rules = Rules(config.workspace, config.trusted, self._highest, config.url_secret)
        loading = Loading(digest, rules, shelf or {}, self._partial, self._blobs)
        try:
            while missing := await asyncio.to_thread(loading.missing):
                async for blobs in fetched(missing):
                    await asyncio.to_thread(loading.feed, blobs)
        except (StoreError, *RedisFault):
            self._partial = loading.blobs  # what came is good, and need not come again
            raise
        self._partial = {}
        return loading

    async def _mapped(self, digest: bytes) -> Shelf | None:
        try:
            return await asyncio.to_thread(self._kept.load, digest)
        except StoreError as fault:
            self._say("a kept epoch is loaded anew", why=str(fault))
            return None

    async def _shelve(self, loading: Loading, shelf: Shelf | None) -> Mapping[bytes, layout.Blob]:
        """Move the blobs into an image that all workers of the machine map, if that can be."""
        if shelf is not None and loading.blobs.keys() <= shelf.keys():
            return shelf
        try:
            await asyncio.to_thread(self._kept.save, loading.digest, loading.blobs.values())
        except OSError as fault:
            # A full disk costs memory, not service.
            self._say("the epoch cannot be kept on disk", why=str(fault))
            return loading.blobs
        return await self._mapped(loading.digest) or loading.blobs

    def _swap(self, built: Snapshot, blobs: Mapping[bytes, layout.Blob]) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(RETIRE_SECONDS, loop.run_in_executor, None, _retire, self.snapshot)
        self.snapshot = built
        self.activated = time.time()
        self._highest = self._mark()
        self._blobs = blobs
        self._metrics.swaps += 1
        self._metrics.sort_out()  # a release may have got a guardrail
        self.swapped.set()
        self._spare()
        log.info("epoch served", epoch=built.number, digest=built.digest.hex())
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settle())

    def _spare(self) -> None:
        """Take decoded programs out of the garbage collector's sight.

        To walk those of 10,000 apps holds up the event loop for half a second, and no garbage is
        in them. Whatever else lives now goes with them, and is still freed when it is let go; only
        a cycle among it would stay for ever, and neither connections nor snapshots leave any.
        """
        known = 0 if self.snapshot is None else len(self.snapshot.apps.known)
        if known != self._spared:
            self._spared = known
            gc.freeze()

    async def _remember(self, mark: Mark) -> Mark:
        """Write the number down before it is served: then no restart can go below it.

        Give the highest that stands, which another worker may have written.
        """
        try:
            return await asyncio.to_thread(self._kept.remember, mark)
        except (OSError, StoreError) as fault:
            # A full disk must not stop a roll-back; what is lost is the guard across a restart.
            self._say("the highest epoch cannot be kept on disk", why=str(fault))
            return mark

    async def _settle(self) -> None:
        settled = b""
        while self.snapshot is not None and settled != self.snapshot.digest:
            settled = self.snapshot.digest
            if isinstance(self._blobs, Shelf):
                try:
                    await asyncio.to_thread(self._kept.settle, settled)
                except (OSError, StoreError) as fault:
                    self._say("the kept epoch may not survive a power cut", why=str(fault))

    async def _fetch(self, digests: Sequence[bytes]) -> AsyncIterator[dict[bytes, bytes]]:
        async for blobs in fetch(self._link, self._keys, digests):
            yield blobs

    async def _restore_kept(self) -> None:
        highest = self._highest  # only that one may be served
        if highest is None or not self._kept.path(highest.digest).exists():
            return

        async def nothing(digests: Sequence[bytes]) -> AsyncIterator[dict[bytes, bytes]]:
            raise StoreError(f"blob {digests[0].hex()} is not in the kept epoch")
            yield {}

        await self._take(highest.digest, nothing, number=highest.number)
        self._become(Event.RESTORED, "restored from the disk")

    async def _restore_stored(self) -> None:
        store = self._config.store
        if store is None:
            return
        pointer = await asyncio.to_thread(cold_start.read_pointer, store)
        if pointer is None:
            return

        async def from_store(digests: Sequence[bytes]) -> AsyncIterator[dict[bytes, bytes]]:
            for digest in digests:
                yield {digest: await asyncio.to_thread(cold_start.read_blob, store, digest)}

        number, digest = decode_pointer(pointer)
        await self._take(digest, from_store, number=number)
        self._become(Event.RESTORED, "restored from the store")

    def _mark(self) -> Mark:
        assert self.snapshot is not None
        return Mark(self.snapshot.number, self.snapshot.digest)

    def _become(self, event: Event, why: str) -> None:
        before, self.state = self.state, TABLE[self.state, event]
        if event is not Event.RESTORED:
            said, self.why = self.why, why if event is Event.LOST else ""
            if self.why != said:
                self.swapped.set()  # the announcer says so at once
        if self.state is not before:
            level = log.warning if event is Event.LOST else log.info
            level("serving state", state=self.state.value, why=why)

    def _say(self, sentence: str, *, why: str) -> None:
        """Log what may come again with every poll, but once."""
        if why not in self._said and len(self._said) < REMEMBERED:
            self._said.add(why)
            log.error(sentence, why=why)

    def _served(self) -> Served | None:
        if self.snapshot is None:
            return None
        return Served(
            self.snapshot.number,
            self.snapshot.epoch["time"],
            self.activated,
            live=self.state is State.LIVE,
            why=self.why,
            silence=self.silence(),
            redis_ahead=self.redis_ahead,
        )


def _retire(snapshot: Snapshot | None) -> None:
    """Free what was served, in a thread, when no check that waits for Redis still needs it.

    Freeing the programs of 10,000 apps takes 50 ms, which the event loop has not: one by one, so
    that it gets its turns in between. Should a check hold on for longer, it decodes its app anew.
    """
    if snapshot is not None:
        known = snapshot.apps.known
        while known:
            known.popitem()
