"""Following the live epoch: law 7 in every form of a bad artefact, and where epochs come from."""

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from epochs import KEY, OTHER_KEY, WORKSPACE, Made, make_epoch, public_key
from gateway import follower as following
from gateway import layout
from gateway.config import Config, read_config
from gateway.errors import FormatError, StoreError
from gateway.follower import Follower
from gateway.kept import Kept
from gateway.keys import Keys
from gateway.lifecycle import TABLE, Event, State
from gateway.link import connect_async
from gateway.loading import Loading, Rules
from gateway.metrics import Metrics
from gateway.notice import listen
from gateway.pointer import encode_pointer
from gateway.shelf import Shelf
from gateway.signing import public_line
from gateway.verify import verify_epoch
from in_process import until
from processes import RedisServer, redis_server

KEYS = Keys(WORKSPACE)
TRUSTED = (public_key(KEY),)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run a Redis for the tests that leave it alive."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    """Give the shared Redis, emptied."""
    with shared.client() as client:
        client.flushall()
    return shared


def settings(server: RedisServer, folder: Path, **variables: str) -> Config:
    """Read a gateway's settings; variables without TIDEGATE_."""
    return read_config(
        {
            "TIDEGATE_WORKSPACE": WORKSPACE,
            "TIDEGATE_REDIS": server.url,
            "TIDEGATE_CACHE": str(folder),
            **{f"TIDEGATE_{name}": text for name, text in variables.items()},
        }
    )


@asynccontextmanager
async def follower(config: Config) -> AsyncIterator[Follower]:
    """Start a follower, polled only when a test says so."""
    link = connect_async(config.redis, timeout_seconds=20)
    made = Follower(config, link, KEYS, Metrics())
    await made.start()
    try:
        yield made
    finally:
        await made.close()
        await link.aclose()


def number(found: Follower) -> int | None:
    """Give the number of the served epoch."""
    return found.snapshot.number if found.snapshot else None


def spoiled(made: Made, how: str) -> dict[bytes, bytes]:
    """Give an epoch's blobs, one of which is not what its digest says."""
    blobs = dict(made.blobs)
    victim = next(digest for digest, blob in blobs.items() if blob[4:5] == how[0].encode())
    blob = blobs[victim]
    half = len(blob) // 2
    blobs[victim] = {
        "cut": blob[:half],
        "flipped": blob[:half] + bytes([blob[half] ^ 1]) + blob[half + 1 :],
        "longer": blob + b"\0",
        "empty": b"",
        "absent": b"",
    }[how[2:]]
    if how[2:] == "absent":
        del blobs[victim]
    return blobs


KINDS = ("E", "C", "S", "P", "M", "H")
DAMAGES = ("cut", "flipped", "longer", "empty", "absent")


@pytest.mark.parametrize("how", [f"{k} {d}" for k, d in itertools.product(KINDS, DAMAGES)])
async def test_a_damaged_blob_is_never_served(
    server: RedisServer, tmp_path: Path, how: str
) -> None:
    """Law 7: with any blob cut, changed or gone the old epoch stays; once whole, it is taken."""
    good, bad = make_epoch(1), make_epoch(2, staff=("u-1",))
    with server.client() as client:
        good.write(client)
        async with follower(settings(server, tmp_path)) as found:
            assert number(found) == 1
            Made(2, bad.digest, spoiled(bad, how)).write(client)
            await found._follow_safely()
            assert (number(found), found.state) == (1, State.KEPT)
            assert found._metrics.refused_epochs == 1
            why = found.why
            await found._follow_safely()
            assert why.startswith("the live epoch is not taken: ")
            assert why == found.why
            bad.write(client)
            found._retry = (None, 0.0, 0.0)  # do not wait for the next try's time
            await found._follow_safely()
            assert (number(found), found.state, found.why) == (2, State.LIVE, "")


def resigned(**fields: bytes) -> Made:
    """Make epoch 2 with other fields in its envelope."""
    made = make_epoch(2)
    signed = layout.decode(layout.Signed, made.blobs[made.digest]) | fields
    blob = layout.encode(layout.Signed, signed)
    return Made(2, layout.digest_of(blob), made.blobs | {layout.digest_of(blob): blob})


