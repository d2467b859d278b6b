"""Epochs as large as one likes, made quickly: programs with tables, filters of random bits."""

from random import Random
from typing import Any

from epochs import KEY, WORKSPACE, Made, public_key
from gateway import bucket_layout, layout

FIRST_APP = 2021000000000001


def app_id(number: int) -> str:
    """Give the id of the app of this number."""
    return f"{FIRST_APP + number:016}"


def large_epoch(
    number: int,
    *,
    apps: int,
    releases: int = 10,
    huge: int = 0,
    shards: int = 0,
    seed: int = 0,
    changed: int = 0,
) -> Made:
    """Make an epoch of apps of so many releases each, the first one of `huge` more.

    With shards, 200 lists have that many full shards of ids. Epochs of one seed share all blobs
    but those of the apps in front that are `changed`, which offer this epoch's number.
    """
    random = Random(seed)
    blobs: dict[bytes, bytes] = {}

    def keep(blob: bytes) -> bytes:
        digest = layout.digest_of(blob)
        blobs[digest] = blob
        return digest

    def put(shape: type, value: Any) -> bytes:
        return keep(layout.encode(shape, value))

    lists = [f"list-{at}" for at in range(200)] if shards else []
    settings = {
        "workspace": WORKSPACE,
        "check_after": 1800,
        "cdn": [{"regions": ["*"], "bases": ["https://cdn.example.com"], "expires": None}],
        "placeholders": ["unknown"],
        "cors": [],
        "identity": None,
        # Of another seed, the lists are others: no program keeps its bits.
        "lists": {f"{name}-{seed}": {"of": "user", "regex": []} for name in lists},
    }
    membership = None
    if shards:
        membership = _membership([*settings["lists"]], shards, random, keep)
    programs = {}
    for at in range(apps):
        count = releases + (huge if at == 0 else 0)
        newest = number if at < changed else 0
        needs = [f"{lists[at % 200]}-{seed}"] if lists else []
        programs[app_id(at)] = put(layout.Program, _program(app_id(at), count, newest, needs))
    contents = {
        "format": layout.FORMAT,
        "settings": put(layout.Settings, settings),
        "programs": programs,
        "switches": None,
        "membership": membership,
        "amended": {},
        "plan": bytes(32),
    }
    epoch = layout.pack_map(
        {
            "format": layout.FORMAT,
            "workspace": WORKSPACE,
            "number": number,
            "previous": b"",
            "contents": put(layout.Contents, contents),
            "author": "",
            "time": 1_700_000_000,
            "note": "",
            "commit": "",
        }
    )
    signature = KEY.sign(layout.SIGNED_CONTEXT + epoch)
    signed = {"epoch": epoch, "key": public_key(KEY).raw, "signature": signature}
    return Made(number, put(layout.Signed, signed), blobs)


def _membership(lists: list[str], shards: int, random: Random, keep: Any) -> Any:
    digests = [
        keep(
            layout.encode_shard(
                random.randbytes(layout.SHARD_BUCKETS * layout.BUCKET_DIGEST_BYTES),
                random.randbytes(layout.SHARD_BUCKETS * layout.FILTER_WORDS * 8),
            )
        )
        for _ in range(shards)
    ]
    buckets = shards * layout.SHARD_BUCKETS
    ones = b"".join(at.to_bytes(4, "little") for at in range(1, len(lists) + 1))
    sets = {
        "number_bits": 8 - bucket_layout.remainder_bits(buckets) % 8 + 8,
        "lists": lists,
        "numbers": ones,
        "ends": ones,
        "members": bytes(4) + ones[:-4],
    }
    return {
        "buckets": buckets,
        "ids": buckets * 170,
        "sets": keep(layout.encode(layout.Sets, sets)),
        "shards": digests,
        "packs": [],
    }


def _program(app: str, releases: int, newest: int, lists: list[str]) -> Any:
    every = (1 << releases) - 1
    bits = [layout.encode_bits(every ^ (1 << rank)) for rank in range(releases)]
    full = layout.encode_bits(every)
    versions = [f"1.{newest if rank == 0 else 0}.{releases - rank}.0" for rank in range(releases)]
    cities = {f"city {rank}": bits[rank] for rank in range(releases)}
    bounds = [f"{rank + 1}.0" for rank in range(releases)]
    text = {"exact": cities, "other": full, "globs": [{"patterns": ["2*"], "bits": bits[0]}]}
    line = {"bounds": bounds, "cells": [full] * (2 * releases + 1)}
    attribute = {"absent": full, "text": None, "versions": None, "numbers": None, "bools": None}
    return {
        "app": app,
        "packages": [_package(app, version) for version in versions],
        "versions": [],
        "known_releases": [f"r{rank}" for rank in range(releases)],
        "halts": [],
        "withdrawn": [],
        "releases": [
            {"id": f"r{rank}", "package": rank, "upgrade": "silent"} for rank in range(releases)
        ],
        "schedule": {"bounds": [], "cells": [full]},
        "hosts": {"any": full, "platforms": {"android": line, "ios": line}},
        "attributes": {
            "city": {**attribute, "text": text},
            "model": {**attribute, "text": text},
            "network": {**attribute, "text": text},
            "os_version": {**attribute, "versions": line},
            "custom.tier": {**attribute, "text": text},
        },
        "lists": [{"lists": lists, "not_lists": [], "bits": layout.encode_bits(1)}]
        if lists
        else [],
        "percents": [
            {"rank": rank, "basis_points": 1250, "by_user": False, "key": rank + 1}
            for rank in range(1, releases - 1, 2)
        ],
        "windows": [],
    }


def _package(app: str, version: str) -> Any:
    sha256 = layout.digest_of(f"{app} {version}".encode()).hex()
    path = f"files/{sha256[:2]}/{sha256}.zip"
    form = {"compression": "identity", "size": 1024, "sha256": sha256, "path": path}
    return {
        "version": version,
        "download": "any",
        "install": "on_open",
        "info": None,
        "size": 1024,
        "sha256": sha256,
        "forms": [form],
        "encryption": None,
        "patches": [],
        "signatures": [],
    }
