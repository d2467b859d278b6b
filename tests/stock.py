"""Packages for phones: small bundles, each an edition of the one before, packed and uploaded.

Commands run in this process, so that a test can stock a shop of many apps in a second.
"""

import io
import os
import random
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

from compiler.cli import main
from compiler.language.encryption_source import read_encryption
from compiler.language.key_source import read_keys
from compiler.packaging.archive import pack
from compiler.packaging.upload import upload_all
from compiler.storage.store import open_store
from patch_shop import edited
from workplace import Workplace

WORDS, TEXT_WORDS, EDITS = 900, 6_000, 60


def editions(versions: Sequence[str], seed: int = 10) -> dict[str, bytes]:
    """Make the text of each version, some 50 KB that compress to a half."""
    chance = random.Random(seed)
    words = [chance.randbytes(4).hex() for _ in range(WORDS)]
    data = "\n".join(chance.choice(words) for _ in range(TEXT_WORDS)).encode()
    found = {}
    for number, version in enumerate(versions):
        found[version] = data
        data = edited(data, number, EDITS)
    return found


def packed(folder: Path, texts: Mapping[str, bytes]) -> dict[str, Path]:
    """Pack a bundle a version, into the folder."""
    found = {}
    for version, text in texts.items():
        source, target = folder / f"bundle-{version}", folder / f"{version}.zip"
        source.mkdir(parents=True)
        (source / "index.js").write_bytes(text)
        pack(source, target, kind="bundle")
        found[version] = target
    return found


def stock(place: Workplace, app: str, packages: Mapping[str, Path]) -> None:
    """Upload packages of an app, as `tidegate upload` does; signatures beside them go along."""
    for version, file in packages.items():
        upload_all(
            [file],
            app=app,
            version=version,
            plan=place.plan,
            store=open_store(str(place.folder / "store")),
            keys=read_keys(place.plan),
            encryption=read_encryption(place.plan),
        )


def run_here(place: Workplace, *arguments: str, code: int = 0, **environment: str) -> str:
    """Run `tidegate` as Workplace.run does, in this process; give all that it says."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
    settings = {
        "TIDEGATE_REDIS": place.redis_url,
        "TIDEGATE_STORE": str(place.folder / "store"),
        "TIDEGATE_WORKSPACE": "demo",
        "TIDEGATE_KEY": str(place.folder / "keys" / "ann.pem"),
    }
    said, left = io.StringIO(), 0
    with (
        mock.patch.dict(os.environ, kept | settings | environment, clear=True),
        mock.patch.object(sys, "argv", ["tidegate", *arguments]),
        redirect_stdout(said),
        redirect_stderr(said),
    ):
        try:
            main()
        except SystemExit as end:
            left = int(end.code or 0)
    assert left == code, f"{arguments}: {said.getvalue()}"
    return said.getvalue()


def publish(place: Workplace) -> None:
    """Commit the plan as it is, and push it, whatever is live."""
    place.git("add", "--all")
    place.git("commit", "--quiet", "--allow-empty", "--message", "next")
    run_here(place, "push", str(place.plan), "--force")
