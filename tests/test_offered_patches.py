"""What `tidegate patch` made, a push offers: to whom, what `diff` says of it, and how it stays."""

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from compiler.patching.catalogue import read_catalogue
from compiler.patching.formats import apply_checked
from compiler.patching.patch_index import index_path
from compiler.storage.parallel import THREADS
from processes import RedisServer
from stock import editions, packed, publish, run_here, stock
from workplace import APP, Workplace, workplace

BASE = "https://cdn.example.com"
VERSIONS = ("1.0", "1.1", "1.2", "2.0")
OLDEST, OLD, BAD, TARGET = VERSIONS
PAIRS = ((OLDEST, TARGET), (OLD, TARGET))
BOTH = ["gzip", "zstd", "bsdiff4", "zstd-patch"]


def plan(withdrawn: str = "", offered: str = TARGET, low: bool = False) -> str:
    """Write the app: four versions, one of them offered to everyone; with `low` a lower one too."""
    packages = "".join(
        f"  - {{version: {version}{', withdrawn: true' if version == withdrawn else ''}}}\n"
        for version in VERSIONS
    )
    releases = f"{{id: stable, package: {offered}, audience: everyone}}"
    if low:
        releases += f", {{id: low, package: {OLD}, audience: everyone}}"
    return f"app: {APP}\npackages:\n{packages}releases: [{releases}]\n"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, server: RedisServer) -> Iterator[Workplace]:
    """Upload four versions."""
    with workplace(tmp_path_factory.mktemp("patches"), server.url) as found:
        found.write(
            "workspace.yaml", f'workspace: demo\ncdn: [{{regions: ["*"], bases: ["{BASE}"]}}]\n'
        )
        stock(found, APP, packed(found.folder, editions(VERSIONS)))
        yield found


@pytest.fixture
def place(shop: Workplace) -> Workplace:
    """Publish the four versions, with no patch made yet."""
    shutil.rmtree(shop.folder / "store" / "patches", ignore_errors=True)
    push(shop, plan())
    return shop


def push(place: Workplace, text: str) -> None:
    """Write the app's file, and publish."""
    place.write("apps/coffee.yaml", text)
    publish(place)


def patch(place: Workplace, *arguments: str) -> None:
    """Run `tidegate patch` for phones that have the two oldest versions, or the newest."""
    census = place.folder / "census.json"
    census.write_text(f'{{"{APP}": {{"{OLDEST}": 50, "{OLD}": 49, "{TARGET}": 9}}}}')
    run_here(place, "patch", "--census", str(census), *arguments, str(place.plan))


def offered(place: Workplace, installed: str | None, accept: Any = None) -> dict[str, Any] | None:
    """Ask which patch is offered to a phone."""
    asked = {} if accept is None else {"accept": accept}
    found: dict[str, Any] | None = place.app(apps={APP: installed}, **asked).get("patch")
    return found


def applied(place: Workplace, found: dict[str, Any], installed: str, answer: Any) -> None:
    """Hold an offered patch to the law: from the installed file it makes the announced one."""
    data = (place.folder / "store" / found["urls"][0].removeprefix(f"{BASE}/")).read_bytes()
    assert len(data) == found["transfer_size"]
    assert hashlib.sha256(data).hexdigest() == found["transfer_sha256"]
    old = (place.folder / f"{installed}.zip").read_bytes()
    package = answer["package"]
    made = apply_checked(found["format"], old, data, package["size"], package["sha256"])
    assert made == (place.folder / f"{TARGET}.zip").read_bytes()


