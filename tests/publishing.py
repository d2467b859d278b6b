"""Publishing in tests: small real plans, a store, a real Redis, and a look whether all is whole."""

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compiler.image import Image, build_image
from compiler.language.reading import read_files
from compiler.lists.allowlist import ListIds
from compiler.publication.epoch import (
    Publication,
    bucket_digests,
    mirrored_digests,
    read_publication,
    stored_digests,
)
from compiler.publication.live import read_live
from compiler.publication.mirror import Mirror
from compiler.publication.publisher import Published, publish
from compiler.publication.publisher_key import PublisherKey
from compiler.storage.store import Store, open_store
from gateway import layout
from gateway.keys import Keys
from gateway.link import SyncLink
from gateway.pointer import decode_pointer
from gateway.signing import PublicKey
from gateway.snapshot import build
from gateway.verify import verify_epoch

WORKSPACE = "demo"
COFFEE = "2021000000000001"
KEYS = Keys(WORKSPACE)


def publisher_key(name: str = "ann") -> PublisherKey:
    """Make the same key for the same name, every time."""
    private = Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))
    return PublisherKey(PublicKey(name, private.public_key().public_bytes_raw()), private)


def record(version: str, app: str = COFFEE, bytes_of: str | None = None) -> dict[str, str]:
    """Write a package's record as `upload` does; `bytes_of` names other bytes."""
    sha256 = layout.digest_of((bytes_of or app + version).encode()).hex()
    path = f"files/{sha256[:2]}/{sha256}.zip"
    form = {"compression": "identity", "path": path, "sha256": sha256, "size": 9}
    text = {"format": 1, "forms": [form], "sha256": sha256, "signatures": [], "size": 9}
    return {f"packages/{app}/{version}.json": json.dumps(text)}


def plan_files(
    versions: Sequence[str] = ("1.0.0.1",),
    *,
    withdrawn: Iterable[str] = (),
    staff: bool = False,
    check_after: int = 1800,
    workspace: str = WORKSPACE,
    list_file: str = "lists/staff.csv",
    column: str | None = "employee_id",
) -> dict[str, str]:
    """Write a plan of one app that offers each version to everyone, the newest to `staff` too."""
    files = {
        "workspace.yaml": f"workspace: {workspace}\ncheck_after: {check_after}\n"
        'cdn:\n  - {regions: ["*"], bases: ["https://cdn.example.com"]}\n'
    }
    app = [f"app: {COFFEE}", "name: Coffee", "packages:"]
    for version in versions:
        mark = ", withdrawn: true" if version in withdrawn else ""
        app.append(f"  - {{version: {version}{mark}}}")
        files |= record(version)
    app.append("releases:")
    if staff:
        where = f", column: {column}" if column else ""
        files["lists.yaml"] = f"lists:\n  - {{list: staff, of: user, file: {list_file}{where}}}\n"
        app.append(f"  - {{id: staff, package: {versions[-1]}, audience: {{lists: [staff]}}}}")
    app += [f"  - {{id: r{each}, package: {each}, audience: everyone}}" for each in versions]
    files["apps/coffee.yaml"] = "\n".join(app) + "\n"
    return files


def image_of(
    files: Mapping[str, str],
    ids: Mapping[str, Iterable[str]] | None = None,
    overrides: Sequence[layout.Override] = (),
) -> Image:
    """Compile a plan, given as texts, and the ids of its lists."""
    reading = read_files(files, now=0)
    assert reading.plan is not None, reading.diagnostics
    lists = []
    for source in reading.plan.lists:
        if source.regex:
            continue
        unique = sorted(set((ids or {})[source.name]))
        text = "".join(f"{each}\n" for each in unique).encode()
        lists.append(ListIds(source.name, source.of, len(unique), 0, 0, text, ()))
    return build_image(reading.plan, lists, overrides)


def withdrawal(version: str, app: str = COFFEE) -> layout.Override:
    """Write the override of a withdrawn version."""
    return {"what": "withdrawn", "app": app, "name": version, "value": "true"}


class Workshop:
    """A store, a Redis and a publisher's key, and the commands over them."""

    def __init__(self, folder: Path, link: SyncLink) -> None:
        """Start with an empty store in `folder`."""
        self.folder = folder
        self.store: Store = open_store(str(folder))
        self.link = link
        self.mirror = Mirror(link, WORKSPACE)
        self.now = int(time.time())

    def push(self, image: Image, **options: Any) -> Published:
        """Publish an image; stale checks are off unless `base` or `checkout` is given."""
        fresh = {"force": "base" not in options and "checkout" not in options}
        said: dict[str, Any] = {
            "store": self.store,
            "link": self.link,
            "key": publisher_key(),
            "workspace": WORKSPACE,
            "now": self.now,
            **fresh,
            **options,
        }
        return publish(image, **said)

    def live(self) -> Publication:
        """Read the live epoch."""
        found = read_live(self.store, self.mirror, WORKSPACE)
        assert found is not None
        return found

    def announce(self, name: str, epoch: int = 0, digest: bytes = b"", **other: Any) -> None:
        """Announce a gateway as one does itself."""
        said = {
            "name": name,
            "version": "0.1.0",
            "formats": [layout.FORMAT],
            "epoch": epoch,
            "digest": digest.hex(),
            "since": 0.0,
            **other,
        }
        self.link.set(KEYS.gateway(name), json.dumps(said), ex=30)
        self.link.zadd(KEYS.gateways, {name: self.now})

    def age_store(self, seconds: int = 7200) -> None:
        """Make every blob of the store look that old."""
        for path in (self.folder / "blobs").rglob("*"):
            if path.is_file():
                os.utime(path, (self.now - seconds, self.now - seconds))

    def redis_keys(self, kind: str) -> set[bytes]:
        """Name what Redis holds of a kind, by digest."""
        return {KEYS.digest(key) for key in self.mirror.every(kind)}


def assert_served(link: SyncLink, number: int | None = None) -> int:
    """Read the live epoch from Redis alone, as a gateway does; give its number.

    Every blob and bucket must be there with its digest, and the whole must build.
    """
    client: Any = link

    def blob(digest: bytes) -> bytes:
        found = client.get(KEYS.blob(digest))
        assert found is not None, "a blob is missing in Redis"
        assert layout.digest_of(found) == digest
        return bytes(found)

    found, digest = decode_pointer(client.get(KEYS.live))
    epoch = verify_epoch(
        blob(digest), digest=digest, workspace=WORKSPACE, trusted=[publisher_key().public]
    )
    publication = read_publication(digest, blob)
    assert epoch["number"] == found
    for each in mirrored_digests(publication.contents, publication.tree):
        blob(each)
    for each in bucket_digests(publication, blob):
        bucket = client.get(KEYS.bucket(each))
        assert bucket is not None, "a bucket is missing in Redis"
        assert layout.bucket_digest(bucket) == each
    build(digest, epoch, publication.contents, blob, None)
    assert number in (None, found)
    return found


def assert_stored(store: Store, digest: bytes) -> None:
    """Every blob that the epoch needs is in the store and intact."""
    publication = read_publication(digest, store.get_blob)
    for each in stored_digests(publication):
        store.get_blob(each)