def with_epoch(**fields: Any) -> Made:
    """Make epoch 2 with other fields, soundly signed; None takes a field away."""
    made = make_epoch(2)
    inner = layout.unpack_map(
        layout.Epoch, layout.decode(layout.Signed, made.blobs[made.digest])["epoch"]
    )
    changed = {name: value for name, value in (inner | fields).items() if value is not None}
    epoch = layout.pack_map(changed)
    return resigned(epoch=epoch, signature=KEY.sign(layout.SIGNED_CONTEXT + epoch))


def contents_as_epoch() -> Made:
    """Make a pointer that names a blob of another kind."""
    made = make_epoch(2)
    digest = next(digest for digest, blob in made.blobs.items() if blob[4:5] == b"C")
    return Made(2, digest, made.blobs)


FOREIGN = {
    "another key": (lambda: make_epoch(2, key=OTHER_KEY), "which TIDEGATE_TRUSTED_KEYS does not"),
    "another workspace": (lambda: make_epoch(2, workspace="other"), "is of workspace 'other'"),
    "an unsigned epoch": (lambda: resigned(signature=b""), "signature does not hold"),
    "a signature of another epoch": (lambda: resigned(signature=bytes(64)), "does not hold"),
    "a trusted key over a foreign signature": (
        lambda: resigned(signature=OTHER_KEY.sign(b"x"), key=TRUSTED[0].raw),
        "does not hold",
    ),
    "another format": (lambda: with_epoch(format=3), "is in data format 3"),
    "a missing field": (lambda: with_epoch(note=None), "must have exactly the fields"),
    "no contents": (lambda: with_epoch(contents=b""), "does not name its contents"),
    "number zero": (lambda: with_epoch(number=0), "has a number that no epoch has"),
    "a contents blob instead": (contents_as_epoch, "is of kind 'C'"),
}


@pytest.mark.parametrize("name", FOREIGN)
async def test_a_foreign_epoch_is_never_served(
    server: RedisServer, tmp_path: Path, name: str
) -> None:
    """Law 7: what is signed by others, for others, or not at all, changes nothing; once is said."""
    make, sentence = FOREIGN[name]
    with server.client() as client:
        make_epoch(1).write(client)
        trusted = public_line(TRUSTED[0])
        async with follower(settings(server, tmp_path, TRUSTED_KEYS=trusted)) as found:
            bad = make()
            bad.write(client)
            for _ in range(3):
                await found._follow_safely()
            assert (number(found), found.state) == (1, State.KEPT)
            assert found._metrics.refused_epochs == 1  # its bytes are not read again
            assert [why for why in found._said if sentence in why], found._said
            make_epoch(3).write(client)
            await found._follow_safely()
            assert (number(found), found.state) == (3, State.LIVE)
            assert found.snapshot
            assert found.snapshot.epoch["author"] == "ann"  # the key's name, not what it claims


async def test_an_older_pointer_is_never_followed(server: RedisServer, tmp_path: Path) -> None:
    """Law 7: a replayed pointer, or another epoch of one number, is refused, restart or not."""
    with server.client() as client:
        for at in (1, 2):
            make_epoch(at).write(client)
        async with follower(settings(server, tmp_path)) as found:
            assert number(found) == 2
            for made in (make_epoch(1), make_epoch(2, version="6.6.6.6")):
                made.write(client)
                await found._follow_safely()
                assert (number(found), found.state) == (2, State.KEPT)
        for made in (make_epoch(1), make_epoch(2, version="6.6.6.6")):
            made.write(client)
            async with follower(settings(server, tmp_path)) as restarted:
                assert restarted.snapshot
                assert restarted.snapshot.digest == make_epoch(2).digest
                assert restarted.state is State.KEPT
        Kept(tmp_path).path(make_epoch(2).digest).unlink()
        async with follower(settings(server, tmp_path)) as bare:
            assert number(bare) is None  # rather nothing than an older one


async def test_a_pointer_cannot_rename_an_epoch(server: RedisServer, tmp_path: Path) -> None:
    """A pointer with another number than the signed one is refused, and spoils nothing later."""
    with server.client() as client:
        make_epoch(1).write(client)
        async with follower(settings(server, tmp_path)) as found:
            made = make_epoch(5)
            made.write(client, live=False)
            client.set(KEYS.live, encode_pointer(9, made.digest))
            await found._follow_safely()
            assert number(found) == 1
            client.set(KEYS.live, b"what is this")
            await found._follow_safely()
            assert number(found) == 1
            made.write(client)
            await found._follow_safely()
            assert number(found) == 5


