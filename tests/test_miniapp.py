"""A MiniApp is held to W3C MiniApp Packaging: every fault is said, each with its mend."""

import json
from pathlib import Path
from typing import Any

import pytest

from compiler.packaging.archive import PackError, pack

MANIFEST: dict[str, Any] = {
    "app_id": "2021000000000001",
    "name": "Coffee",
    "icons": [{"src": "common/icon.png"}],
    "pages": ["pages/index/index", "/pages/menu"],
    "platform_version": {"min_code": 1},
    "version": {"code": 2, "name": "1.0.0.2"},
    "widgets": [{"name": "Clock", "path": "widgets/clock"}],
}
FILES = [
    *("app.js", "app.css", "pages/index/index.js", "pages/index/index.html", "pages/menu.xml"),
    *("widgets/clock.js", "common/icon.png"),
]


def bundle(root: Path, manifest: bytes | dict[str, Any] | None, files: list[str]) -> Path:
    """Write a bundle of empty files and this manifest."""
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    if manifest is not None:
        data = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
        root.mkdir(exist_ok=True)
        (root / "manifest.json").write_bytes(data)
    return root


def changed(**members: Any) -> dict[str, Any]:
    """Give the good manifest with members changed; None removes one."""
    manifest = {**MANIFEST, **members}
    return {name: value for name, value in manifest.items() if value is not None}


def refused(source: Path, target: Path, **options: Any) -> tuple[str, ...]:
    """Pack what must be refused; give the sentences."""
    with pytest.raises(PackError) as caught:
        pack(source, target, **options)
    return caught.value.faults


def test_a_good_miniapp_is_packed(tmp_path: Path) -> None:
    """A bundle that keeps every rule is a MiniApp, by its manifest or by request."""
    root = bundle(tmp_path / "in", MANIFEST, FILES)
    for kind in (None, "miniapp"):
        packed = pack(root, tmp_path / "out.zip", app="2021000000000001", kind=kind)
        assert (packed.kind, packed.version) == ("miniapp", "1.0.0.2")


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"app_id": 2021000000000001}, "lacks app_id, a text"),
    ({"app_id": "a b"}, '"a b" is no app id'),
    ({"app_id": ".."}, '".." is no app id'),
    ({"app_id": "x" * 65}, "is no app id"),
    ({"app_id": "2021000000000009"}, 'app_id is "2021000000000009", but the app is'),
    ({"name": None}, "lacks name"),
    ({"name": " "}, "lacks name"),
    ({"icons": None}, "lacks icons"),
    ({"icons": []}, "lacks icons"),
    ({"icons": [{"src": "a"}, {"sizes": "any"}]}, "an icon lacks src"),
    ({"icons": ["a.png"]}, "an icon lacks src"),
    ({"platform_version": None}, "lacks platform_version.min_code"),
    ({"platform_version": {"min_code": "1"}}, "lacks platform_version.min_code"),
    ({"version": {"name": "1.0"}}, "lacks version.code, an integer from 0 to 2^53"),
    ({"version": {"code": -1, "name": "1.0"}}, "lacks version.code"),
    ({"version": {"code": True, "name": "1.0"}}, "lacks version.code"),
    ({"version": {"code": 1}}, "lacks version.name"),
    ({"version": {"code": 1, "name": 1.0}}, "lacks version.name"),
    ({"version": {"code": 1, "name": "v1"}}, '"v1" is no version'),
    ({"version": {"code": 1, "name": "1.0.0.0.0"}}, '"1.0.0.0.0" is no version'),
    ({"version": {"code": 1, "name": "1.0-" + "a" * 200}}, "is no version"),
    ({"pages": None}, "lacks pages"),
    ({"pages": []}, "lacks pages"),
    ({"pages": ["pages/index/index", 3]}, "a page is no text"),
    ({"pages": ["pages/gone"]}, 'no file of the page "pages/gone"'),
    ({"pages": ["pages/index"]}, 'no file of the page "pages/index"'),
    ({"pages": ["Pages/menu"]}, 'no file of the page "Pages/menu"'),
    ({"pages": ["pages/../pages/menu"]}, "no file of the page"),
    ({"pages": ["\ud800"]}, r'no file of the page "\ud800"'),
    ({"widgets": [{"name": "x"}]}, "a widget lacks its path"),
    ({"widgets": {}}, "a widget lacks its path"),
    ({"widgets": [{"path": "widgets/none"}]}, 'no file of the widget "widgets/none"'),
    ({"version": {"code": 2**53 + 1, "name": "1.0"}}, "lacks version.code"),
    ({"version": {"code": 1.5, "name": "1.0"}}, "lacks version.code"),
    ({"short_name": 1}, "short_name is not a text"),
    ({"description": ["x"]}, "description is not a text"),
    ({"lang": {}}, "lang is not a text"),
    ({"dir": "up"}, "dir is not ltr, rtl or auto"),
    ({"dir": ["ltr"]}, "dir is not ltr, rtl or auto"),
    ({"color_scheme": "pink"}, "color_scheme is not light, dark or auto"),
    ({"device_type": "phone"}, "device_type is not a list of texts"),
    ({"device_type": ["phone", 1]}, "device_type is not a list of texts"),
    ({"req_permissions": ["camera"]}, "req_permissions is not a list of objects"),
    ({"window": []}, "window is not an object"),
]


@pytest.mark.parametrize(("members", "message"), FAULTS)
def test_a_manifest_lacks_nothing(tmp_path: Path, members: dict[str, Any], message: str) -> None:
    """Each required member that is missing or wrong gives exactly its own sentence."""
    root = bundle(tmp_path / "in", changed(**members), FILES)
    found = refused(root, tmp_path / "out.zip", app="2021000000000001", kind="miniapp")
    assert len(found) == 1, found
    assert message in found[0]
    assert found[0].endswith(".")
    found[0].encode()


