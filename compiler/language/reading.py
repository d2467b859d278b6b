"""Reading a plan: a folder, or files by name, to a Plan and every fault at once.

    bytes ─ decode ─ parse ─► tree ─ shapes ─► draft ─ checker ─► Plan

    workspace.yaml                             must be there
    rules.yaml, lists.yaml, switches.yaml      one each
    apps/*.yaml                                one app a file
    packages/<app>/<version>.json              what `tidegate upload` wrote

`read_files` is pure and reads a live epoch's own text; `read_folder` adds the file system.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from compiler.diagnostic import Diagnostic
from compiler.language.app_file import APP
from compiler.language.checker import LISTS_FILE, RULES_FILE, Records, check
from compiler.language.draft import (
    AppDraft,
    AudienceDraft,
    Draft,
    PackageDraft,
    ReleaseDraft,
    file_span,
)
from compiler.language.encryption import check_encryption
from compiler.language.faults import Faults, nearest
from compiler.language.package_record import RECORD, written_record
from compiler.language.plan_folder import find_files, find_list_files, read_bytes
from compiler.language.plan_text import decode
from compiler.language.records import Record
from compiler.language.schema import LISTS, RULES, WORKSPACE
from compiler.language.shadows import Rules, flattened
from compiler.language.signatures import check_signatures
from compiler.language.switch_file import SWITCHES
from compiler.language.switch_names import plan_audience, plan_switch
from compiler.language.tree import parse
from compiler.language.words import is_name, version_key
from compiler.plan import App, Package, Plan, Release, Window

WORKSPACE_FILE = "workspace.yaml"
SWITCHES_FILE = "switches.yaml"

_TOP_FILES = (WORKSPACE_FILE, RULES_FILE, LISTS_FILE, SWITCHES_FILE)
_RECORD_PARTS = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading gave: a plan unless there are errors, every diagnostic, and the files' texts.

    `sources` maps files to texts, for diagnostics with line and caret.
    """

    plan: Plan | None
    diagnostics: tuple[Diagnostic, ...]
    sources: dict[str, str]


def read_files(files: Mapping[str, str], *, now: int) -> Reading:
    """Read a plan's files, given as texts by path below the plan; `now` is in Unix seconds.

    Nothing is raised for a plan's faults. Whether the files of lists exist is not looked at.
    """
    faults, draft = Faults(), Draft()
    return _finish(dict(files), draft, faults, now)


def read_folder(folder: Path, *, now: int) -> Reading:
    """Read the plan in a folder; `now` is in Unix seconds. Nothing is raised for its faults."""
    faults, draft = Faults(), Draft()
    files = find_files(folder, faults)
    if files is None:
        return Reading(None, tuple(faults.found), {})
    texts: dict[str, str] = {}
    sources: dict[str, str] = {}
    for file in files:
        data = read_bytes(folder / file, file, faults)
        text = None if data is None else decode(file, data, faults)
        if text is None:
            draft.unread.add(file)
            sources[file] = (data or b"").decode(errors="replace")
        else:
            texts[file] = text
    reading = _finish(texts, draft, faults, now, folder)
    return replace(reading, sources={**sources, **reading.sources})


def _finish(
    texts: dict[str, str], draft: Draft, faults: Faults, now: int, folder: Path | None = None
) -> Reading:
    known = {
        file: text for file, text in sorted(texts.items()) if _read_one(file, text, draft, faults)
    }
    if draft.workspace is None and WORKSPACE_FILE not in draft.flawed | draft.unread:
        faults.error(
            file_span(WORKSPACE_FILE),
            "A plan needs this file, and it is not there. Name the plan's folder, or run "
            "`tidegate init` to start one.",
        )
    draft.flawed |= draft.unread
    if folder is not None:
        find_list_files(folder, draft, faults)
    records = check(draft, faults, now=now)
    if folder is not None:
        # A live epoch's own text was checked when it was pushed.
        check_signatures(draft, records, faults)
        check_encryption(draft, records, faults)
    plan = None if faults.errors else _plan(draft, records, known)
    return Reading(plan, tuple(sorted(faults.found)), texts)


