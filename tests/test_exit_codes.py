"""The exit codes: what a fault's class means, known without importing what may raise it."""

import subprocess
import sys
from importlib import import_module

import pytest

import processes
from compiler import cli
from compiler.publication.live import UnreadableError
from gateway.errors import TidegateError


def test_every_name_is_a_fault() -> None:
    """A class that is renamed or moved must not lose its code."""
    for name in cli.CODES:
        module, _, kind = name.rpartition(".")
        assert issubclass(getattr(import_module(module), kind), TidegateError), name


@pytest.mark.parametrize(
    ("fault", "code"), [(UnreadableError("x"), cli.AWAY), (TidegateError("x"), cli.A_BUG)]
)
def test_a_fault_has_the_code_of_its_nearest_kind(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, code: int
) -> None:
    """A special fault means what the general one does; what nobody has reckoned with is a bug."""

    def fail(**_: object) -> None:
        raise fault

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr("sys.argv", ["tidegate"])
    monkeypatch.setattr(cli, "register", lambda names: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        ("overriding", {"jwt", "numpy", "pyarrow", "bsdiff4", "rich.progress", "pydantic.main"}),
        ("enlisting", {"jwt", "pyarrow", "bsdiff4", "rich.progress", "pydantic.main"}),
    ],
)
def test_an_emergency_imports_no_more_than_it_needs(command: str, heavy: set[str]) -> None:
    """Not what verifies packages, reads lists' files, makes tables of millions, or draws bars."""
    code = f"import sys, compiler.cli, compiler.commands.{command}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=processes.ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert not heavy & set(done.stdout.split())
