"""A MiniApp's manifest.json and layout (W3C MiniApp Packaging and Manifest), every fault at once.

    manifest.json   app_id, name, icons[].src, pages[], platform_version.min_code,
                    version.code (an integer, for order), version.name (the version, in a plan);
                    optional members are of their kind, where they are
    app.js app.css  beside it; each page `pages/x` is a set of files `pages/x.*`; so is a widget
    pages/          is there; i18n/, if it is, holds files named by a language, as zh-Hans.json

That version.code rises with the version is seen where other versions are known: version_codes.py.
"""

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from compiler.packaging.entry_names import shown
from compiler.packaging.strict_json import RepeatedMemberError, single_members
from gateway.version import PLAN_PARTS, parse_version

MANIFEST = "manifest.json"
MANIFEST_BYTES = 1 << 20
"""A longer manifest is refused; it would be read whole by every phone."""

APP_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
APP_ID_RULE = "1 to 64 letters, digits and ._- (not . or .. alone)"
VERSION_RULE = "1 to 4 dotted numbers, as 1.0.0.2"
VERSION_CHARS = 128
MOST_CODE = 2**53
"""The highest version.code: what JSON numbers hold exactly everywhere."""

_NO_MINIAPP = "If this bundle is no MiniApp, pack it with --kind bundle."
_REQUIRED_FILES = ("app.js", "app.css")
_PAGES, _I18N = "pages/", "i18n/"
_LANGUAGE_FILE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*\.json\Z")  # BCP 47's shape

_OPTIONAL: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "short_name": ("a text", lambda value: isinstance(value, str)),
    "description": ("a text", lambda value: isinstance(value, str)),
    "lang": ("a text", lambda value: isinstance(value, str)),
    "dir": ("ltr, rtl or auto", lambda value: value in ("ltr", "rtl", "auto")),
    "color_scheme": ("light, dark or auto", lambda value: value in ("light", "dark", "auto")),
    "device_type": ("a list of texts", lambda value: _all_are(str, value)),
    "req_permissions": ("a list of objects", lambda value: _all_are(dict, value)),
    "window": ("an object", lambda value: isinstance(value, dict)),
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a MiniApp says of itself: its app_id, version.name and version.code, None for none."""

    app: str
    version: str | None
    code: int | None = None


def is_app_id(text: str) -> bool:
    """Tell whether the text may be an app's id, and so a folder's name."""
    return APP_ID.match(text) is not None and text not in {".", ".."}


def is_version(text: str) -> bool:
    """Tell whether a plan may write this version, and a file be named by it."""
    return len(text) <= VERSION_CHARS and parse_version(text, PLAN_PARTS) is not None


def read_manifest(data: bytes) -> dict[str, Any]:
    """Read manifest.json strictly: UTF-8, an object, no key twice, no NaN.

    Raises ValueError with a sentence.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        raise ValueError(f"{MANIFEST} begins with a byte order mark. Save it as plain UTF-8.")
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=single_members, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"{MANIFEST} is not UTF-8 (byte {error.start}). Save it so.") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{MANIFEST}:{error.lineno}:{error.colno}: this is not JSON: {error.msg}. "
            f"Mend it there. {_NO_MINIAPP}"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{MANIFEST} is nested too deeply. Flatten it.") from error
    except RepeatedMemberError as error:
        raise ValueError(f"{MANIFEST}: {error}. Keep one.") from error
    except _ManifestValueError as error:
        raise ValueError(f"{MANIFEST}: {error}") from error
    except ValueError as error:  # an integer of thousands of digits
        raise ValueError(f"{MANIFEST} holds a number that is too long. Shorten it.") from error
    if isinstance(value, dict):
        return value
    raise ValueError(f'{MANIFEST} is not a JSON object. Write {{"app_id": …}}. {_NO_MINIAPP}')


class _ManifestValueError(ValueError):
    """A constant that Python's reader takes, and JSON's grammar does not."""


def _refuse_constant(name: str) -> None:
    raise _ManifestValueError(f"{name} is not JSON. Write a number.")


def stated(manifest: dict[str, Any]) -> Manifest | None:
    """Give what the manifest says, or None when app_id is missing: it is no MiniApp's."""
    app, version = manifest.get("app_id"), _inside(manifest, "version", "name")
    if not isinstance(app, str):
        return None
    code = _inside(manifest, "version", "code")
    return Manifest(
        app, version if isinstance(version, str) else None, code if _is_code(code) else None
    )


