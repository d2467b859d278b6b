"""Plans compiled and opened as a gateway would open them, and phones that ask them."""

from collections import ChainMap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import orjson

import plans
from compiler.image import build_image, relay_image
from compiler.language.reading import read_files
from compiler.lists.allowlist import ListIds
from compiler.overrides import What, lay_over
from compiler.plan import Plan
from compiler.reference import NO_SEATS, Memberships, Seats, real_id
from compiler.windows import Frozen, freeze, window_name
from gateway import bucket_layout, layout
from gateway.check import Check
from gateway.hashing import id_hash, id_seed
from gateway.request import parse_body
from gateway.snapshot import Snapshot, build


@dataclass(frozen=True, slots=True)
class Opened:
    """A compiled plan: what a gateway holds, and the buckets that Redis would hold."""

    plan: Plan
    ids: dict[str, list[str]]
    snapshot: Snapshot
    buckets: dict[bytes, bytes]
    frozen: dict[tuple[str, str], frozenset[tuple[str, str]]]
    laid: dict[tuple[str, str], bool]
    """Ids that overrides put on a list (list, id), or take off it."""

    def ask(
        self,
        phone: dict[str, Any],
        second: int,
        *,
        down: bool = False,
        msgpack: bool = False,
        redis: Seats = NO_SEATS,
        authorization: bytes | None = None,
    ) -> bytes:
        """Answer a phone's request; with Redis `down` no bucket can be read.

        `redis` is what the script finds of the open windows.
        """
        check = parse_body(orjson.dumps(phone), packed=False)
        if self.snapshot.identity is not None:
            self.snapshot.identify(check, authorization, second)
        members = self.members(check, down)
        body, _ = self.snapshot.answer(check, members, second, msgpack=msgpack)
        if not body:
            seats = {}
            for ask in self.snapshot.asks(check, members, second):
                for place in reversed(ask.places):
                    name = ask.app, place.release
                    if name in redis.seated or (place.takes and name in redis.free):
                        seats[ask.app] = place.rank
            body, _ = self.snapshot.answer(check, members, second, msgpack, seats)
            assert body
        return body

    def seats(self, phone: dict[str, Any], redis: Seats, down: bool) -> Seats:
        """Say from the ids themselves in which windows a phone sits, or would."""
        asked = self.snapshot.probes(parse_body(orjson.dumps(phone), packed=False))
        seated = set()
        for (app, release), subjects in self.frozen.items():
            audience = next(
                each.audience
                for part in self.plan.apps
                if part.id == app
                for each in part.releases
                if each.id == release
            )
            kind, subject = "user", real_id(self.plan.workspace, phone, "user")
            device = real_id(self.plan.workspace, phone, "device")
            if not audience.by_user and device is not None:
                kind, subject = "device", device
            if subject is None or (kind, subject) not in subjects:
                continue
            hashed = id_hash(subject, id_seed(self.plan.workspace.name, kind))
            if not (down and hashed in asked):
                seated.add((app, release))
        frozen = self.frozen.keys()
        return Seats(frozenset(seated) | (redis.seated - frozen), redis.free - frozen)

    def members(self, check: Check, down: bool) -> dict[int, int | None]:
        """Look up what the snapshot wants to know."""
        snapshot, found = self.snapshot, {}
        for hashed in snapshot.probes(check):
            bucket = self.buckets[snapshot.bucket_of(hashed)]
            found[hashed] = None if down else snapshot.lists_of(hashed, bucket)
        return found

    def truth(self, phone: dict[str, Any], down: bool) -> Memberships:
        """Say from the ids themselves which lists have a phone, and what Redis kept back."""
        asked = self.snapshot.probes(parse_body(orjson.dumps(phone), packed=False))
        surely, unknown = set(), set()
        for source in self.plan.lists:
            subject = real_id(self.plan.workspace, phone, source.of)
            if subject is None:
                continue
            if (source.name, subject) in self.laid:
                if self.laid[source.name, subject]:
                    surely.add(source.name)
            elif source.regex:
                if _EXPRESSIONS[source.name](subject):
                    surely.add(source.name)
            elif down and id_hash(subject, id_seed(self.plan.workspace.name, source.of)) in asked:
                unknown.add(source.name)
            elif subject in self.ids[source.name]:
                surely.add(source.name)
        return Memberships(frozenset(surely), frozenset(unknown))