UNREADABLE = [
    (b"", "manifest.json:1:1: this is not JSON"),
    (b'{"app_id": "x",\n "name" "y"}', "manifest.json:2:9: this is not JSON"),
    (b"[]", "is not a JSON object"),
    (b'"app_id"', "is not a JSON object"),
    (b'{"app_id": "\xff"}', "is not UTF-8 (byte 12)"),
    (b'\xef\xbb\xbf{"app_id": "x"}', "byte order mark"),
    (b'{"app_id": "x", "app_id": "y"}', '"app_id" is given twice'),
    (b'{"app_id": "x", "version": {"code": NaN}}', "NaN is not JSON"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"a": ' + b"9" * 5000 + b"}", "a number that is too long"),
    (b'{"app_id": "' + b"x" * (1 << 20) + b'"}', "longer than 1048576 bytes"),
]


@pytest.mark.parametrize(("data", "message"), UNREADABLE)
def test_an_unreadable_manifest_is_no_silent_bundle(
    tmp_path: Path, data: bytes, message: str
) -> None:
    """A manifest.json that cannot be read is a fault, unless a bundle was asked for."""
    root = bundle(tmp_path / "in", data, FILES)
    for kind in (None, "miniapp"):
        (found,) = refused(root, tmp_path / "out.zip", kind=kind)
        assert message in found
    assert pack(root, tmp_path / "out.zip", kind="bundle").kind == "bundle"


def test_optional_members_may_be_there(tmp_path: Path) -> None:
    """Each optional member of its kind is taken, and so is a member that nobody knows."""
    manifest = changed(
        short_name="C",
        description="Coffee near you",
        lang="zh-CN",
        dir="ltr",
        color_scheme="auto",
        device_type=["phone"],
        req_permissions=[{"name": "camera"}],
        window={"fullscreen": True},
        later=1,
    )
    root = bundle(tmp_path / "in", manifest, [*FILES, "i18n/en.json", "i18n/zh-Hans-CN.json"])
    assert pack(root, tmp_path / "out.zip").kind == "miniapp"


@pytest.mark.parametrize("name", ["i18n/en.txt", "i18n/.json", "i18n/a/en.json", "i18n/e n.json"])
def test_translations_are_named_by_their_language(tmp_path: Path, name: str) -> None:
    """What is in i18n/ is a language's file, and nothing else."""
    root = bundle(tmp_path / "in", MANIFEST, [*FILES, name])
    (found,) = refused(root, tmp_path / "out.zip")
    assert found.startswith(f'"{name}" is not named by a language')


def test_there_is_a_folder_of_pages(tmp_path: Path) -> None:
    """A MiniApp's pages are in pages/, which every phone looks for."""
    files = ["app.js", "app.css", "index.js"]
    root = bundle(tmp_path / "in", changed(pages=["index"], widgets=None), files)
    (found,) = refused(root, tmp_path / "out.zip")
    assert found.startswith("The folder pages/ is missing")


@pytest.mark.parametrize("missing", ["app.js", "app.css"])
def test_the_layout_is_whole(tmp_path: Path, missing: str) -> None:
    """The files that every MiniApp has must be there."""
    root = bundle(tmp_path / "in", MANIFEST, [name for name in FILES if name != missing])
    (found,) = refused(root, tmp_path / "out.zip")
    assert found.startswith(f"{missing} is missing beside manifest.json")


@pytest.mark.parametrize("char", list('"*:<>?|'))
def test_a_miniapp_has_stricter_names(tmp_path: Path, char: str) -> None:
    """A character that some phone's file system refuses is refused in a MiniApp alone."""
    root = bundle(tmp_path / "in", MANIFEST, [*FILES, f"common/a{char}b.png"])
    (found,) = refused(root, tmp_path / "out.zip")
    assert f"has {char}, which a MiniApp's names may not" in found
    assert pack(root, tmp_path / "out.zip", kind="bundle").kind == "bundle"


def test_a_name_ends_in_no_full_stop(tmp_path: Path) -> None:
    """A full stop at a name's end is lost on some file systems."""
    root = bundle(tmp_path / "in", MANIFEST, [*FILES, "common/a."])
    assert "ends in a full stop" in refused(root, tmp_path / "out.zip")[0]


def test_every_fault_is_said_at_once(tmp_path: Path) -> None:
    """One run shows the faults of names, members, files and pages together."""
    manifest = changed(name=None, pages=["pages/x"], widgets=None)
    root = bundle(tmp_path / "in", manifest, ["app.js", "common/a:b.png"])
    found = refused(root, tmp_path / "out.zip", app="other")
    wanted = ("has :", "lacks name", "app.css is", "pages/ is", '"pages/x"', "the app is")
    for message in wanted:
        assert any(message in fault for fault in found), message
    assert len(found) == 6


def test_a_bundle_is_what_has_no_app_id(tmp_path: Path) -> None:
    """A web manifest without app_id makes no MiniApp; asked for one, it is refused."""
    root = bundle(tmp_path / "in", {"name": "A web app"}, ["index.js"])
    packed = pack(root, tmp_path / "out.zip")
    assert (packed.kind, packed.app, packed.version) == ("bundle", None, None)
    assert any("lacks app_id" in fault for fault in refused(root, tmp_path / "2", kind="miniapp"))


def test_a_miniapp_needs_a_manifest(tmp_path: Path) -> None:
    """What is called a MiniApp and has no manifest is refused."""
    root = bundle(tmp_path / "in", None, FILES)
    assert "There is no manifest.json" in refused(root, tmp_path / "out.zip", kind="miniapp")[0]
