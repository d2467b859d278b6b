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


def test_an_emergency_imports_no_more_than_it_needs() -> None:
    """Not what verifies packages, reads lists' files, sorts millions of ids or draws bars."""
    command = "import sys, compiler.cli, compiler.commands.overriding; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", command],
        cwd=processes.ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    heavy = {"jwt", "numpy", "pyarrow", "bsdiff4", "rich.progress", "pydantic.main"}
    assert not heavy & set(done.stdout.split())
