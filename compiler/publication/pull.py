"""`tidegate pull`: an epoch becomes a plan's folder again, plan files and lists.

A plan file is written as it was, with the epoch's overrides written into it, so that the next push
says the same and ends them; of lists' files see pulled_lists.py. Nothing is written outside the
folder, and nothing is replaced, unless that is forced, but what the epoch's own plan says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from compiler.amendments import laid_lines
from compiler.atomic_file import atomic_file
from compiler.language.reading import SWITCHES_FILE, WORKSPACE_FILE, read_files
from compiler.language.rewriting import rewritten
from compiler.overrides import SWITCHED, What, place_of, said
from compiler.plan import Plan
from compiler.publication.epoch import Publication
from compiler.publication.pulled_lists import Held, PulledLists
from compiler.refusal import Refused
from compiler.storage.store import Store
from gateway.errors import FormatError
from gateway.layout import Override

_PLAN_FILES = ("apps/*.yaml", "packages/*/*.json", "*.yaml")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was done: files written, files that were right already, and plan files left over.

    `extra` are plan files in the folder that the epoch does not have; a push would publish them.
    `overrides` tells, a line each, which were written into the files and which were not.
    """

    written: tuple[str, ...]
    same: tuple[str, ...]
    extra: tuple[str, ...]
    overrides: tuple[str, ...] = ()


def pull(publication: Publication, store: Store, folder: Path, *, force: bool = False) -> Pulled:
    """Write an epoch's plan into a folder, which is made if need be.

    Raises Refused, having written nothing, when files differ and not `force`, or the folder
    cannot be written; StoreError; FormatError for a path that leads outside.
    """
    files = publication.tree["files"]
    texts = {path: store.get_blob(digest) for path, digest in files.items()}
    plan = _plan(texts)
    if plan is None and publication.tree["lists"]:
        raise FormatError(
            f"The plan of epoch {publication.number} cannot be read by this tidegate, so its "
            "lists have no files. Pull it with the version that pushed it."
        )
    originals = dict(texts)
    lists = PulledLists(plan, publication, store)
    told = _write_overrides(texts, publication, lists) if plan is not None else ()
    try:
        targets = {path: _inside(folder, path) for path in (*texts, *lists.files)}
        same = {path for path, text in texts.items() if _holds(targets[path], text)}
        held = {path: lists.held(path, folder) for path in lists.files}
        same |= {path for path, each in held.items() if each is Held.ALL}
        # What the plan itself says has nothing in it that would be lost.
        known = {path for path, text in originals.items() if _holds(targets[path], text)}
        known |= {path for path, each in held.items() if each is Held.BEFORE}
        differing = [path for path in targets if path not in same | known]
        differing = [path for path in differing if targets[path].exists()]
        if differing and not force:
            _refuse(folder, differing)
        for path, target in targets.items():
            if path in same:
                continue
            before = target.read_bytes() if held.get(path) is Held.BEFORE else None
            with atomic_file(target) as file:
                if path in texts:
                    file.write(texts[path])
                else:
                    lists.write(path, file, before)
        extra = tuple(sorted(_plan_files(folder) - targets.keys()))
    except OSError as fault:
        raise Refused(
            f"{fault.filename or folder} cannot be written or read: {fault.strerror}. "
            "Name a folder of yours."
        ) from fault
    return Pulled(tuple(sorted(targets.keys() - same)), tuple(sorted(same)), extra, told)


def _file_of(override: Override, apps: Mapping[str, str]) -> str | None:
    """Name the file that says what an override is laid over."""
    if override["what"] in SWITCHED:
        return SWITCHES_FILE
    return apps.get(override["app"]) if override["app"] else WORKSPACE_FILE


def _write_overrides(
    texts: dict[str, bytes], publication: Publication, lists: PulledLists
) -> tuple[str, ...]:
    """Write the overrides into the texts, but those that would not say just that in the end."""
    tree, before = publication.tree, dict(texts)
    ids = [each for each in tree["overrides"] if each["what"] == What.MEMBER]
    others = [each for each in tree["overrides"] if each["what"] != What.MEMBER]
    paths = {place_of(each): _file_of(each, tree["apps"]) for each in others}
    left = others
    while True:
        wanted = [each for each in left if _write_one(texts, each, paths[place_of(each)])]
        plan = _plan(texts) if wanted else None
        done = [
            each
            for each in wanted
            if plan is not None and said(plan, place_of(each)) == each["value"]
        ]
        if done == left:
            break
        texts.update(before)
        left = done
    written: dict[str | None, list[Override]] = {}
    for each in (*others, *ids):
        path = lists.file_of(each) if each["what"] == What.MEMBER else paths[place_of(each)]
        if each["what"] != What.MEMBER and each not in done:
            path = None
        written.setdefault(path, []).append(each)
    return tuple(
        f"laid over the plan, and not written into it: {line}"
        if path is None
        else f"written into {path}, so that a push ends the override: {line}"
        for path, some in written.items()
        for line in laid_lines(some)
    )


def _write_one(texts: dict[str, bytes], override: Override, path: str | None) -> bool:
    """Write an override into its file's text; tell whether there is a place for it."""
    old = texts.get(path or "")
    text = rewritten(old.decode(), override) if old is not None else None
    if path is None or text is None:
        return False
    texts[path] = text.encode()
    return True


def _plan(texts: Mapping[str, bytes]) -> Plan | None:
    return read_files({path: text.decode() for path, text in texts.items()}, now=0).plan


def _inside(folder: Path, path: str) -> Path:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or any(c in path for c in "\\\0:"):
        raise FormatError(
            f"The epoch names a file {path!r}, which does not lie in a plan's folder."
        )
    target = folder.joinpath(*parts)
    # A link below the folder could still lead out of it.
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise Refused(f"{target} lies outside {folder}, by a link. Remove that link.")
    return target


def _holds(target: Path, text: bytes) -> bool:
    return target.is_file() and target.read_bytes() == text


def _plan_files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for pattern in _PLAN_FILES
        for path in folder.glob(pattern)
        if not path.name.startswith(".")
    }


def _refuse(folder: Path, differing: Sequence[str]) -> None:
    more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    raise Refused(
        f"These files in {folder} differ from the epoch's: "
        f"{', '.join(sorted(differing)[:_SHOWN])}{more}. Commit or move them, or pull with --force."
    )
