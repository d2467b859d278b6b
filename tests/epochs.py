"""Hand-made epochs, written through the layout alone: small, signed, and easy to spoil."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway import bucket_layout, layout
from gateway.hashing import id_hash, id_seed
from gateway.keys import Keys
from gateway.pointer import encode_pointer
from gateway.signing import PublicKey

WORKSPACE = "demo"
APP = "2021000000000001"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def public_key(key: Ed25519PrivateKey, name: str = "ann") -> PublicKey:
    """Give the public half, as a gateway is told it."""
    return PublicKey(name, key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


@dataclass(frozen=True, slots=True)
class Made:
    """One epoch: its number, its E blob's digest, every blob and every bucket by digest."""

    number: int
    digest: bytes
    blobs: dict[bytes, bytes]
    buckets: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def pointer(self) -> bytes:
        """Give the pointer that makes it live."""
        return encode_pointer(self.number, self.digest)

    def write(self, redis: Any, *, live: bool = True, workspace: str = WORKSPACE) -> None:
        """Publish it to a Redis (a blocking client), as the compiler does."""
        keys = Keys(workspace)
        for digest, blob in self.blobs.items():
            redis.set(keys.blob(digest), blob)
        for digest, bucket in self.buckets.items():
            redis.set(keys.bucket(digest), bucket)
        if live:
            redis.set(keys.live, self.pointer)
            redis.publish(keys.notice, self.pointer)

    def store(self, folder: Path) -> None:
        """Publish it to a store's folder."""
        for digest, blob in self.blobs.items():
            path = folder / "blobs" / digest.hex()[:2] / digest.hex()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blob)
        (folder / "live").write_bytes(self.pointer)


def make_epoch(
    number: int = 1,
    *,
    version: str | None = None,
    workspace: str = WORKSPACE,
    key: Ed25519PrivateKey = KEY,
    staff: tuple[str, ...] = (),
    cors: tuple[str, ...] = (),
    identity: layout.Identity | None = None,
    apps: int = 1,
    switches: bool = False,
) -> Made:
    """Make an epoch whose apps offer `version` (1.0.0.NUMBER if None) to everyone.

    With `staff`, users of a list of that name are offered 9.0.0.0 instead. With `switches` there
    is one, `new-home`, which is on for half of the subjects and, if given, for `staff`.
    """
    blobs: dict[bytes, bytes] = {}

    def keep(shape: type, value: Any) -> bytes:
        blob = layout.encode(shape, value)
        digest = layout.digest_of(blob)
        blobs[digest] = blob
        return digest

    settings = {
        "workspace": workspace,
        "check_after": 1800,
        "cdn": [{"regions": ["*"], "bases": ["https://cdn.example.com"], "expires": None}],
        "placeholders": ["unknown"],
        "cors": list(cors),
        "identity": identity,
        "lists": {"staff": {"of": "user", "regex": []}} if staff else {},
    }
    membership, buckets = _membership(staff, workspace, blobs, keep)
    programs = {}
    for at in range(apps):
        app = f"{int(APP) + at:016}"
        programs[app] = keep(layout.Program, _program(app, version or f"1.0.0.{number}", staff))
    contents = keep(
        layout.Contents,
        {
            "format": layout.FORMAT,
            "settings": keep(layout.Settings, settings),
            "programs": programs,
            "switches": keep(layout.Switches, _switches(staff)) if switches else None,
            "membership": membership,
            "amended": {},
            "plan": keep(
                layout.Tree,
                {
                    "files": {},
                    "apps": {},
                    "switch_apps": [],
                    "lists": {},
                    "patches": {},
                    "overrides": [],
                    "windows": {},
                },
            ),
        },
    )
    epoch = layout.pack_map(
        {
            "format": layout.FORMAT,
            "workspace": workspace,
            "number": number,
            "previous": b"",
            "contents": contents,
            "author": "somebody",
            "time": 1_700_000_000 + number,
            "note": "",
            "commit": "",
        }
    )
    signed = {
        "epoch": epoch,
        "key": public_key(key).raw,
        "signature": key.sign(layout.SIGNED_CONTEXT + epoch),
    }
    return Made(number, keep(layout.Signed, signed), blobs, buckets)


