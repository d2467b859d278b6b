"""An app as an operator names it: by its id, or by its file's name."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import typer

from compiler.language.words import is_name
from compiler.overrides import find_app, find_switch
from compiler.plan import Plan
from gateway.version import parse_version

_APP_ID = re.compile(r"""^app:[ \t]*["']?([A-Za-z0-9._-]+)""", re.MULTILINE)


def app_of_file(plan: Path, name: str) -> str:
    """Give the id in apps/NAME.yaml of a plan's folder; the name itself if there is no such file.

    The rest of the plan is not looked at: it may name what is not uploaded yet. Raises
    BadParameter when a file seems to be meant: another id than its own could stand for an app
    that is not encrypted.
    """
    file = plan / "apps" / f"{name}.yaml"
    if not is_name(name) or not file.is_file():
        _refuse_near(plan, name)
        return name
    found = _APP_ID.search(file.read_bytes().decode(errors="replace").removeprefix("\ufeff"))
    if found is None:
        raise typer.BadParameter(
            f'{file} has no line "app: ID" that can be read. Write one, in UTF-8, or name the app '
            "by its id."
        )
    return found[1]


def _refuse_near(plan: Path, name: str) -> None:
    for path in sorted(plan.glob("apps/*")):
        if path.stem.casefold() == name.casefold() and path.suffix.lower() in {".yaml", ".yml"}:
            raise typer.BadParameter(
                f"There is no apps/{name}.yaml, but apps/{path.name}. Let both be written alike."
            )


def app_id(files: Mapping[str, str], name: str) -> str:
    """Give the id of the app that is meant; `files` has every app's file by its id.

    Raises BadParameter with the nearest known name.
    """
    if name in files:
        return name
    meant = [app for app, file in files.items() if file == f"apps/{name}.yaml"]
    if meant:
        return meant[0]
    names = [PurePosixPath(file).stem for file in files.values()]
    raise _unknown("app", name, "the live epoch", [*files, *names])


def refuse_unknown_release(plan: Plan, app: str, name: str) -> None:
    """Raise BadParameter, with the nearest known id, for a release that an app does not have."""
    found = find_app(plan, app)
    ids = [release.id for release in found.releases] if found is not None else []
    if name not in ids:
        raise _unknown("release", name, f"app {app}", ids)


def refuse_unknown_version(plan: Plan, app: str, name: str) -> None:
    """Raise BadParameter, with the nearest known one, for a version that an app does not have."""
    found = find_app(plan, app)
    packages = found.packages if found is not None else ()
    if all(package.key != parse_version(name) for package in packages):
        raise _unknown("version", name, f"app {app}", [package.version for package in packages])


def refuse_unknown_switch(plan: Plan, key: str, variant: str | None) -> None:
    """Raise BadParameter, with the nearest known one, for a switch or a variant that is not."""
    switch = find_switch(plan, key)
    if switch is None:
        raise _unknown("switch", key, "the live epoch", [each.key for each in plan.switches])
    if variant is not None and variant not in switch.variants:
        raise _unknown("variant", variant, f"switch {key}", list(switch.variants))


def _unknown(what: str, name: str, where: str, known: list[str]) -> typer.BadParameter:
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return typer.BadParameter(f"There is no {what} {name!r} in {where}.{hint}")