def layout_faults(manifest: dict[str, Any], names: Collection[str], app: str | None) -> list[str]:
    """Give a sentence for everything that a MiniApp must have and this one lacks.

    `names` are the bundle's files; `app`, when given, is the id that app_id must equal.
    """
    return [
        *_id_faults(manifest, app),
        *_member_faults(manifest),
        *(
            f"{name} is missing beside {MANIFEST}. Add it; it may be empty."
            for name in _REQUIRED_FILES
            if name not in names
        ),
        *_folder_faults(names),
        *_page_faults(manifest, names),
    ]


def _folder_faults(names: Collection[str]) -> list[str]:
    faults = []
    if not any(name.startswith(_PAGES) for name in names):
        faults.append(f"The folder {_PAGES} is missing beside {MANIFEST}. Put the pages into it.")
    faults += [
        f"{shown(name)} is not named by a language. Name it as {_I18N}en.json or {_I18N}zh-CN.json."
        for name in sorted(names)
        if name.startswith(_I18N) and not _LANGUAGE_FILE.match(name.removeprefix(_I18N))
    ]
    return faults


def _id_faults(manifest: dict[str, Any], app: str | None) -> list[str]:
    found = manifest.get("app_id")
    if not isinstance(found, str):
        return [f"{MANIFEST} lacks app_id, a text. Write the app's id there."]
    if not is_app_id(found):
        return [f"{MANIFEST}: app_id {shown(found)} is no app id. Use {APP_ID_RULE}."]
    if app is not None and found != app:
        mend = "Pack the other bundle, or name the other app."
        return [f"{MANIFEST}: app_id is {shown(found)}, but the app is {shown(app)}. {mend}"]
    return []


def _member_faults(manifest: dict[str, Any]) -> list[str]:
    faults = []
    if not _is_text(manifest.get("name")):
        faults.append(f'{MANIFEST} lacks name, a text. Write "name": "…", as users see it.')
    icons = manifest.get("icons")
    if not isinstance(icons, list) or not icons:
        faults.append(f'{MANIFEST} lacks icons. Write "icons": [{{"src": "common/icon.png"}}].')
    elif not all(isinstance(icon, dict) and _is_text(icon.get("src")) for icon in icons):
        faults.append(f"{MANIFEST}: an icon lacks src, a text. Give each icon its src.")
    for outer, inner in (("platform_version", "min_code"), ("version", "code")):
        value = _inside(manifest, outer, inner)
        if not _is_code(value):
            faults.append(
                f"{MANIFEST} lacks {outer}.{inner}, an integer from 0 to 2^53. "
                f'Write "{outer}": {{"{inner}": 1, …}}.'
            )
    version = _inside(manifest, "version", "name")
    if not isinstance(version, str):
        faults.append(f"{MANIFEST} lacks version.name, the version as a text: {VERSION_RULE}.")
    elif not is_version(version):
        faults.append(
            f"{MANIFEST}: version.name {shown(version)} is no version. Write {VERSION_RULE}."
        )
    faults += [
        f"{MANIFEST}: {name} is not {kind}. Write it so, or leave it out."
        for name, (kind, fits) in _OPTIONAL.items()
        if name in manifest and not fits(manifest[name])
    ]
    return faults


def _page_faults(manifest: dict[str, Any], names: Collection[str]) -> list[str]:
    stems = set(names)
    for name in names:
        folder, slash, file = name.rpartition("/")
        # `page.test.js` belongs to the page `page.test`, and to `page` as well.
        parts = file.split(".")
        stems.update(folder + slash + ".".join(parts[:end]) for end in range(1, len(parts)))
    faults = []
    pages = manifest.get("pages")
    if not isinstance(pages, list) or not pages:
        faults.append(f'{MANIFEST} lacks pages. Write "pages": ["pages/index"], the first starts.')
        pages = []
    for page in pages:
        if not _is_text(page):
            faults.append(f"{MANIFEST}: a page is no text. Write each page as its path.")
        elif page.removeprefix("/") not in stems:
            faults.append(
                f"{MANIFEST}: there is no file of the page {shown(page)}. "
                "Add its .js and other files, or remove the page."
            )
    widgets = manifest.get("widgets", [])
    for widget in widgets if isinstance(widgets, list) else [None]:
        path = widget.get("path") if isinstance(widget, dict) else None
        if not isinstance(path, str):
            faults.append(f"{MANIFEST}: a widget lacks its path. Give each widget a path.")
        elif path.removeprefix("/") not in stems:
            faults.append(
                f"{MANIFEST}: there is no file of the widget {shown(path)}. "
                "Add its files, or remove the widget."
            )
    return faults


def _inside(manifest: dict[str, Any], outer: str, inner: str) -> Any:
    value = manifest.get(outer)
    return value.get(inner) if isinstance(value, dict) else None


def _is_code(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST_CODE


def _all_are(kind: type, value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, kind) for each in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
