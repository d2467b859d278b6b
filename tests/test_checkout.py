"""Git facts, asked of real repositories."""

import subprocess
from pathlib import Path

import pytest

from compiler.publication.checkout import Standing, read_checkout
from compiler.refusal import Refused


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody."""
    who = ["-c", "user.name=ann", "-c", "user.email=ann@example.com"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, text: str) -> str:
    """Commit a workspace.yaml; give the commit."""
    (folder / "workspace.yaml").write_text(text)
    git(folder, "add", "workspace.yaml")
    git(folder, "commit", "-q", "-m", text)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Give a repository with a plan in a folder of it."""
    git(tmp_path, "init", "-q", "-b", "main")
    folder = tmp_path / "plan"
    folder.mkdir()
    return folder


def test_head_and_dirt_of_the_plans_folder(plan: Path) -> None:
    """The commit is HEAD's; dirty is what differs in the plan's own folder, new files too."""
    first = commit(plan, "one")
    found = read_checkout(plan)
    assert found is not None
    assert (found.head, found.dirty, found.commit) == (first, False, first)
    (plan.parent / "elsewhere").write_text("x")
    assert not read_checkout(plan).dirty
    (plan / "new.yaml").write_text("x")
    assert read_checkout(plan).commit == first + "-dirty"


def test_outside_git_there_is_no_checkout(tmp_path: Path) -> None:
    """No repository, no commit yet, or a plan that Git does not keep: no checkout."""
    assert read_checkout(tmp_path) is None
    git(tmp_path, "init", "-q")
    (tmp_path / "workspace.yaml").write_text("x")
    assert read_checkout(tmp_path) is None
    (tmp_path / "other").write_text("x")
    git(tmp_path, "add", "other")
    git(tmp_path, "commit", "-q", "-m", "x")
    assert read_checkout(tmp_path) is None


def test_ancestors_are_contained(plan: Path) -> None:
    """HEAD contains itself and what it descends from, also if that was pushed dirty."""
    first = commit(plan, "one")
    second = commit(plan, "two")
    found = read_checkout(plan)
    assert found is not None
    assert found.standing(first) is Standing.CONTAINS
    assert found.standing(second) is Standing.CONTAINS
    assert found.standing(first + "-dirty") is Standing.CONTAINS


def test_a_stale_or_diverged_checkout_lacks(plan: Path) -> None:
    """A commit that is newer, or on another branch, is not contained."""
    commit(plan, "one")
    git(plan, "checkout", "-q", "-b", "side")
    side = commit(plan, "side")
    git(plan, "checkout", "-q", "main")
    found = read_checkout(plan)
    assert found is not None
    assert found.standing(side) is Standing.LACKS
    commit(plan, "two")
    assert read_checkout(plan).standing(side) is Standing.LACKS


@pytest.mark.parametrize("text", ["f" * 40, "", "HEAD", "--output=x", "main", "f" * 39])
def test_what_is_no_known_commit_is_unknown(plan: Path, text: str) -> None:
    """Neither unknown hashes nor names nor options count as a commit."""
    commit(plan, "one")
    found = read_checkout(plan)
    assert found is not None
    assert found.standing(text) is Standing.UNKNOWN


def test_a_failing_git_is_a_sentence(plan: Path) -> None:
    """A repository that git cannot read is refused with git's words."""
    commit(plan, "one")
    (plan.parent / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (plan.parent / ".git" / "config").write_text("[broken")
    with pytest.raises(Refused, match="git cannot read"):
        read_checkout(plan)
