"""`tidegate loadtest`: Locust with phones of our own, in place of this process."""

import os
import sys
from importlib.util import find_spec
from typing import Any, NoReturn

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
    become("loadtest", context.args)


def become(module: str, arguments: list[str]) -> NoReturn:
    """Go on as `python -m MODULE`: whoever ends this process by its id ends that one."""
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - ourselves
