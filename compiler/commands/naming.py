"""An app as an operator names it: by its id, or by its file's name."""

from difflib import get_close_matches
from pathlib import PurePosixPath

import typer

from compiler.plan import Plan


def app_id(plan: Plan, name: str) -> str:
    """Give the id of the app that is meant. Raises BadParameter with the nearest known name."""
    by_name = {PurePosixPath(app.file).stem: app.id for app in plan.apps}
    ids = {app.id for app in plan.apps}
    if name in ids:
        return name
    if name in by_name:
        return by_name[name]
    near = get_close_matches(name, [*ids, *by_name], n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise typer.BadParameter(f"There is no app {name!r} in the live epoch.{hint}")