# The two lists of expressions in plans.LISTS, spelled out without any.
_EXPRESSIONS = {
    "testers": lambda text: text[:3] == "qa-" and text[3:].isascii() and text[3:].isdigit(),
    "qa-phones": lambda text: text.startswith("qa-") or text.endswith("7"),
}


def list_ids(name: str, of: str, ids: list[str]) -> ListIds:
    """Make what reading a list's file would give."""
    text = "".join(f"{each}\n" for each in sorted(set(ids), key=str.encode)).encode()
    return ListIds(name, of, len(set(ids)), 0, 0, text, ())


def open_plan(
    written: Plan,
    ids: dict[str, list[str]],
    random: Random,
    number: int = 1,
    overrides: Sequence[layout.Override] = (),
    more: Mapping[str, str] | None = None,
) -> Opened:
    """Write a plan's files and `more`, read, compile and open them: the whole way but Redis.

    Overrides are laid over the compiled plan, as an emergency command does.
    """
    reading = read_files({**plans.to_files(written, random), **(more or {})}, now=plans.NOW)
    plan = reading.plan
    assert plan is not None, reading.diagnostics
    lists = [
        list_ids(source.name, source.of, ids[source.name])
        for source in plan.lists
        if not source.regex
    ]
    seated = frozen_windows(plan, random)
    frozen = {
        window_name(*name): _freeze(plan, subjects) for name, subjects in seated.items() if subjects
    }
    image = build_image(plan, lists, frozen=frozen)
    if overrides:
        relaid = relay_image(image.contents, image.tree, image.blobs.__getitem__, overrides)
        image = replace(relaid, blobs=ChainMap(relaid.blobs, image.blobs))
        plan = lay_over(plan, overrides)
    epoch: layout.Epoch = {
        "format": layout.FORMAT,
        "workspace": plan.workspace.name,
        "number": number,
        "previous": b"",
        "contents": image.root,
        "author": "",
        "time": 0,
        "note": "",
        "commit": "",
    }
    contents = layout.decode(layout.Contents, image.blobs[image.root])
    packs = contents["membership"]["packs"] if contents["membership"] else []
    buckets = {
        layout.bucket_digest(bucket): bucket
        for pack in packs
        for bucket in bucket_layout.decode_pack(image.blobs[pack])
    }
    snapshot = build(b"", epoch, contents, image.blobs.__getitem__, None)
    laid = {
        (each["app"], each["name"]): each["value"] == "true"
        for each in overrides
        if each["what"] == What.MEMBER
    }
    return Opened(plan, ids, snapshot, buckets, seated, laid)


def windows_in(plan: Plan) -> list[tuple[str, str, bool]]:
    """Name the windows of a plan: app, release, and whether the user id alone counts."""
    return [
        (app.id, release.id, release.audience.by_user)
        for app in plan.apps
        for release in app.releases
        if release.audience.window is not None
    ]


def frozen_windows(plan: Plan, random: Random) -> dict[tuple[str, str], frozenset[tuple[str, str]]]:
    """Freeze some windows, with some (kind, id) seated in each."""
    found = {}
    for app, release, by_user in windows_in(plan):
        if random.random() < 0.4:
            kinds = ("user",) if by_user else ("user", "device")
            pairs = [(random.choice(kinds), each) for each in plans.IDS]
            found[app, release] = frozenset(random.sample(pairs, random.randint(1, 9)))
    return found


def _freeze(plan: Plan, subjects: Collection[tuple[str, str]]) -> Frozen:
    hashes = [id_hash(text, id_seed(plan.workspace.name, kind)) for kind, text in subjects]
    return freeze(np.array(hashes, np.uint64))
