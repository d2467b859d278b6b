"""An operator's workplace: a plan in Git, a store, a key, a real Redis and a real gateway."""

import json
import os
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import processes

REAL = Path(os.environ.get("TIDEGATE_REAL", processes.ROOT.parent / "shared" / "real"))
APP = "2021000000000001"


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command said; `out` is its result, `err` what it told a person meanwhile."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Workplace:
    """Everything that one operator has."""

    folder: Path
    redis_url: str
    gateway: processes.Gateway
    store: str = ""

    @property
    def plan(self) -> Path:
        """The plan's folder."""
        return self.folder / "plan"

    def run(
        self, *arguments: str, code: int | None = 0, cwd: Path = processes.ROOT, **environment: str
    ) -> Ran:
        """Run `tidegate` in a folder; hold its exit code to `code`."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
        settings = {
            "TIDEGATE_REDIS": self.redis_url,
            "TIDEGATE_STORE": self.store or str(self.folder / "store"),
            "TIDEGATE_WORKSPACE": "demo",
            "TIDEGATE_KEY": str(self.folder / "keys" / "ann.pem"),
            "COLUMNS": "150",
            "PYTHONPATH": str(processes.ROOT),
        }
        done = subprocess.run(
            [sys.executable, "-m", "compiler.cli", *arguments],
            cwd=cwd,
            env=kept | settings | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert "Traceback" not in done.stderr, done.stderr
        if code is not None:
            assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
        return Ran(done.returncode, done.stdout, done.stderr)

    def push(self, *arguments: str, code: int | None = 0) -> Ran:
        """Push the plan; a gateway that runs is waited for, once it has announced itself."""
        processes.wait_until(self.gateway.is_announced, "the gateway announces itself")
        return self.run("push", str(self.plan), *arguments, code=code)

    def git(self, *arguments: str) -> str:
        """Run git in the plan's folder, as an operator whose name is known."""
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=self.plan, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        """Commit everything; give the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def write(self, name: str, text: str) -> None:
        """Write a file of the plan."""
        path = self.plan / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def check(self, **request: Any) -> dict[str, Any]:
        """Ask the gateway over HTTP; give its whole answer."""
        body = json.dumps({"apps": {APP: None}} | request).encode()
        asked = urllib.request.Request(f"{self.gateway.url}/v1/check", body)
        with urllib.request.urlopen(asked, timeout=30) as response:
            found: dict[str, Any] = json.loads(response.read())
            return found

    def report(self, event: str, release: str, **who: Any) -> None:
        """Report on the one app over HTTP."""
        body = {"reports": [{"app": APP, "release": release, "event": event}]} | who
        asked = urllib.request.Request(f"{self.gateway.url}/v1/report", json.dumps(body).encode())
        with urllib.request.urlopen(asked, timeout=30) as response:
            assert json.loads(response.read()) == {"accepted": 1, "passed_over": 0}

    def app(self, **request: Any) -> dict[str, Any]:
        """Ask about the one app; give what is said of it."""
        found: dict[str, Any] = self.check(**request)["apps"][0]
        return found

    def upload(self, version: str, source: Path) -> None:
        """Pack a folder or a tarball and upload it."""
        package = self.folder / f"{version}.zip"
        self.run("pack", str(source), "--out", str(package), "--kind", "bundle")
        where = ("--app", APP, "--version", version, "--plan", str(self.plan))
        self.run("upload", str(package), *where)

    def make_bundle(self, version: str) -> Path:
        """Make a small tarball of its own for a version."""
        text = self.folder / "text"
        text.write_text(f"module.exports = {version!r}\n" * 40)
        path = self.folder / f"{version}.tgz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(text, "package/index.js")
        return path


@contextmanager
def workplace(folder: Path, redis_url: str, store: str = "") -> Iterator[Workplace]:
    """Set up a workplace with a key, an empty plan in Git, and a gateway that trusts the key.

    `store` is a bucket's URL; else it is a folder of the workplace.
    """
    gateway = processes.Gateway(
        folder / "gateway",
        redis_url,
        STORE=store or str(folder / "store"),
        TRUSTED_KEYS=str(folder / "keys" / "ann.pub"),
    )
    place = Workplace(folder, redis_url, gateway, store)
    place.plan.mkdir()
    place.git("init", "--quiet")
    place.run("keygen", "ann", "--dir", str(folder / "keys"), "--no-passphrase")
    try:
        gateway.start()
        yield place
    finally:
        gateway.stop()
