"""`tidegate up`: everything on one machine, from nothing to a served sample plan."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import orjson
import typer

from compiler.child import end_child
from compiler.commands.console import note, say
from compiler.commands.file_server import serve_files
from compiler.commands.local_redis import LocalRedis
from compiler.compilation import compile_folder
from compiler.language.encryption_source import read_encryption
from compiler.language.starting import FILES, start_plan
from compiler.packaging.archive import pack
from compiler.packaging.upload import upload
from compiler.publication.epoch import described
from compiler.publication.gateways import wait_for_gateways
from compiler.publication.live import read_stored
from compiler.publication.mirror import Mirror
from compiler.publication.publisher import publish
from compiler.publication.publisher_key import create_key, load_key
from compiler.publication.restore import restore
from compiler.refusal import Refused
from compiler.storage.store import Store, open_store
from gateway.link import connect_sync, parse_url

_APP = "2021000000000001"
_READY_SECONDS = 20.0
_STOP_SECONDS = 15.0
_LAST_PORT = 65_535
_ADDRESSES = {
    "TIDEGATE_LISTEN": "127.0.0.1:8080",
    "TIDEGATE_ADMIN_LISTEN": "127.0.0.1:9080",
    "TIDEGATE_FILES_LISTEN": FILES,
}
_CHECK = {
    "user": "u-1001",
    "device": "d-5f0c",
    "platform": "android",
    "os_version": "14",
    "client_version": "10.2.3",
    "network": "WIFI",
    "apps": {_APP: "1.0.0.1"},
}


def up(
    folder: Annotated[
        Path, typer.Option("--dir", help="Where plan, store, keys and logs are kept.")
    ] = Path(".tidegate"),
    once: Annotated[bool, typer.Option("--once", help="Show the check, then stop.")] = False,
) -> None:
    """Serve a sample plan on this machine, from nothing.

    Starts a Redis and a gateway, publishes the sample in the workspace `demo`, shows one check,
    and serves until Ctrl-C. A later run goes on with what was pushed last. DIR/env tells a shell
    where everything is: `. .tidegate/env`. This gateway is told of no keys, so it trusts any.

    TIDEGATE_LISTEN (127.0.0.1:8080) says where it answers checks, TIDEGATE_ADMIN_LISTEN
    (127.0.0.1:9080) health and metrics, TIDEGATE_FILES_LISTEN (127.0.0.1:8090) where the sample's
    packages are downloaded.
    """
    addresses = {name: os.environ.get(name) or usual for name, usual in _ADDRESSES.items()}
    for name, address in addresses.items():
        _refuse_busy(name, address)
    stopped = threading.Event()
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, lambda *_: stopped.set())
    with ExitStack() as stack:
        redis = stack.enter_context(LocalRedis(folder / "redis"))
        store = open_store(str(folder / "store"))
        plan = folder / "plan"
        environment = _environment(folder, redis.url, addresses)
        number = _go_on(store, redis.url)
        went_on = number is not None
        if number is None:
            _sample(plan, store, addresses["TIDEGATE_FILES_LISTEN"])
            number = _publish(folder, plan, store, redis.url)
        host, port = _split(addresses["TIDEGATE_FILES_LISTEN"])
        files = serve_files(folder / "store", host, port)
        stack.callback(files.shutdown)
        gateway = stack.enter_context(_gateway(folder / "gateway.log", environment))
        mirror = Mirror(connect_sync(parse_url(redis.url), timeout_seconds=5), "demo")
        _wait(mirror, number, gateway, folder / "gateway.log")
        _show_check(addresses["TIDEGATE_LISTEN"])
        _show_next(folder, addresses, None if went_on else f"{plan} --base {number}")
        while not once and not stopped.wait(0.2):
            if gateway.poll() is not None:
                raise Refused(f"The gateway stopped by itself; see {folder}/gateway.log.")
    note("stopped")


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not port.isdigit() or int(port) > _LAST_PORT:
        raise typer.BadParameter(f"{address!r} is no HOST:PORT.")
    return host or "127.0.0.1", int(port)


def _refuse_busy(name: str, address: str) -> None:
    host, port = _split(address)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as fault:
            raise Refused(
                f"{address} cannot be used ({fault.strerror}). Stop what listens there, or type: "
                f"{name}={host}:{port + 10000 if port < 50000 else port - 10000} make run"
            ) from None


def _go_on(store: Store, url: str) -> int | None:
    """Put what was pushed last, in an earlier run, into the new Redis; None at the first run."""
    stored = read_stored(store, "demo")
    if stored is None:
        return None
    restore(store=store, link=connect_sync(parse_url(url), timeout_seconds=5), workspace="demo")
    note(f"Going on with {described(stored.epoch)}.")
    return stored.number


def _sample(folder: Path, store: Store, files: str) -> None:
    """Start the plan; pack and upload its two versions, the same bytes always."""
    if not folder.exists():
        start_plan(folder, files)
    for bundle in sorted((folder / "bundles").glob("*")):
        with tempfile.TemporaryDirectory() as work:
            package = Path(work, "package.zip")
            pack(bundle, package, app=_APP)
            # The sample is its owner's: they may have asked for encryption since.
            secret = read_encryption(folder)
            done = upload(
                package, app=_APP, version=None, plan=folder, store=store, encryption=secret
            )
            note(done.message)


def _publish(folder: Path, plan: Path, store: Store, url: str) -> int:
    link = connect_sync(parse_url(url), timeout_seconds=5)
    keys = folder / "keys"
    if not (keys / "local.pem").exists():
        create_key(keys, "local", None)
    image, _ = compile_folder(plan, store, int(time.time()))
    published = publish(
        image,
        store=store,
        link=link,
        key=load_key(keys / "local.pem", None),
        workspace="demo",
        now=int(time.time()),
        note="tidegate up",
    )
    return published.number


def _environment(folder: Path, url: str, addresses: dict[str, str]) -> dict[str, str]:
    """Say where everything is, to the gateway and in a file that a shell can read."""
    here = folder.resolve()
    settings = {
        **addresses,
        "TIDEGATE_REDIS": url,
        "TIDEGATE_STORE": str(here / "store"),
        "TIDEGATE_WORKSPACE": "demo",
        "TIDEGATE_CACHE": str(here / "gateway"),
        "TIDEGATE_KEY": str(here / "keys" / "local.pem"),
    }
    lines = [f"export {name}='{value}'\n" for name, value in settings.items()]
    (folder / "env").write_text("".join(lines))
    return {**os.environ, **settings, "TIDEGATE_DRAIN_SECONDS": "0"}


@contextmanager
def _gateway(log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "gateway"], env=environment, stderr=file)
    try:
        yield process
    finally:
        end_child(process, _STOP_SECONDS)


def _wait(mirror: Mirror, number: int, gateway: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end and gateway.poll() is None:
        served = wait_for_gateways(mirror, number, timeout_seconds=0.1)
        if served.serving:
            say(f"Epoch {number} is served by {served.message}.")
            return
        time.sleep(0.05)
    raise Refused(f"The gateway did not start. It said:\n{log.read_text()[-2000:]}")


def _show_check(address: str) -> None:
    body = orjson.dumps(_CHECK)
    url = f"http://{address}/v1/check"
    say(f"\n$ curl -s {url} -d '{body.decode()}'")
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    answer = orjson.loads(_asked(request))
    say(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())


def _asked(request: urllib.request.Request) -> bytes:
    """Ask, and ask again while the gateway is overloaded, as a busy machine is. Raises OSError."""
    end = time.monotonic() + _READY_SECONDS
    while True:
        try:
            with urllib.request.urlopen(request, timeout=_READY_SECONDS) as response:  # noqa: S310
                answer: bytes = response.read()
                return answer
        except urllib.error.HTTPError as fault:
            fault.close()
            if fault.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > end:
                raise
        time.sleep(0.5)


def _show_next(folder: Path, addresses: dict[str, str], sample: str | None) -> None:
    """Say what to type next; `sample` names the sample in a push, None when another may be live."""
    say(f"\nServing on http://{addresses['TIDEGATE_LISTEN']}; Ctrl-C stops everything. Now try:")
    say(f"  . .venv/bin/activate; . {folder}/env          # the tools, and where everything is")
    say("  tidegate explain --app coffee --user u-1001   # why that answer")
    if sample is not None:
        say(f"  tidegate push {sample}         # after you changed the plan")
        return
    say("  tidegate push YOUR_PLAN                       # after you changed what is live")
    say("  tidegate pull DIR                             # what is live, as a plan's folder")
