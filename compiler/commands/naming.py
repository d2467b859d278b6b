"""An app as an operator names it: by its id, or by its file's name."""

import re
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import typer

from compiler.language.words import is_name
from compiler.plan import Plan

_APP_ID = re.compile(r"""^app:[ \t]*["']?([A-Za-z0-9._-]+)""", re.MULTILINE)


def app_of_file(plan: Path, name: str) -> str:
    """Give the id in apps/NAME.yaml of a plan's folder; the name itself if there is no such file.

    The rest of the plan is not looked at: it may name what is not uploaded yet.
    """
    file = plan / "apps" / f"{name}.yaml"
    if not is_name(name) or not file.is_file():
        return name
    found = _APP_ID.search(file.read_bytes().decode(errors="replace").removeprefix("\ufeff"))
    return found[1] if found else name


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
