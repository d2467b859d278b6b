"""The habits that a linter does not know, enforced."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path for top in ("gateway", "compiler", "loadtest") for path in ROOT.glob(f"{top}/**/*.py")
)
TEXTS = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
).stdout.split("\n")
FUNCTION_LINES = 70
FILE_LINES = 600
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "misc", "stuff", "core", "manager"}
TOP = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "compiler",
    "deploy",
    "gateway",
    "loadtest",
    "pyproject.toml",
    "requirements.lock",
    "setup.py",
    "tests",
}


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=_shown)
def test_every_file_says_what_it_is(path: Path) -> None:
    """A file opens with a docstring, is named by a noun of the field, and is no heap."""
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), "no docstring"
    assert path.stem not in VAGUE
    assert text.count("\n") <= FILE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=_shown)
def test_functions_fit_on_a_screen(path: Path) -> None:
    """No function is longer than a screen."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            assert lines <= FUNCTION_LINES, f"{node.name} has {lines} lines"


def test_nothing_is_left_over() -> None:
    """No note to oneself, no machine's path, no registry's host stands in any file."""
    forbidden = re.compile(
        r"\b(?:FIX"
        r"ME|TO"
        r"DO|XX"
        r"X)\b|/wo"
        r"rk/|pypi\.(?:org|python)|files\.python"
        r"hosted"
        r"|registry\.npm"
        r"js|deb\.debian\.org"
    )
    for name in filter(None, TEXTS):
        path = ROOT / name
        if path.suffix == ".tgd" or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            assert not forbidden.search(line), f"{name}:{number}: {line.strip()[:80]}"


def test_the_top_level_is_small() -> None:
    """Beside the six folders stands only what tools need."""
    assert {name.split("/")[0] for name in filter(None, TEXTS)} <= TOP


def test_every_test_says_its_law() -> None:
    """A test function has a docstring: the law in a sentence."""
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        for node in ast.parse(path.read_text()).body:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if function and node.name.startswith("test_"):
                assert ast.get_docstring(node), f"{_shown(path)}: {node.name}"
