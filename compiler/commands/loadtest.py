"""`tidegate loadtest`: Locust with phones of our own, as a child process."""

import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import typer

from compiler.commands.console import err

USAGE = 2
TYPER: dict[str, Any] = {
    "add_help_option": False,  # --help is passed on, as everything is
    "context_settings": {"ignore_unknown_options": True, "allow_extra_args": True},
}


def loadtest(context: typer.Context) -> None:
    """Put a gateway under the load of a crowd of phones, and judge its answers by the plan.

    `tidegate loadtest --help` shows all options; loadtest/README.md teaches it.
    """
    if find_spec("locust") is None:
        err.print("Locust is not installed. Type: python -m pip install 'tidegate[loadtest]'")
        raise typer.Exit(USAGE)
    command = [sys.executable, "-m", "loadtest", *context.args]
    raise typer.Exit(_code_of(command))


def _code_of(command: list[str]) -> int:
    """Run a child to its end; it hears Ctrl-C itself, and says what came of the run."""
    with subprocess.Popen(command) as child:  # noqa: S603 - ourselves, as we were asked
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue
