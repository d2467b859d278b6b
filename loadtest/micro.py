"""`python -m loadtest.micro`: the steps of a check apart, in nanoseconds, without servers.

The plan and the phones are those of `make bench`, with 100,000 ids on its 200 lists. Each figure
is the median over several repeats, in each of which the step is called once for each of 500
phones. The last rows drive a connection's protocol with whole requests and a transport that only
counts what is written: everything but the socket and the event loop.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import starmap
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import gateway.quick
from compiler.compilation import compile_folder
from compiler.windows import Frozen
from gateway import bucket_layout, layout
from gateway.answer import UNSAID, Status, choose, offer, render
from gateway.check import Check
from gateway.config import read_config
from gateway.follower import Follower
from gateway.hashing import percent_bucket
from gateway.head import END, Heads, read_head
from gateway.identity import Identity
from gateway.keys import Keys
from gateway.link import connect_async
from gateway.lookup import Answer, Lookup
from gateway.metrics import Metrics
from gateway.quick import Connection, Quick
from gateway.request import parse_body
from gateway.routing import reader_of
from gateway.seats import Seats
from gateway.snapshot import NO_LISTS, Snapshot, build
from gateway.waiting import Waiting
from loadtest import plans
from loadtest.lineup import LISTED, PLAIN
from loadtest.phones import Phone, as_json, as_msgpack, member, phone
from loadtest.rows import REQUESTS
from loadtest.servers import Failed

IDS = 100_000
REPEATS = 21
SECOND = 1_800_000_000

Step = tuple[str, Callable[..., object], Sequence[tuple[Any, ...]]]
"""A name, a function, and what to call it with, one after another."""

Buckets = dict[bytes, bytes]


def is_compiled() -> bool:
    """Tell whether the gateway's hot path is compiled here."""
    return str(gateway.quick.__file__).endswith(tuple(EXTENSION_SUFFIXES))


def form() -> str:
    """Say which form of the gateway is measured."""
    return "the hot path is compiled" if is_compiled() else "plain Python"