def test_a_push_offers_what_was_patched(place: Workplace) -> None:
    """None before a push; then just these versions and formats: diff, push and law agree on them.

    A phone is offered the smallest patch that it opens, from the version that it has.
    """
    patch(place)
    assert [offered(place, old, BOTH) for old in (OLDEST, OLD)] == [None, None]
    assert f"+ patches {APP}: 4" in run_here(place, "diff", str(place.plan))
    publish(place)
    assert "patches" not in run_here(place, "diff", str(place.plan))
    assert f"patches of {APP}" in run_here(place, "history")

    for old in (OLDEST, OLD):
        bsdiff, zstd = offered(place, old), offered(place, old, ["zstd-patch"])
        assert bsdiff is not None and zstd is not None
        assert (bsdiff["format"], bsdiff["from"]) == ("bsdiff4", old)
        assert (zstd["format"], zstd["from"]) == ("zstd-patch", old)
        smaller = min(bsdiff, zstd, key=lambda each: int(each["transfer_size"]))
        assert offered(place, old, BOTH) == smaller
        answer = place.app(apps={APP: old}, accept=BOTH)
        for each in (bsdiff, zstd):
            applied(place, each, old, answer)
            assert each["transfer_size"] < answer["package"]["transfer_size"]
    for accept in ([], ["gzip"], ["zstd", "br"], [7], ["BSDIFF4"]):
        assert offered(place, OLD, accept) is None
    for stranger in (None, "", "1.0.5", "0.9", "text", BAD):
        assert offered(place, stranger, BOTH) is None
    assert offered(place, "1.1.0.0", BOTH) == offered(place, OLD, BOTH)


def test_patches_outlive_overrides(place: Workplace) -> None:
    """Withdraw the target, revert, and reinstate it: phones are offered their patches as before."""
    patch(place)
    push(place, plan(low=True))
    before = [offered(place, old, BOTH) for old in (OLDEST, OLD)]
    assert None not in before
    epoch = place.check()["epoch"]
    push(place, plan(withdrawn=TARGET, low=True))
    assert place.app(apps={APP: OLDEST})["version"] == OLD
    run_here(place, "revert", str(epoch), "--yes")
    assert place.app(apps={APP: OLDEST})["version"] == OLD
    assert offered(place, OLDEST) is None
    run_here(place, "reinstate", APP, TARGET)
    assert place.app(apps={APP: OLDEST})["version"] == TARGET
    assert [offered(place, old, BOTH) for old in (OLDEST, OLD)] == before


def test_a_rollback_is_patched_too(place: Workplace) -> None:
    """From a withdrawn version down to its target a patch is made, and offered after a push."""
    place.write("apps/coffee.yaml", plan(withdrawn=TARGET, low=True))
    patch(place)
    push(place, plan(withdrawn=TARGET, low=True))
    answer = place.app(apps={APP: TARGET}, accept=["bsdiff4"])
    assert (answer["status"], answer["version"]) == ("rollback", OLD)
    assert answer["patch"]["from"] == TARGET


def test_a_patch_of_other_bytes_is_not_offered(place: Workplace) -> None:
    """Plan and index must agree on the bytes of both versions; none at all is no fault."""
    patch(place)
    index = place.folder / "store" / "patches" / APP / f"{TARGET}.json"
    sound = index.read_text()
    other = hashlib.sha256(b"other").hexdigest()

    def difference(text: str) -> str:
        index.write_text(text)
        return run_here(place, "diff", str(place.plan))

    def changed(name: str) -> str:
        return sound.replace(sound.partition(f'"{name}": "')[2][:64], other)

    assert f"+ patches {APP}: 4" in difference(sound)
    assert f"+ patches {APP}: 2" in difference(changed("from_sha256"))
    assert "patches" not in difference(changed("to_sha256"))
    publish(place)
    assert offered(place, OLD, BOTH) is None
    index.write_text("{}")
    assert "is no index of patches" in run_here(place, "push", str(place.plan), "--force", code=4)
    index.write_text(sound)
    publish(place)
    assert offered(place, OLD, BOTH) is not None
    index.unlink()
    assert f"- patches {APP}" in run_here(place, "diff", str(place.plan))
    publish(place)
    assert offered(place, OLD, BOTH) is None


