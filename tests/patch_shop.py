"""A plan and a store to patch in: versions made of bytes, and `tidegate patch` as a process."""

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import processes
from compiler.storage.store import Store, open_store

APP = "coffee"


def edited(data: bytes, seed: int, edits: int = 8) -> bytes:
    """Change some places of a package, as the next version does."""
    chance, found = random.Random(seed), bytearray(data)
    for _ in range(edits):
        at = chance.randrange(len(found))
        found[at : at + chance.randint(0, 12)] = chance.randbytes(chance.randint(1, 20))
    return bytes(found)


def versions(number: int, size: int = 20_000) -> dict[str, bytes]:
    """Make so many versions of a package, each an edition of the one before."""
    data = random.Random(number).randbytes(size)
    found = {}
    for minor in range(1, number + 1):
        found[f"1.{minor}"] = data
        data = edited(data, minor)
    return found


@dataclass(frozen=True, slots=True)
class Shop:
    """A plan's folder and a store's."""

    folder: Path

    @property
    def plan(self) -> Path:
        """The plan's folder."""
        return self.folder / "plan"

    @property
    def where(self) -> Path:
        """The store's folder."""
        return self.folder / "store"

    @property
    def store(self) -> Store:
        """The store."""
        return open_store(str(self.where))

    def fill(
        self,
        packages: Mapping[str, bytes],
        *,
        offered: str,
        withdrawn: tuple[str, ...] = (),
        app: str = APP,
    ) -> None:
        """Write a plan that offers one version, with records and files of all."""
        (self.plan / "apps").mkdir(parents=True, exist_ok=True)
        (self.plan / "workspace.yaml").write_text("workspace: demo\n")
        lines = [f"app: {app}", "packages:"]
        for version, data in packages.items():
            extra = ", withdrawn: true" if version in withdrawn else ""
            lines.append(f"  - {{version: {version}{extra}}}")
            self.record(app, version, data)
        lines += ["releases:", f"  - {{id: stable, package: {offered}, audience: everyone}}"]
        (self.plan / "apps" / f"{app}.yaml").write_text("\n".join(lines) + "\n")

    def record(self, app: str, version: str, data: bytes) -> str:
        """Put a package into the store, and its record into the plan; give its path."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = f"files/{sha256[:2]}/{sha256}.zip"
        form = {"compression": "identity", "path": path, "sha256": sha256, "size": len(data)}
        text = {"format": 1, "forms": [form], "sha256": sha256, "signatures": [], "size": len(data)}
        file = self.plan / "packages" / app / f"{version}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
        self.store.put_named(path, data)
        return path

    def command(self, *arguments: str) -> list[str]:
        """Give the command line of `tidegate patch` here."""
        where = ("--store", str(self.where), "--memory", "4000")
        return [
            *(sys.executable, "-m", "compiler.cli", "patch"),
            *(*arguments, str(self.plan), *where, "--json"),
        ]

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start `tidegate patch --json`."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
        return subprocess.Popen(
            self.command(*arguments),
            cwd=processes.ROOT,
            env=kept,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def patch(self, *arguments: str, code: int = 0) -> Any:
        """Run it; give what it says as JSON, or its complaint when that is no data."""
        started = self.start(*arguments)
        out, err = started.communicate(timeout=120)
        assert "Traceback" not in err, err
        assert started.returncode == code, out + err
        return json.loads(out) if out.startswith(("{", "[")) else err

    def index(self, version: str, app: str = APP) -> Any:
        """Read the index of the patches to a version."""
        data = self.store.get_named(f"patches/{app}/{version}.json")
        return json.loads(data) if data is not None else None

    def made(self) -> dict[str, bytes]:
        """Give every patch and index in the store."""
        names = self.store.list_named()
        wanted = [name for name in names if name.endswith(("4", "zstd-patch", ".json"))]
        return {name: self.store.get_named(name) or b"" for name in wanted}
