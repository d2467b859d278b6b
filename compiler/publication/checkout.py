"""What Git says of the plan's folder: which commit it is at, and what that commit contains.

Git is asked through its own program, read-only and without taking its locks.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from compiler.refusal import Refused

DIRTY = "-dirty"
"""Marks the commit of a folder that differed from it."""

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_TIMEOUT_SECONDS = 60
_ABSENT = ("not a git repository", "needed a single revision", "unknown revision")


class Standing(Enum):
    """How a checkout stands to a commit."""

    CONTAINS = "contains it"
    LACKS = "does not contain it"
    UNKNOWN = "has never seen it"


@dataclass(frozen=True, slots=True)
class Checkout:
    """A plan's folder inside Git: `head` is HEAD's full commit, `dirty` if the folder differs."""

    folder: Path
    head: str
    dirty: bool

    @property
    def commit(self) -> str:
        """What an epoch published from here notes as its commit."""
        return self.head + (DIRTY if self.dirty else "")

    def standing(self, commit: str) -> Standing:
        """Tell whether HEAD is, or descends from, the commit of an epoch.

        Raises Refused when git itself fails.
        """
        commit = commit.removesuffix(DIRTY)
        # The text comes from a store: nothing but a full hash may reach git's command line.
        if not _COMMIT.match(commit):
            return Standing.UNKNOWN
        if _git(self.folder, "cat-file", "-e", commit + "^{commit}").returncode:
            return Standing.UNKNOWN
        asked = _git(self.folder, "merge-base", "--is-ancestor", commit, self.head)
        if asked.returncode not in (0, 1):
            raise Refused(f"git cannot compare commits in {self.folder}: {_sentence(asked)}")
        return Standing.LACKS if asked.returncode else Standing.CONTAINS


def checkout_at(checkout: Checkout | None, commit: str) -> Checkout | None:
    """Give the checkout as it was at the commit of a plan that was compiled earlier.

    What was compiled there does not contain what came later. None when that commit is not known.
    """
    if checkout is None or checkout.standing(commit) is Standing.UNKNOWN:
        return None
    head = commit.removesuffix(DIRTY)
    return Checkout(checkout.folder, head, dirty=commit.endswith(DIRTY))


def read_checkout(folder: Path) -> Checkout | None:
    """Ask Git about a plan's folder; None when its workspace.yaml is not kept in Git.

    Raises Refused when git itself fails, as for a folder that belongs to another user.
    """
    if shutil.which("git") is None:
        return None
    head = _git(folder, "rev-parse", "--verify", "HEAD")
    if head.returncode:
        if any(reason in head.stderr.lower() for reason in _ABSENT):
            return None
        raise Refused(f"git cannot read {folder}: {_sentence(head)}")
    # A plan that merely lies below somebody's checkout has nothing to do with its commits.
    if not _told(folder, "ls-files", "--", "workspace.yaml"):
        return None
    dirty = _told(folder, "status", "--porcelain", "--", ".")
    return Checkout(folder, head.stdout.strip(), bool(dirty))


def _told(folder: Path, *arguments: str) -> str:
    asked = _git(folder, *arguments)
    if asked.returncode:
        raise Refused(f"git cannot read {folder}: {_sentence(asked)}")
    return asked.stdout.strip()


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        return subprocess.run(  # noqa: S603 - no shell; the arguments are ours or a checked hash
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's own git
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_SECONDS,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise Refused(f"git cannot be run in {folder}: {fault}.") from fault


def _sentence(asked: subprocess.CompletedProcess[str]) -> str:
    return asked.stderr.strip() or f"it ended with {asked.returncode} and said nothing."
