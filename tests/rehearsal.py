"""A Dockerfile built without an engine: its COPY and RUN lines, below a folder in place of /.

All stages share the folder, so that what one stage takes from another is there already.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tools import ROOT


class Step(NamedTuple):
    """One instruction of a Dockerfile, in its stage."""

    stage: str
    word: str
    text: str


def read_steps(dockerfile: Path) -> Iterator[Step]:
    """Give the instructions, continued lines joined."""
    stage = ""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    for line in re.sub(r"\\\n", " ", text).splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stage = rest.rpartition(" AS ")[2]
        if word:
            yield Step(stage, word, rest)


def let_in(dockerignore: Path) -> set[str]:
    """Give the files under version control that the builder is given at all."""
    lines = dockerignore.read_text().splitlines()
    assert "*" in lines
    wanted = [line[1:] for line in lines if line.startswith("!")]
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *wanted]
    found = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(found.stdout.split())


class Builder:
    """Carries out the steps of stages below `root`; what the context lacks cannot be copied."""

    def __init__(self, root: Path, context: set[str]) -> None:
        """Start with an empty root."""
        self.root = root
        self._context = context
        self._folder = root / "src"
        self._path = root / "path"
        self._path.mkdir(parents=True)
        (self._path / "python").symlink_to(sys._base_executable)  # type: ignore[attr-defined]

    def carry_out(self, step: Step) -> None:
        """Do what a step says, if it is COPY from the context or RUN."""
        if step.word == "COPY" and not step.text.startswith("--from"):
            self._copy(step.text.split())
        elif step.word == "RUN" and "apt-get" not in step.text:
            self._run(step.text)

    def _copy(self, words: list[str]) -> None:
        *sources, target = words
        for source in sources:
            found = {name for name in self._context if f"{name}/".startswith(f"{source}/")}
            assert found, f"COPY {source}: the builder is not given it"
            for name in found:
                inside = Path(name).relative_to(source) if name != source else Path()
                place = self._folder / target / (Path(source).name if target == "./" else "")
                (place / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, place / inside)

    def _run(self, text: str) -> None:
        text = re.sub(r"(?<![\w/])/(?=opt|src)", f"{shlex.quote(str(self.root))}/", text)
        environ = os.environ | {"PATH": f"{self._path}:{os.environ['PATH']}"}
        environ.pop("PYTHONPATH", None)
        done = subprocess.run(
            ["sh", "-c", text],
            cwd=self._folder,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"RUN {text}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