def test_an_encrypted_app_has_encrypted_patches(shop: Workplace, tmp_path: Path) -> None:
    """Only such; when the identities change they are made anew, and until then not offered."""
    app, keys, files = "secret", tmp_path / "keys", tmp_path / "packages"
    files.mkdir()
    packages = packed(files, editions((OLDEST, TARGET)))
    text = plan().replace(APP, app)
    for version in (OLD, BAD):
        text = text.replace(f"  - {{version: {version}}}\n", "")

    def recipients(*names: str) -> str:
        lines = "".join(f"  {(keys / f'{name}.recipient').read_text()}" for name in names)
        return f"{text}encryption:\n{lines}"

    def answer() -> dict[str, Any]:
        found = shop.check(apps={app: OLDEST}, accept=BOTH)["apps"][0]
        assert found["version"] == TARGET
        return dict(found)

    def make() -> None:
        census = tmp_path / "census.json"
        census.write_text(f'{{"{app}": {{"{OLDEST}": 1}}}}')
        names = [word for key in keys.glob("*.age-key") for word in ("--identity", str(key))]
        run_here(shop, "patch", app, "--census", str(census), *names, str(shop.plan))

    def taken(found: dict[str, Any]) -> set[bytes]:
        heads = set()
        for each in (found["package"], found["patch"]):
            data = (shop.folder / "store" / each["urls"][0].removeprefix(f"{BASE}/")).read_bytes()
            assert hashlib.sha256(data).hexdigest() == each["transfer_sha256"]
            heads.add(data[:21])
        return heads

    for name in ("tea", "tea-2"):
        run_here(shop, "keygen", name, "--for", "devices", "--dir", str(keys), "--no-passphrase")
    shop.write("apps/secret.yaml", recipients("tea"))
    stock(shop, app, packages)
    make()
    publish(shop)
    found = answer()
    assert found["encryption"] == {"format": "age", "key_id": "tea"}
    assert taken(found) == {b"age-encryption.org/v1"}

    shop.write("apps/secret.yaml", recipients("tea-2", "tea"))
    stock(shop, app, packages)
    publish(shop)
    rotated = answer()
    assert rotated["encryption"] == {"format": "age", "key_id": "tea-2"}
    assert "patch" not in rotated
    make()
    publish(shop)
    again = answer()
    assert taken(again) == {b"age-encryption.org/v1"}
    assert again["patch"]["urls"] != found["patch"]["urls"]
    (shop.plan / "apps" / "secret.yaml").unlink()


def test_a_compiled_file_offers_what_its_store_knows(place: Workplace) -> None:
    """Compiled without a store, before `patch` ran: pushed later, it offers all patches.

    And pushed again when there are others, it has something new to say.
    """
    file = str(place.folder / "image.tgd")
    place.write("apps/coffee.yaml", f"{plan()}name: Coffee\n")
    run_here(place, "compile", str(place.plan), "--out", file, TIDEGATE_STORE="")
    assert "nothing new" not in run_here(place, "push", file, "--force")
    assert offered(place, OLDEST) is None
    patch(place)
    assert "nothing new" not in run_here(place, "push", file, "--force")
    assert offered(place, OLDEST) is not None
    assert "nothing new" in run_here(place, "push", file, "--force")
    shutil.rmtree(place.folder / "store" / "patches")
    run_here(place, "push", file, "--force")
    assert offered(place, OLDEST) is None


@pytest.mark.parametrize("damage", [{"size": 10**30}, {"from": {}}, {"from": "x" * 300}, "twice"])
def test_a_damaged_index_is_named(place: Workplace, damage: Any) -> None:
    """A push says which index cannot be read, and changes nothing."""
    patch(place)
    path = place.folder / "store" / "patches" / APP / f"{TARGET}.json"
    value = json.loads(path.read_bytes())
    value["patches"] += value["patches"][:1] if damage == "twice" else []
    value["patches"][0] |= {} if damage == "twice" else damage
    path.write_text(json.dumps(value))
    epoch = place.check()["epoch"]
    said = run_here(place, "push", str(place.plan), "--force", code=4)
    assert f'"patches/{APP}/{TARGET}.json" in the store is no index of patches' in said
    assert place.check()["epoch"] == epoch


def test_indexes_are_read_side_by_side() -> None:
    """A bucket takes its time for each: a push of two hundred patched apps asks at once."""
    asked: list[int] = []
    meet = threading.Barrier(THREADS)

    class Slow:
        """A store whose answers wait until so many are asked for."""

        def list_named(self, _: str) -> list[str]:
            return [index_path(str(at), TARGET) for at in range(8 * THREADS)]

        def get_named(self, _: str) -> None:
            asked.append(meet.wait(timeout=30))

    package = SimpleNamespace(version=TARGET, key=(2,), record=object())
    apps = [SimpleNamespace(id=str(at), packages=[package]) for at in range(8 * THREADS)]
    assert read_catalogue(Slow(), SimpleNamespace(apps=apps)) == {}  # type: ignore[arg-type]
    assert len(asked) == 8 * THREADS
