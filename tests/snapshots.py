"""Plans compiled and opened as a gateway would open them, and phones that ask them."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import orjson

import plans
from compiler.image import build_image, relay_image
from compiler.language.reading import read_files
from compiler.lists.allowlist import ListIds
from compiler.overrides import lay_over
from compiler.plan import Plan
from compiler.reference import Memberships, real_id
from gateway import layout
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

    def ask(
        self, phone: dict[str, Any], second: int, *, down: bool = False, msgpack: bool = False
    ) -> bytes:
        """Answer a phone's request; with Redis `down` no bucket can be read."""
        check = parse_body(orjson.dumps(phone), packed=False)
        body, _ = self.snapshot.answer(check, self.members(check, down), second, msgpack=msgpack)
        return body

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
            if source.regex:
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
    image = build_image(plan, lists)
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
        for bucket in layout.decode_pack(image.blobs[pack])
    }
    snapshot = build(b"", epoch, contents, image.blobs.__getitem__, None)
    return Opened(plan, ids, snapshot, buckets)