def bucket_of(staff: tuple[str, ...], workspace: str = WORKSPACE) -> bytes:
    """Make the one bucket of a few users, all of membership set 1."""
    seed = id_seed(workspace, "user")
    hashes = sorted(id_hash(user, seed) for user in staff)
    return b"".join(each.to_bytes(8, "big") + b"\x01" for each in hashes)


def _membership(
    staff: tuple[str, ...], workspace: str, blobs: dict[bytes, bytes], keep: Any
) -> tuple[Any, dict[bytes, bytes]]:
    if not staff:
        return None, {}
    assert bucket_layout.bucket_count(len(staff)) == 1, "these few ids are in one bucket"
    bucket = bucket_of(staff, workspace)
    words = [0] * layout.FILTER_WORDS
    seed = id_seed(workspace, "user")
    for user in staff:
        hashed = id_hash(user, seed)
        words[hashed * layout.FILTER_WORDS >> 64] |= bucket_layout.filter_pattern(hashed)
    digest = layout.bucket_digest(bucket)
    packed = b"".join(word.to_bytes(8, "little") for word in words)
    shard = layout.encode_shard(digest, packed)
    blobs[layout.digest_of(shard)] = shard
    pack = bucket_layout.encode_pack([bucket])
    one, zero = (number.to_bytes(4, "little") for number in (1, 0))
    sets = {
        "number_bits": 8,
        "lists": ["staff"],
        "numbers": one,
        "ends": one,
        "members": zero,
    }
    return {
        "buckets": 1,
        "ids": len(staff),
        "sets": keep(layout.Sets, sets),
        "shards": [layout.digest_of(shard)],
        "packs": [layout.digest_of(pack)],
    }, {digest: bucket}


def _switches(staff: tuple[str, ...]) -> Any:
    split = {"key": 9, "bounds": [5000, 10_000], "variants": [1, 0]}
    rows: list[Any] = [{"variant": None, "split": split, "by_user": False}]
    if staff:
        rows.insert(0, {"variant": 1, "split": None, "by_user": False})
    every = layout.encode_bits((1 << len(rows)) - 1)
    variants = [{"name": "off", "value": b"false"}, {"name": "on", "value": b"true"}]
    return {
        "schedule": {"bounds": [], "cells": [every]},
        "hosts": {"any": every, "platforms": {}},
        "attributes": {},
        "lists": [{"lists": ["staff"], "not_lists": [], "bits": b"\x01"}] if staff else [],
        "percents": [],
        "switches": [
            {
                "key": "new-home",
                "variants": variants,
                "default": 0,
                "enabled": True,
                "targeting": rows,
            }
        ],
    }


def _program(app: str, version: str, staff: tuple[str, ...]) -> Any:
    releases = [{"id": "stable", "package": 0, "upgrade": "silent"}]
    packages = [_package(app, version)]
    lists = []
    if staff:
        releases = [{"id": "staff", "package": 1, "upgrade": "force"}, *releases]
        packages.append(_package(app, "9.0.0.0"))
        lists = [{"lists": ["staff"], "not_lists": [], "bits": layout.encode_bits(1)}]
    every = layout.encode_bits((1 << len(releases)) - 1)
    return {
        "app": app,
        "packages": packages,
        "versions": [],
        "known_releases": [each["id"] for each in releases],
        "halts": [],
        "withdrawn": [],
        "releases": releases,
        "schedule": {"bounds": [], "cells": [every]},
        "hosts": {"any": every, "platforms": {}},
        "attributes": {},
        "lists": lists,
        "percents": [],
        "windows": [],
    }


def _package(app: str, version: str) -> Any:
    return {
        "version": version,
        "download": "any",
        "install": "on_open",
        "info": None,
        "size": 1024,
        "sha256": "ab" * 32,
        "forms": [
            {
                "compression": "identity",
                "size": 1024,
                "sha256": "ab" * 32,
                "path": f"{app}/{version}.zip",
            }
        ],
        "encryption": None,
        "patches": [],
        "signatures": [],
    }
