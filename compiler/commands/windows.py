"""`tidegate window`: what an operator does to a time window besides the plan."""

from typing import Annotated

import typer

from compiler.commands.console import confirm, counted, say
from compiler.commands.naming import app_id
from compiler.commands.session import (
    DEFAULT_REDIS,
    RedisUrl,
    StorePlace,
    WorkspaceName,
    Yes,
    open_session,
)
from compiler.publication.windows import reopen as reopen_window
from compiler.windows import window_name

window_app = typer.Typer(help="Time windows: first N until T.", no_args_is_help=True)


@window_app.callback()
def window() -> None:
    """Time windows: first N until T."""


@window_app.command()
def reopen(
    app: Annotated[str, typer.Argument(help="The app's id, or its file's name.")],
    release: Annotated[str, typer.Argument(help="The release's id.")],
    yes: Yes = False,
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Begin a time window again whose seats Redis has lost.

    All seats are free then: whoever was seated before and has not installed the package may lose
    the seat to somebody else. Until this is done, nobody is seated.
    """
    session = open_session(redis, store, workspace, changes=True)
    live = session.live()
    name = window_name(app_id(live.tree["apps"], app), release)
    if not confirm(f"Begin the window {name} again, with all seats free?", yes=yes):
        raise typer.Exit(3)
    free = reopen_window(session.mirror, live.tree["windows"], name)
    say(f"The window {name} is open again, with {counted(free, 'free seat')}.")