def cost(work: Callable[..., object], calls: Sequence[tuple[Any, ...]]) -> float:
    """Measure one call, in nanoseconds; each of `calls` is what to call with."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter_ns()
        deque(starmap(work, calls), maxlen=0)  # a loop without Python code of its own
        times.append((time.perf_counter_ns() - began) / len(calls))
    return statistics.median(times)


def opened(
    workspace: str,
    apps: Sequence[plans.App],
    ids: int,
    frozen: Mapping[str, Frozen] | None = None,
) -> tuple[Snapshot, Buckets]:
    """Compile a plan and open it as a gateway does; give the buckets by digest, too.

    `frozen` has the seats of the time windows that are frozen.
    """
    with tempfile.TemporaryDirectory() as name:
        plans.write_plan(Path(name), workspace, apps, ids)
        image, _ = compile_folder(Path(name), None, 0, frozen=lambda _: frozen or {})
        blobs = dict(image.blobs)
    epoch: layout.Epoch = {
        "format": layout.FORMAT,
        "workspace": workspace,
        "number": 1,
        "previous": b"",
        "contents": image.root,
        "author": "",
        "time": 0,
        "note": "",
        "commit": "",
    }
    contents = layout.decode(layout.Contents, blobs[image.root])
    packs = contents["membership"]["packs"] if contents["membership"] else []
    buckets = [bucket for pack in packs for bucket in bucket_layout.decode_pack(blobs[pack])]
    snapshot = build(b"", epoch, contents, blobs.__getitem__, None)
    return snapshot, {layout.bucket_digest(bucket): bucket for bucket in buckets}


def run() -> int:
    """Measure and print every step."""
    print(form())
    print(f"{'step':58}{'ns':>8}")
    asyncio.run(_run())
    return 0


async def _run() -> None:
    phones = [phone(number) for number in range(REQUESTS)]
    members = [member(number * 7_919 % IDS) for number in range(REQUESTS)]
    batches = [phone(number, (plans.COFFEE, *plans.MORE)) for number in range(REQUESTS)]
    plain, _ = opened(PLAIN, plans.apps_without_lists(), 0)
    listed, buckets = opened(LISTED, plans.apps_with_lists(), IDS)
    steps = (
        *_reading(phones),
        *_deciding(plain, phones, batches),
        *_belonging(listed, buckets, phones, members),
    )
    for name, work, calls in steps:
        _print(name, cost(work, calls))
    for name, snapshot, requests in (
        ("bytes to bytes, no list", plain, [as_json(each) for each in phones]),
        ("bytes to bytes, 20 apps", plain, [as_json(each) for each in batches]),
        ("bytes to bytes, MessagePack", plain, [as_msgpack(each) for each in phones]),
        ("bytes to bytes, stranger to 200 lists", listed, [as_json(each) for each in phones]),
        ("bytes to bytes, member remembered", listed, [as_json(each) for each in members]),
    ):
        _print(name, whole(snapshot, buckets, requests))
    requests = _with_tokens(plain, phones)
    _print("bytes to bytes, no list, token remembered", whole(plain, buckets, requests))


def _print(name: str, nanoseconds: float) -> None:
    print(f"{name:58}{nanoseconds:>8,.0f}", flush=True)


def _reading(phones: Sequence[Phone]) -> Iterator[Step]:
    heads = [as_json(each).partition(END)[0] for each in phones]
    seen = Heads()
    for each in heads:
        seen.learn(each)
    yield "head, seen before", seen.known.get, [(each,) for each in heads]
    yield "head, seen for the first time", read_head, [(each,) for each in heads]
    packed = [as_msgpack(each).partition(END)[2] for each in phones]
    yield "parse, JSON", partial(parse_body, packed=False), [(_body(each),) for each in phones]
    yield "parse, MessagePack", partial(parse_body, packed=True), [(each,) for each in packed]


def _body(asked: Phone) -> bytes:
    return as_json(asked).partition(END)[2]


def _checks(snapshot: Snapshot, phones: Sequence[Phone]) -> list[Check]:
    """Read requests, and hash their ids as `probes` does."""
    checks = [parse_body(_body(each), packed=False) for each in phones]
    for each in checks:
        snapshot.probes(each)
    return checks


def _deciding(plain: Snapshot, phones: Sequence[Phone], batches: Sequence[Phone]) -> Iterator[Step]:
    checks, many = _checks(plain, phones), _checks(plain, batches)
    yield "probes, no list: the hashes of the ids", plain.probes, [(each,) for each in checks]
    for app, size in ((plans.COFFEE, "12"), (plans.TEN, "10"), (plans.THOUSAND, "1,000")):
        entry = plain.apps[app]
        assert entry is not None
        calls = [(each.sent, each.custom, (NO_LISTS, *_percents(each)), SECOND) for each in checks]
        yield f"decide, {size} releases", entry.program.winner, calls
    asked: list[tuple[Any, ...]] = [(each, {}, SECOND) for each in checks]
    yield "answer, decided and put together", partial(plain.answer, msgpack=False), asked
    yield "answer, in MessagePack", partial(plain.answer, msgpack=True), asked
    asked = [(each, {}, SECOND) for each in many]
    yield "answer, 20 apps", partial(plain.answer, msgpack=False), asked
    entry = plain.apps[plans.COFFEE]
    assert entry is not None
    urls = partial(plain.cdn.urls, plain.cdn.regions[None])
    yield (
        "render, at the first use of an answer",
        _render,
        [(*entry.source.release(0), urls)] * REQUESTS,
    )


def _render(
    release: layout.ReleaseEntry, package: layout.PackageEntry, urls: Callable[[str], list[str]]
) -> None:
    offered = offer(release, package, urls, choose(package, None, UNSAID), forced=False)
    render(plans.COFFEE, Status.UPDATE, offered)


def _percents(check: Check) -> tuple[int, int]:
    assert check.device_hash is not None
    assert check.user_hash is not None
    return percent_bucket(check.device_hash), percent_bucket(check.user_hash)


def _belonging(
    listed: Snapshot, buckets: Buckets, phones: Sequence[Phone], members: Sequence[Phone]
) -> Iterator[Step]:
    strangers, known = _checks(listed, phones), _checks(listed, members)
    yield "probes, stranger: the filter says no", listed.probes, [(each,) for each in strangers]
    yield "probes, member: the filter says perhaps", listed.probes, [(each,) for each in known]
    found = [
        (hashed, buckets[listed.bucket_of(hashed)])
        for each in known
        for hashed in listed.probes(each)
    ]
    yield "look-up in a bucket that was fetched", listed.lists_of, found
    masks = {hashed: listed.lists_of(hashed, bucket) for hashed, bucket in found}
    asked = [(each, masks, SECOND) for each in known]
    yield "answer, member", partial(listed.answer, msgpack=False), asked


class _Written(asyncio.Transport):
    """A transport that goes nowhere: it counts answers, and those that are no 200."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = self.wrong = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.answers += 1
        self.wrong += bytes(data[:15]) != b"HTTP/1.1 200 OK"

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        raise Failed("The quick path closed the connection.")