async def test_a_notice_is_heard_before_the_poll(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push's notice wakes the follower, however far off its next look at the pointer is."""
    monkeypatch.setattr(following, "POLL_SECONDS", 3_600.0)
    with server.client() as client:
        make_epoch(1).write(client)
        async with follower(settings(server, tmp_path)) as found:
            await found._follow_safely()
            running = asyncio.create_task(found.run())
            config = settings(server, tmp_path)
            listening = asyncio.create_task(listen(config.redis, KEYS.notice, found.hear))
            await until(lambda: client.pubsub_numsub(KEYS.notice)[0][1])
            make_epoch(2).write(client)
            client.publish(KEYS.notice, b"2")
            await until(lambda: number(found) == 2)
            for task in (running, listening):
                task.cancel()
            await asyncio.gather(running, listening, return_exceptions=True)


async def test_missing_blobs_are_tried_again_at_growing_intervals(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While blobs are missing, a poll costs one read of the pointer, not a load each time."""
    now = 0.0
    clock = SimpleNamespace(monotonic=lambda: now, time=time.time)
    monkeypatch.setattr(following, "time", clock)
    loads: list[float] = []
    take = Follower._take

    async def counted(self: Follower, *args: Any, **names: Any) -> None:
        loads.append(now)
        await take(self, *args, **names)

    monkeypatch.setattr(Follower, "_take", counted)
    with server.client() as client:
        Made(1, make_epoch(1).digest, {}).write(client)
        async with follower(settings(server, tmp_path)) as found:
            for _ in range(80):
                await found._follow_safely()
                now += 0.5
    assert loads == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 25.5, 35.5]  # 10 s apart at most


async def test_a_gateway_starts_from_redis_else_disk_else_store(
    server: RedisServer, tmp_path: Path
) -> None:
    """Each source stands in for the one before; what is damaged on the disk is not served."""
    store = tmp_path / "store"
    make_epoch(1).store(store)
    config = settings(server, tmp_path / "cache", STORE=str(store))
    async with follower(config) as found:
        assert (number(found), found.state) == (1, State.KEPT)
    with server.client() as client:
        make_epoch(3).write(client)
    async with follower(config) as found:
        assert (number(found), found.state) == (3, State.LIVE)
    with server.client() as client:
        client.flushall()
    async with follower(config) as found:
        assert (number(found), found.state) == (3, State.KEPT)
    image = Kept(tmp_path / "cache").path(make_epoch(3).digest)
    whole = image.read_bytes()
    for damage in (whole[:-9], whole[:40], whole[:20], b"", whole[:200] + b"x" + whole[201:]):
        image.unlink()
        image.write_bytes(damage)
        async with follower(config) as found:
            assert number(found) is None  # the store has 1 only, which is older than 3
    make_epoch(4).store(store)
    async with follower(config) as found:
        assert (number(found), found.state) == (4, State.KEPT)


async def test_an_unreadable_mark_stops_the_start(server: RedisServer, tmp_path: Path) -> None:
    """If the highest epoch served cannot be read, nobody guesses: the start fails with a mend."""
    (tmp_path / "highest").write_text("?")
    with pytest.raises(StoreError, match="Mend it, or delete it to start anew"):
        async with follower(settings(server, tmp_path)):
            pass


async def test_a_disk_that_refuses_writes_stops_nothing(
    server: RedisServer, tmp_path: Path
) -> None:
    """Without a disk to write to, epochs are still followed; that is said in the log."""
    folder = tmp_path / "file" / "cache"
    (tmp_path / "file").write_text("no folder")
    with server.client() as client:
        make_epoch(1).write(client)
        with suppress(StoreError):
            async with follower(settings(server, folder)):
                raise AssertionError(
                    "the mark cannot even be looked for: that is said at the start"
                )
        async with follower(settings(server, tmp_path / "cache")) as found:
            found._kept = Kept(folder)
            make_epoch(2, staff=("u-1",)).write(client)
            await found._follow_safely()
            assert number(found) == 2
            assert not isinstance(found._blobs, Shelf)
            found._kept = Kept(tmp_path / "cache")
            make_epoch(3, staff=("u-1",)).write(client)
            await found._follow_safely()
            assert isinstance(found._blobs, Shelf)


def test_an_epoch_is_loaded_step_by_step() -> None:
    """Nothing is asked for before what names it was verified, and nothing is taken unverified."""
    made = make_epoch(1, staff=("u-1",))
    loading = Loading(made.digest, Rules(WORKSPACE, TRUSTED, None), {})
    rounds = 0
    while missing := loading.missing():
        rounds += 1
        with pytest.raises(StoreError, match="is damaged"):
            loading.feed({missing[0]: b"something else"})
        loading.feed({digest: made.blobs[digest] for digest in missing})
    assert rounds == 3
    assert loading.build(None).number == 1


def test_a_signature_covers_every_byte() -> None:
    """Whatever byte of the envelope's payload is changed, the epoch is refused."""
    made = make_epoch(1)
    signed = layout.decode(layout.Signed, made.blobs[made.digest])
    for field in ("epoch", "key", "signature"):
        for at in range(len(signed[field])):
            changed = bytearray(signed[field])
            changed[at] ^= 1
            blob = layout.encode(layout.Signed, signed | {field: bytes(changed)})
            with pytest.raises(FormatError):
                verify_epoch(blob, digest=layout.digest_of(blob), workspace=WORKSPACE, trusted=())


def test_every_state_takes_every_event_or_none_by_intent() -> None:
    """The served epoch's life: never back to empty, and only following makes it live."""
    for state, event in itertools.product(State, Event):
        if (state, event) not in TABLE:
            assert event is Event.RESTORED  # only who has nothing restores
            assert state is not State.EMPTY
            continue
        after = TABLE[state, event]
        assert (after is State.LIVE) == (event is Event.FOLLOWED)
        assert (after is State.EMPTY) <= (state is State.EMPTY)


async def test_a_build_never_stalls_the_event_loop(server: RedisServer, tmp_path: Path) -> None:
    """While 2,000 apps are loaded, verified and built, the loop's turns stay short."""
    with server.client() as client:
        make_epoch(1).write(client)
        big = make_epoch(2, apps=2_000)
        async with follower(settings(server, tmp_path)) as found:
            await asyncio.to_thread(big.write, client)
            taking = asyncio.create_task(found._follow_safely())
            stalls = []
            while not taking.done():
                # Of this process, whoever of its threads held up the loop; others are no stall.
                before = time.process_time()
                await asyncio.sleep(0.001)
                stalls.append(time.process_time() - before)
            assert number(found) == 2
    # The machine's own noise is in these numbers: hold the bulk of them to 10 ms, all to 100.
    stalls.sort()
    assert len(stalls) > 20
    assert stalls[int(len(stalls) * 0.95)] < 0.010 + 0.005, stalls[-10:]
    assert stalls[-1] < 0.100, stalls[-10:]


async def test_notices_are_heard_again_after_redis_was_away(tmp_path: Path) -> None:
    """The listener reconnects by itself, and makes the follower look once it is back."""
    heard: list[float] = []
    with redis_server(tmp_path) as server:
        config = settings(server, tmp_path)
        task = asyncio.create_task(
            listen(config.redis, KEYS.notice, lambda: heard.append(time.monotonic()))
        )
        await until(lambda: heard)  # it has subscribed
        with server.client() as client:
            before = len(heard)
            client.publish(KEYS.notice, b"1")
            await until(lambda: len(heard) > before)
        await asyncio.to_thread(server.kill)
        before = len(heard)
        await asyncio.to_thread(server.start)
        await until(lambda: len(heard) > before)  # it waits longer each time
        with server.client() as client:
            before = len(heard)
            client.publish(KEYS.notice, b"2")
            await until(lambda: len(heard) > before)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_was_served_is_freed_in_a_thread(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Freeing the tables of a large epoch takes longer than the event loop may be held up."""
    monkeypatch.setattr(following, "RETIRE_SECONDS", 0.01)
    freed_in: list[int] = []

    class Witness:
        """Goes with the snapshot that holds it."""

        def __del__(self) -> None:
            freed_in.append(threading.get_ident())

    async with follower(settings(server, tmp_path)) as found:
        with server.client() as client:
            make_epoch(1).write(client)
            await found._follow()
            assert found.snapshot is not None
            found.snapshot.witness = Witness()  # type: ignore[attr-defined]
            make_epoch(2).write(client)
            await found._follow()
        assert number(found) == 2
        await until(lambda: freed_in)
        assert threading.get_ident() not in freed_in
