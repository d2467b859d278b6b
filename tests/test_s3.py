"""The store in a bucket: a real S3 service, lines that break, and sentences for what is wrong."""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest

from compiler.packaging import forms
from compiler.packaging.archive import pack
from compiler.packaging.upload import Uploaded, upload_all
from compiler.storage.media import IMMUTABLE
from compiler.storage.store import PART_BYTES, Store
from gateway import store_place
from gateway.errors import FormatError, StoreError
from processes import ROOT, RedisServer, free_port, running_gateway, wait_until
from s3 import BUCKET, Line, Reader, S3Server, headers_of, open_bucket_store, s3_server
from test_upload import APP, miniapp
from workplace import workplace

LARGE = PART_BYTES * 2 + 1_000_000


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Run one S3 service for this file."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def line(s3: S3Server) -> Iterator[Line]:
    """Give a line to the service."""
    found = Line(s3.port)
    yield found
    found.close()


@pytest.fixture
def store(s3: S3Server, tmp_path: Path) -> Store:
    """Open an empty store in the bucket."""
    return open_bucket_store(s3, tmp_path.name)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Make an empty plan's folder."""
    (tmp_path / "plan").mkdir()
    return tmp_path / "plan"


def test_a_bucket_is_a_store(store: Store) -> None:
    """Blobs and named objects go in, are listed, read and deleted as in a folder."""
    blobs = {hashlib.sha256(b"%d" % n).digest(): b"%d" % n for n in range(40)}
    assert store.put_blobs(blobs.items()) == 40
    assert store.put_blobs(blobs.items()) == 0
    assert dict(store.get_blobs(blobs)) == blobs
    assert {blob.digest for blob in store.list_blobs()} == blobs.keys()
    store.put_named("live", b"1")
    store.put_named("a/b", b"2")
    assert store.list_named() == ["a/b", "live"]
    assert store.list_named("a") == ["a/b"]
    assert store.get_named("a") is store.get_named("a/b/c") is store.digest_named("x") is None
    store.delete_named("a/b")
    store.delete_named("a/b")
    store.delete_blobs(blobs)
    assert store.list_named() == ["live"]
    assert not list(store.list_blobs())


def test_a_damaged_blob_is_never_given(store: Store) -> None:
    """Bytes that somebody changed in the bucket are a FormatError."""
    digest = store.put_blob(b"tide")
    name = digest.hex()
    obstore.put(store._backend, f"blobs/{name[:2]}/{name}", b"Tide")
    with pytest.raises(FormatError, match="is damaged"):
        store.get_blob(digest)


def test_a_swap_in_a_bucket_has_one_winner(store: Store) -> None:
    """Of many who create, or replace the same bytes, at once exactly one wins: by ETag."""
    before: bytes | None = None
    for turn in range(5):
        texts = [b"%d.%d" % (turn, number) for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            won = list(
                pool.map(lambda text, old=before: store.swap_named("lists/a", old, text), texts)
            )
        assert won.count(True) == 1
        before = texts[won.index(True)]
        assert store.get_named("lists/a") == before
    assert not store.swap_named("lists/a", b"other", b"x")


def test_objects_say_what_they_are(s3: S3Server, store: Store, plan: Path, tmp_path: Path) -> None:
    """Each form has its media type, may be kept for ever, and has no Content-Encoding."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.js").write_text("tide " * 99)
    bundle = pack(tmp_path / "in", tmp_path / "b.zip", kind="bundle").path
    upload_all([bundle], app="b", version="1", plan=plan, store=store)
    upload_all(
        [miniapp(tmp_path, text="tide " * 99)], app=None, version=None, plan=plan, store=store
    )
    (tmp_path / "large").write_bytes(random.Random(2).randbytes(LARGE))
    store.put_file("files/00/large.bsdiff4", tmp_path / "large")
    said = []
    for path in store.list_named("files"):
        headers = headers_of(store, path)
        assert headers["cache-control"] == IMMUTABLE
        assert "content-encoding" not in headers
        said.append((path.rpartition(".")[2], headers["content-type"]))
    assert sorted(said) == [
        ("bsdiff4", "application/octet-stream"),
        *[("gz", "application/gzip")] * 2,
        ("zip", "application/miniapp-pkg+zip"),
        ("zip", "application/zip"),
        *[("zst", "application/zstd")] * 2,
    ]
    store.put_named("live", b"1")
    assert "cache-control" not in headers_of(store, "live")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Make a package of three parts and three small ones; and let failures come soon."""
    monkeypatch.setattr(forms, "_LEVEL", 1)
    monkeypatch.setattr(store_place, "_PATIENT", store_place._BRIEF)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "large").write_bytes(random.Random(1).randbytes(LARGE))
    found = [pack(tmp_path / "in", tmp_path / "large.zip", kind="bundle").path]
    return found + [miniapp(tmp_path, version=f"1.0.{n}", text="tide " * 200) for n in range(3)]


def send(packages: list[Path], plan: Path, store: Store) -> list[Uploaded]:
    """Upload the large package and the small ones."""
    large = upload_all(packages[:1], app="large", version="1", plan=plan, store=store)
    return large + upload_all(packages[1:], app=None, version=None, plan=plan, store=store)


CUTS = (900, 300_000, PART_BYTES + 9_000, LARGE, LARGE + 2_500, LARGE + 6_000)


