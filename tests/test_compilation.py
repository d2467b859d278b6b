"""A folder to an image: faults of lists are shown like those of the plan, and what was dropped."""

from pathlib import Path

import pytest

from compiler.compilation import compile_folder, load
from compiler.diagnostic import PlanError, render
from compiler.language.starting import start_plan

NOW = 1_800_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Start the sample plan."""
    start_plan(tmp_path / "plan")
    return tmp_path / "plan"


def test_a_fault_in_a_list_has_its_line_and_a_caret(folder: Path) -> None:
    """The line of the list's file stands under the message, however far down it is."""
    ids = "".join(f"u-{number}\n" for number in range(5_000))
    (folder / "lists" / "staff.csv").write_text(f"user_id\n{ids}8841.0\nu-1\n")
    loaded = load(folder, None, NOW)
    text = render(loaded.diagnostics, loaded.sources)
    assert "lists/staff.csv:5002:1: error" in text
    assert "\n  5002 | 8841.0\n       | ^" in text
    with pytest.raises(PlanError, match="8841"):
        assert loaded.plan


def test_what_a_list_dropped_is_counted(folder: Path) -> None:
    """Duplicates and empty lines are no faults, but nobody should have to guess."""
    (folder / "lists" / "staff.csv").write_text("user_id\nu-1\nu-2\n\nu-1\nu-1\n")
    (line,) = load(folder, None, NOW).dropped
    assert line == "list staff: 2 user ids; 2 duplicates and 1 empty lines dropped"


def test_a_stored_list_needs_the_store(folder: Path) -> None:
    """Without a store a plan with stored lists can be validated, but not compiled."""
    (folder / "lists.yaml").write_text("lists: [{list: staff, of: user, stored: true}]\n")
    assert any("were not looked at" in each.message for each in load(folder, None, NOW).diagnostics)
    with pytest.raises(PlanError, match="lie in the store"):
        compile_folder(folder, None, NOW)
