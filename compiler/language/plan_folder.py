"""A plan's folder: which files are read, and whether the files of lists are there."""

import os
from pathlib import Path

from compiler.language.draft import Draft, file_span
from compiler.language.faults import Faults, quote
from compiler.language.plan_text import MOST_BYTES


def find_files(folder: Path, faults: Faults) -> list[str] | None:
    """List the files that a plan may have, and those that look as if meant for one.

    None after reporting that the folder itself cannot be listed.
    """
    try:
        os.listdir(folder)  # noqa: PTH208 - only whether it can be listed
    except OSError as fault:
        faults.error(
            file_span(str(folder)),
            f"This folder cannot be read ({fault.strerror}). Name a plan's folder, or run "
            "`tidegate init` to start one.",
        )
        return None
    found = [name for name in _names(folder, "", faults) if _is_yaml(name)]
    found += find_app_files(folder, faults)
    for app in _names(folder, "packages", faults):
        found += [
            f"packages/{app}/{name}"
            for name in _names(folder, f"packages/{app}", faults)
            if name.endswith(".json")
        ]
    return sorted(found)


def find_app_files(folder: Path, faults: Faults) -> list[str]:
    """List the files in apps/, and those below it that look as if meant for an app."""
    found = []
    for name in _names(folder, "apps", faults):
        if _is_yaml(name):
            found.append(f"apps/{name}")
        elif (folder / "apps" / name).is_dir():
            below = _names(folder, f"apps/{name}", faults)
            found += [f"apps/{name}/{each}" for each in below if _is_yaml(each)]
    return sorted(found)


def _is_yaml(name: str) -> bool:
    return name.lower().endswith((".yaml", ".yml"))


def _names(folder: Path, below: str, faults: Faults) -> list[str]:
    """List a folder; hidden entries belong to other tools."""
    try:
        names = os.listdir(folder / below)  # noqa: PTH208 - names alone, quick for 10,000 files
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as fault:
        faults.error(
            file_span(below),
            f"This folder cannot be listed ({fault.strerror}). Let your user read it.",
        )
        return []
    for name in names:
        if not name.isprintable():  # nor is a name that is no UTF-8
            faults.error(
                file_span(below or "."),
                f"The name {quote(name)} in this folder cannot be shown. Rename it.",
            )
    return [name for name in names if name.isprintable() and not name.startswith(".")]


def read_bytes(path: Path, file: str, faults: Faults) -> bytes | None:
    """Read a file, or report why not; no more of it than a plan file may have."""
    try:
        if not path.is_file():
            faults.error(file_span(file), "This is no file. Remove it, or rename it.")
            return None
        with path.open("rb") as opened:
            return opened.read(MOST_BYTES + 1)
    except OSError as fault:
        faults.error(
            file_span(file),
            f"This file cannot be read ({fault.strerror}). Let your user read it.",
        )
        return None


def find_list_files(folder: Path, draft: Draft, faults: Faults) -> None:
    """Report lists whose file is not there: a missing file is never an empty list."""
    root = folder.resolve()
    for one in draft.lists:
        if one.file is None:
            continue
        try:
            path = (root / one.file.value).resolve()
            there = path.is_file()
        except OSError:
            path, there = root, False
        if not there:
            faults.error(
                one.file.span,
                f"There is no file {quote(one.file.value)} in the plan's folder. Add it, or "
                "correct the path.",
            )
        elif not path.is_relative_to(root):
            faults.error(
                one.file.span,
                f"{quote(one.file.value)} leads out of the plan's folder. Copy the file into "
                "the folder, or import the list and write stored: true.",
            )