@pytest.mark.parametrize("at", CUTS)
def test_a_cut_upload_goes_on_where_it_stopped(
    s3: S3Server, line: Line, plan: Path, tmp_path: Path, packages: list[Path], at: int
) -> None:
    """Wherever the line breaks, also inside a file's parts, readers only ever see whole objects.

    What has a record is there; the same command again sends the rest, and no object twice.
    """
    direct = open_bucket_store(s3, tmp_path.name)
    cut = open_bucket_store(s3, tmp_path.name, line.port)
    with Reader(direct) as reader:
        line.cut_after(at)
        with pytest.raises(StoreError, match=r"could not (read|write)"):
            send(packages, plan, cut)
        assert line.cuts
        there = set(direct.list_named("files"))
        recorded = [json.loads(path.read_bytes()) for path in plan.rglob("*.json")]
        assert {form["path"] for record in recorded for form in record["forms"]} <= there
        line.cut_after(None)
        done = send(packages, plan, cut)
    assert not reader.broken
    assert reader.seen
    paths = {form.path for each in done for form in each.forms}
    assert set(direct.list_named("files")) == paths
    for each in done:
        assert each.stored == bool({form.path for form in each.forms} - there)
    if done[0].path in there:
        assert line.sent < LARGE
    assert not any(each.stored or each.recorded for each in send(packages, plan, cut))


def test_a_hiccup_of_the_line_goes_unnoticed(
    s3: S3Server, line: Line, plan: Path, tmp_path: Path, packages: list[Path]
) -> None:
    """A connection that breaks once is tried again within the same upload."""
    store = open_bucket_store(s3, tmp_path.name, line.port)
    line.cut_after(PART_BYTES + 9_000, lasting=False)
    assert send(packages, plan, store)[0].stored
    assert line.cuts


def run(s3: S3Server, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `tidegate` with credentials for the service, some of them changed."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
    found = kept | s3.environment() | environment
    return subprocess.run(
        [sys.executable, "-m", "compiler.cli", *arguments],
        cwd=ROOT,
        env=found,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


REFUSED = "the service refuses the credentials. Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."


def said(done: subprocess.CompletedProcess[str], bucket: str = BUCKET) -> str:
    """Give the cause that a command named, in its one line, when the store failed."""
    assert done.returncode == 4, done
    assert done.stdout == ""
    found = re.fullmatch(rf'The store s3://{bucket}/x could not list "[^"]+": (.*)\n', done.stderr)
    assert found is not None, done.stderr
    return found[1]


def test_what_is_wrong_with_a_bucket_is_said_in_a_sentence(
    s3: S3Server, plan: Path, tmp_path: Path
) -> None:
    """No bucket, no service, a wrong secret: one line each, exit code 4, and nothing done."""
    (plan / "workspace.yaml").write_text("workspace: demo\n")
    command = ("upload", str(miniapp(tmp_path)), "--plan", str(plan), "--store")
    found = said(run(s3, *command, "s3://nowhere/x"), "nowhere")
    assert found == "there is no such bucket. Create it, or correct the store's URL."
    nobody = f"http://127.0.0.1:{free_port()}"
    found = said(run(s3, *command, f"s3://{BUCKET}/x", AWS_ENDPOINT_URL=nobody))
    assert found == (
        "the service cannot be reached. Check the network, and the endpoint if one is set."
    )
    key = s3.make_key()
    with s3.strict():
        wrong = key | {"AWS_SECRET_ACCESS_KEY": "wrong"}
        assert said(run(s3, *command, f"s3://{BUCKET}/x", **wrong)) == REFUSED
        open_bucket_store(s3, "x", **key).put_named("a", b"1")  # it was the secret indeed
        with pytest.raises(StoreError, match=re.escape(REFUSED)):
            open_bucket_store(s3, "x")  # a key that nobody knows
    assert not list(plan.rglob("*.json"))


def test_missing_credentials_are_said_in_a_sentence(s3: S3Server) -> None:
    """Without any in the environment, and without a machine's role, it says which to set."""
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    with pytest.raises(StoreError, match=r"there are no credentials\. Set AWS_ACCESS_KEY_ID and"):
        open_bucket_store(s3, "x", **none)


def test_a_whole_life_in_a_bucket(
    s3: S3Server, server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upload, push, history, gc, restore, and a gateway that starts from the bucket alone."""
    for name, text in s3.environment().items():
        monkeypatch.setenv(name, text)
    url = f"s3://{BUCKET}/{tmp_path.name}"
    with workplace(tmp_path, server.url, store=url) as place:
        place.write("workspace.yaml", "workspace: demo\n")
        packages = [str(miniapp(tmp_path, f"1.0.0.{n}", text="tide " * 99)) for n in (1, 2)]
        place.run("upload", *packages, "--plan", str(place.plan))
        for number in (1, 2):
            app = f"app: {APP}\npackages: [{{version: 1.0.0.1}}, {{version: 1.0.0.2}}]\n"
            offer = f"releases:\n  - {{id: all, package: 1.0.0.{number}, audience: everyone}}\n"
            place.write("apps/coffee.yaml", app + offer)
            place.commit(f"offer 1.0.0.{number}")
            place.push()
        place.run("gc")
        server.kill()
        server.start()
        place.run("restore")
        wait_until(lambda: place.app()["version"] == "1.0.0.2", "it is served")
        place.run("history", "verify")
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    trusted = str(tmp_path / "keys" / "ann.pub")
    with running_gateway(tmp_path / "second", nobody, STORE=url, TRUSTED_KEYS=trusted) as gateway:
        assert gateway.events("serving state")[0]["why"] == "restored from the store"