def _read_one(file: str, text: str, draft: Draft, faults: Faults) -> bool:
    """Read one file into the draft; False when it is no file of a plan."""
    path = PurePosixPath(file)
    top = file.split("/", 1)[0]
    if file == WORKSPACE_FILE:
        draft.workspace = _read(file, text, WORKSPACE, draft, faults)
    elif file == RULES_FILE:
        draft.rules.extend(_read(file, text, RULES, draft, faults) or ())
    elif file == LISTS_FILE:
        draft.lists.extend(_read(file, text, LISTS, draft, faults) or ())
    elif file == SWITCHES_FILE:
        draft.switches.extend(_read(file, text, SWITCHES, draft, faults) or ())
    elif top == "packages" and len(path.parts) == _RECORD_PARTS:
        _read_record(path, text, draft, faults)
    elif top == "apps" and len(path.parts) == 2 and path.suffix == ".yaml":
        app = _read(file, text, APP, draft, faults)
        if app is not None:
            draft.apps.append(app)
    else:
        _refuse_file(path, faults)
        return False
    return True


def _read(file: str, text: str, shape: Record[Any], draft: Draft, faults: Faults) -> Any:
    before = faults.errors
    node = parse(file, text, faults)
    if node is None:
        draft.unread.add(file)
        return None
    value = shape.read(node, faults)
    if faults.errors > before:
        draft.flawed.add(file)
    return value


def _read_record(path: PurePosixPath, text: str, draft: Draft, faults: Faults) -> None:
    file, app, version = str(path), path.parts[1], path.stem
    key = version_key(version)
    if key is None or not is_name(app):
        faults.error(
            file_span(file),
            "A record's path is packages/<app>/<version>.json, and this is none. Take it from Git "
            "again, or delete it and run `tidegate upload`.",
        )
        draft.flawed.add(file)
        return
    found = written_record(text) or _read(file, text, RECORD, draft, faults)
    if found is not None:
        draft.records.append(replace(found, file=file, app=app, version=version, key=key))


def _refuse_file(path: PurePosixPath, faults: Faults) -> None:
    """Report a file that looks as if meant for a plan, but is not read."""
    place = file_span(str(path))
    if path.parts[:1] == ("apps",):
        mend = (
            "Move it into apps/ itself" if path.suffix == ".yaml" else "Let its name end in .yaml"
        )
        faults.error(place, f"An app's file is apps/<name>.yaml, so this is not read. {mend}.")
        return
    near = nearest(path.stem, [name.removesuffix(".yaml") for name in _TOP_FILES])
    if near:
        faults.error(place, f"This file is not read. Rename it to {near}.yaml, or move it away.")
    else:
        faults.warning(place, "This file is no part of a plan and is not read. Move it elsewhere.")


def _plan(draft: Draft, records: Records, files: dict[str, str]) -> Plan:
    """Make the plan of a draft in which nothing was refused."""
    assert draft.workspace is not None
    rules = {rule.name.value: rule for rule in draft.rules}
    apps = [_app(app, rules, records) for app in draft.apps]
    lists = [one.source for one in draft.lists]
    switches = [plan_switch(each, draft.apps, rules) for each in draft.switches]
    return Plan(
        draft.workspace.workspace,
        tuple(sorted(apps, key=lambda app: app.id)),
        tuple(sorted(lists, key=lambda one: one.name)),
        files,
        tuple(sorted(switches, key=lambda one: one.key)),
    )


def _app(app: AppDraft, rules: Rules, records: Records) -> App:
    assert app.id is not None
    packages = tuple(_package(app.id.value, one, records) for one in app.packages)
    releases = tuple(_release(app, one, rules) for one in app.releases)
    encryption = tuple(each.value for each in app.encryption)
    name = app.name or app.id.value
    return App(app.id.value, name, app.file, packages, releases, app.id.span, encryption)


def _package(app: str, draft: PackageDraft, records: Records) -> Package:
    record = records.get((app, draft.key))
    clients = draft.clients.value if draft.clients else record.clients if record else None
    return Package(
        draft.version.value,
        draft.key,
        clients,
        draft.download,
        draft.install,
        draft.info.value if draft.info else None,
        draft.info is not None,
        draft.withdrawn,
        record.record if record else None,
        draft.version.span,
    )


def _window(draft: AudienceDraft) -> Window | None:
    if draft.first is None or draft.until is None:
        return None
    return Window(draft.first.value, draft.until.value, linear=draft.pace is not None)


def _release(app: AppDraft, draft: ReleaseDraft, rules: Rules) -> Release:
    package = app.offered(draft)
    assert draft.id is not None
    assert package is not None
    return Release(
        draft.id.value,
        package.version.value,
        replace(plan_audience(draft.audience), window=_window(draft.audience)),
        flattened(draft, rules),
        draft.upgrade,
        draft.state,
        draft.starts.value if draft.starts else None,
        draft.ends.value if draft.ends else None,
        draft.halt,
        draft.id.span,
    )
