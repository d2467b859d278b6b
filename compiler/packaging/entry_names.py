"""The names inside a package: what any file system, ZIP reader and phone takes without harm."""

import re
import unicodedata
from collections.abc import Iterable

NAME_BYTES = 255
"""The longest file or folder name, in bytes of UTF-8; every usual file system's limit."""

PATH_BYTES = 4096

_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
# W3C MiniApp Packaging, "File Names"; the slash parts names, and the backslash nobody may use.
_NOT_IN_MINIAPP = frozenset('"*:<>?|')


def shown(name: str) -> str:
    """Quote a name for a message: no control character or half character reaches a terminal."""
    text = "".join(char if char.isprintable() else _escaped(char) for char in name)
    return f'"{text[:200]}…"' if len(text) > 200 else f'"{text}"'


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")


def name_fault(name: str, *, miniapp: bool) -> str | None:
    """Say what is wrong with an entry's path, and what to do; None when nothing is."""
    fault = _path_fault(name) or _character_fault(name)
    if fault is None and miniapp:
        return _miniapp_fault(name)
    return fault


def _path_fault(name: str) -> str | None:
    segments = name.split("/")
    if name.startswith("/") or _DRIVE.match(name):
        return f"{shown(name)} is an absolute path. Pack paths relative to the bundle's folder."
    if ".." in segments:
        return f"{shown(name)} leaves the bundle's folder with `..`. Remove that entry."
    if not all(segments) or "." in segments:
        return f"{shown(name)} has an empty or `.` part. Write plain paths, as pages/index.js."
    return None


def _character_fault(name: str) -> str | None:
    if any(unicodedata.category(char) == "Cs" for char in name):  # undecodable bytes, as Python has
        return f"The name {shown(name)} is not UTF-8. Rename the file."
    if "\\" in name:
        return f"{shown(name)} has a backslash, which some phones take for a folder. Rename it."
    if any(unicodedata.category(char) == "Cc" for char in name):
        return f"The name {shown(name)} has a control character. Rename the file."
    longest = max(len(segment.encode()) for segment in name.split("/"))
    if longest > NAME_BYTES or len(name.encode()) > PATH_BYTES:
        return (
            f"{shown(name)} is too long: a name may have {NAME_BYTES} bytes of UTF-8, a whole "
            f"path {PATH_BYTES}. Shorten it."
        )
    return None


def _miniapp_fault(name: str) -> str | None:
    bad = sorted(_NOT_IN_MINIAPP.intersection(name))
    if bad:
        return f"{shown(name)} has {' '.join(bad)}, which a MiniApp's names may not. Rename it."
    if any(part.endswith(".") for part in name.split("/")):
        return f"{shown(name)} ends in a full stop, which a MiniApp's names may not. Rename it."
    return None


def clash_faults(names: Iterable[str]) -> list[str]:
    """Find names, and names of folders, that some phones take for one and the same.

    They are compared as Unicode normal form C with case folded. A file with the name of another
    file's folder clashes too, and so does a name that comes twice.
    """
    faults = []
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in sorted(names):
        key = _folded(name)
        if key in files:
            faults.append(_clash(files[key], name))
        files[key] = name
        parts = name.split("/")
        for end in range(1, len(parts)):
            folder = "/".join(parts[:end])
            first = folders.setdefault(_folded(folder), folder)
            if first != folder:
                faults.append(_clash(first + "/", folder + "/"))
                folders[_folded(folder)] = folder
    faults += [
        f"{shown(files[key])} is a file, and a folder has its name. Rename one of them."
        for key in sorted(files.keys() & folders.keys())
    ]
    return list(dict.fromkeys(faults))


def _folded(name: str) -> str:
    # Folding can undo the normal form (U+0345), so it is made again.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _clash(first: str, second: str) -> str:
    if first == second:
        return f"{shown(first)} is in the archive twice. Keep one."
    return f"{shown(first)} and {shown(second)} are one name on some phones. Rename one of them."
