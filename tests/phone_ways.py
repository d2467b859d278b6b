"""Ways on which a phone comes to its target, and what was asked of the CDN meanwhile."""

import json
import os
from collections.abc import Callable
from typing import Any

import cdn
from phone_shop import (
    BACK,
    PLAIN,
    SECRET,
    SIGNED,
    Phone,
    Shop,
)

SOAK = "TIDEGATE_SOAK" in os.environ
GZIP, ZSTD, BSDIFF, ZPATCH = ["gzip"], ["zstd"], ["gzip", "bsdiff4"], ["zstd", "zstd-patch"]
ALL = ["gzip", "zstd", "bsdiff4", "zstd-patch"]
WAYS: dict[str, tuple[str, bool, list[str]]] = {
    "full": (PLAIN, True, []),
    "full, gzip": (PLAIN, True, GZIP),
    "full, zstd": (PLAIN, True, ZSTD),
    "update, zstd": (PLAIN, False, ZSTD),
    "bsdiff4": (PLAIN, False, BSDIFF),
    "zstd-patch": (PLAIN, False, ZPATCH),
    "signed": (SIGNED, True, ALL),
    "signed, patch": (SIGNED, False, ALL),
    "encrypted": (SECRET, True, []),
    "encrypted, gzip": (SECRET, True, GZIP),
    "encrypted, bsdiff4": (SECRET, False, BSDIFF),
    "encrypted, zstd-patch": (SECRET, False, ZPATCH),
    "rollback": (BACK, False, ZSTD),
    "rollback, patch": (BACK, False, BSDIFF),
}
"""A way to a target: the app, whether the phone is new, and what it opens."""
FEW = ["full", "full, zstd", "zstd-patch", "signed, patch", "encrypted, bsdiff4", "rollback, patch"]
PATCHES = ("bsdiff4", "patch")


def phone(world: Shop, way: str, **members: Any) -> Phone:
    """Give a phone that is about to go one of the WAYS."""
    app, fresh, accept = WAYS[way]
    root = world.place.folder / "phones" / "phone"
    return world.phone(root, app, fresh=fresh, **({"accept": accept} | members))


def downloads(world: Shop, suffixes: tuple[str, ...] = ("",)) -> list[cdn.Request]:
    """Give what was asked of the CDN, of patches or of all."""
    return [each for each in world.proxy.requests if each.path.endswith(suffixes)]


def length(world: Shop, way: str) -> int:
    """Count the bytes of the download that comes first on a way."""
    assert phone(world, way).round().version is not None
    status, body = cdn.fetch(world.nginx.base + downloads(world)[0].path)
    assert status == 200
    return len(body)


def forged(change: Callable[[dict[str, Any]], None]) -> cdn.Fault:
    """Change what the gateway says of the app."""

    def rewrite(body: bytes) -> bytes:
        said = json.loads(body)
        change(said["apps"][0])
        return json.dumps(said).encode()

    return cdn.only("/v1/check", cdn.rewritten(rewrite))
