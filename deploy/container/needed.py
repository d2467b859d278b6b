"""Prints the part of requirements.lock that an installation needs, hashes and all.

    python needed.py                     what a gateway needs
    python needed.py store compiler      and what these extras of pyproject.toml need
    python needed.py --only NAME…        only these packages and what they need

There is one lock file, so that what tests ran with is what runs. It says behind each package which
others asked for it (`# via`); from there follows who is needed. `pip install --require-hashes`
refuses the outcome should anything be missing.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Locked(NamedTuple):
    """One package of the lock file: its lines, and who asked for it."""

    lines: str
    via: frozenset[str]


def normal(requirement: str) -> str:
    """Give a requirement's name as the lock file writes it."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    if found is None:
        raise ValueError(f"{requirement!r} names no package.")
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def read_lock(text: str) -> dict[str, Locked]:
    """Give the packages of a lock file by name."""
    found: dict[str, Locked] = {}
    for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE):
        lines = [line for line in block.splitlines() if not line.lstrip().startswith("#")]
        asked = re.findall(r"^ +# +(?:via +)?([A-Za-z0-9][\w.-]*)", block, re.MULTILINE)
        if lines:
            via = frozenset(normal(each) for each in asked if each != "via")
            before = found.get(normal(block), Locked("", frozenset()))  # another Python's version
            found[normal(block)] = Locked(before.lines + "\n".join([*lines, ""]), before.via | via)
    return found


def select(lock: Mapping[str, Locked], wanted: Iterable[str]) -> list[str]:
    """Name what is wanted and all that it needs. Raises ValueError for what is not locked."""
    needed = {normal(each) for each in wanted}
    for name in sorted(needed):
        if name not in lock:
            raise ValueError(f"{name} is not in requirements.lock. Type: make lock")
    before = 0
    while len(needed) > before:
        before = len(needed)
        needed |= {name for name, locked in lock.items() if locked.via & needed}
    return sorted(needed)


def main(arguments: list[str], folder: Path) -> None:
    """Print what these arguments need of the files in a folder."""
    lock = read_lock((folder / "requirements.lock").read_text(encoding="utf-8"))
    project: Any = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    if arguments[:1] == ["--only"]:
        wanted = arguments[1:]
    else:
        for extra in arguments:
            wanted += project["optional-dependencies"][extra]
    print("".join(lock[name].lines for name in select(lock, wanted)), end="")


if __name__ == "__main__":
    main(sys.argv[1:], Path())