def _handed_over() -> Any:
    raise Failed("The quick path declined an ordinary check.")


def whole(
    snapshot: Snapshot,
    buckets: Buckets,
    requests: Sequence[bytes],
    know: Callable[[Seats], None] = lambda _: None,
) -> float:
    """Measure a request from its bytes to those of its answer, without a socket.

    `know` may let the gateway know of time windows what Redis would have told.
    """
    config = read_config({"TIDEGATE_WORKSPACE": snapshot.settings["workspace"]})
    keys, metrics = Keys(config.workspace), Metrics()
    link = connect_async(config.redis, timeout_seconds=1)  # which connects when it is used: never
    follower = Follower(config, link, keys, metrics)
    follower.snapshot = snapshot
    lookup = Lookup(reader_of(config.redis), keys, metrics.lookups, timeout_seconds=1, limit=1)
    _remember(lookup, snapshot, buckets, requests)
    seats = Seats(link, keys, metrics.seatings, timeout_seconds=1, limit=1)
    know(seats)
    quick = Quick(follower, lookup, seats, metrics, Waiting(1), _handed_over)
    connection, transport = Connection(quick), _Written()
    connection.connection_made(transport)
    found = cost(connection.data_received, [(each,) for each in requests])
    connection.connection_lost(None)
    if transport.wrong or transport.answers != REPEATS * len(requests):
        raise Failed(f"{transport.answers} answers, of which {transport.wrong} were no 200")
    return found


def _with_tokens(snapshot: Snapshot, phones: Sequence[Phone]) -> list[bytes]:
    """Give the snapshot an identity provider, and each phone's request a token of it."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    told: layout.Identity = {
        "keys": {"": public},
        "issuer": None,
        "audience": [],
        "device": "device",
    }
    snapshot.identity = Identity(told)
    requests = []
    for number, each in enumerate(phones):
        claims = {"sub": f"u-{number}", "device": f"d-{number}", "exp": 2 * SECOND}
        field = f"\r\nAuthorization: Bearer {jwt.encode(claims, key, 'EdDSA')}".encode()
        requests.append(as_json(each).replace(END, field + END, 1))
    return requests


def _remember(
    lookup: Lookup, snapshot: Snapshot, buckets: Buckets, requests: Sequence[bytes]
) -> None:
    """Let the look-up know every member among these, as if Redis had been asked."""
    lookup.begin(snapshot, ())
    for request in requests:
        body = request.partition(END)[2]
        for hashed in snapshot.probes(parse_body(body, packed=body[:1] != b"{")):
            digest = snapshot.bucket_of(hashed)
            answer = Answer(digest)
            answer.give(buckets[digest])
            lookup.finish(snapshot, {}, [(hashed, answer)])


if __name__ == "__main__":
    sys.exit(run())
