"""An operator's desk in tests: a plan that was pushed, and the commands, run in this process."""

import gc
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import processes
from compiler import cli
from compiler.publication.publisher_key import create_key
from gateway import layout
from publishing import COFFEE, Workshop, record

DONE, USAGE, REFUSED = 0, 2, 3
RAMP = "percent: [{at: 2026-11-23T09:00:00Z, percent: 1}, {at: 2026-11-24T09:00:00Z, percent: 9}]"
APP = f"""\
app: {COFFEE}
packages:
  - version: 1
  - {{version: 2, clients: {{android: ">=10"}}}}
  - version: 3   # the newest
releases:
  - id: ramp   # watch it
    package: 2
    audience: {{percent: 5}}
  - {{id: slow, package: 3, audience: {{{RAMP}}}}}
  - {{id: staff, package: 3, audience: {{lists: [staff]}}, state: paused}}
  - {{id: old, package: 1, audience: everyone, state: ended}}
  - {{id: stable, package: 1, audience: everyone, when: [{{attribute: platform, in: android}}]}}
"""
FILES = {
    "workspace.yaml": "workspace: demo\n",
    "lists.yaml": "lists:\n  - {list: staff, of: user, regex: '^s'}\n",
    "apps/coffee.yaml": APP,
    **record("1"),
    **record("2"),
    **record("3"),
}


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command said; `err` is what it told a person meanwhile."""

    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Desk:
    """An operator's desk: a plan that was pushed as epoch 1, and the commands."""

    workshop: Workshop
    folder: Path
    run: Callable[..., Ran]

    def push(self, app: str = APP, *more: str, code: int = DONE) -> Ran:
        """Push the plan with another app file, onto what is live."""
        (self.folder / "apps/coffee.yaml").write_text(app)
        base = str(self.workshop.live().number)
        return self.run("push", str(self.folder), "--base", base, *more, code=code)

    def laid(self) -> list[tuple[str, str, str]]:
        """Give what is laid over the live plan: what, name and value."""
        overrides = self.workshop.live().tree["overrides"]
        return [(each["what"], each["name"], each["value"]) for each in overrides]

    def offered(self) -> set[str]:
        """Name the releases that the live program offers."""
        digest = self.workshop.live().contents["programs"][COFFEE]
        program = layout.decode(layout.Program, self.workshop.store.get_blob(digest))
        return {release["id"] for release in program["releases"]}


@pytest.fixture
def desk(
    workshop: Workshop,
    server: processes.RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Desk]:
    """Set up a desk whose commands run in this process."""
    create_key(tmp_path / "keys", "ann", None)
    monkeypatch.setenv("TIDEGATE_REDIS", server.url)
    monkeypatch.setenv("TIDEGATE_STORE", str(workshop.folder))
    monkeypatch.setenv("TIDEGATE_WORKSPACE", "demo")
    monkeypatch.setenv("TIDEGATE_KEY", str(tmp_path / "keys" / "ann.pem"))
    thresholds = gc.get_threshold()

    def run(*arguments: str, code: int = DONE) -> Ran:
        monkeypatch.setattr("sys.argv", ["tidegate", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert ended.value.code == code, said
        return Ran(said.out, said.err)

    folder = tmp_path / "plan"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for version in "123":
        path = re.search(r'"(files/[^"]*)"', *record(version).values())[1]  # type: ignore[index]
        workshop.store.put_named(path, b"nine byte")
    run("push", str(folder))
    yield Desk(workshop, folder, run)
    gc.set_threshold(*thresholds)
