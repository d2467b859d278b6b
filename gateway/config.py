"""The gateway's settings, from the environment: read once, frozen, every fault named at once."""

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from gateway.cores import cores
from gateway.errors import TidegateError
from gateway.link import Address, parse_url
from gateway.signing import PublicKey, parse_trusted_keys
from gateway.store_place import Bucket, check_installed, parse_place

T = TypeVar("T")

MAX_NAME = 64
MAX_WORKERS = 256
MIN_SECRET_CHARS = 16
LEAST_STALE, MOST_STALE = 5, 604_800
"""In seconds: below, a failover of Redis would make all gateways unready at once."""

_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_SECRET_CHARACTERS = frozenset(map(chr, range(0x21, 0x7F))) - frozenset("\"'$\\")


class ConfigError(TidegateError):
    """Settings that no gateway can start with; `faults` are whole sentences, one a fault."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class Endpoint(NamedTuple):
    """Where to listen; port 0 lets the system choose one."""

    host: str
    port: int


class Variable(NamedTuple):
    """One environment variable, for `--help`; `default` is text as one would write it."""

    name: str
    default: str
    meaning: str


WORKSPACE = Variable("TIDEGATE_WORKSPACE", "", "workspace to serve; required, for example demo")
LISTEN = Variable("TIDEGATE_LISTEN", "127.0.0.1:8080", "HOST:PORT for clients")
ADMIN_LISTEN = Variable(
    "TIDEGATE_ADMIN_LISTEN", "127.0.0.1:9080", "HOST:PORT for health and metrics"
)
REDIS = Variable(
    "TIDEGATE_REDIS",
    "redis://127.0.0.1:6379/0",
    "Redis: redis://, unix://, redis+sentinel://HOST,HOST/SERVICE or redis+cluster://HOST,HOST; "
    "with TLS rediss://, rediss+sentinel:// or rediss+cluster://, and ?ca=FILE",
)
STORE = Variable(
    "TIDEGATE_STORE", "", "the store, a folder or a bucket's URL; used to start without Redis"
)
CACHE = Variable(
    "TIDEGATE_CACHE", "", "folder for the last epoch; .tidegate/gateway/WORKSPACE if unset"
)
TRUSTED_KEYS = Variable(
    "TIDEGATE_TRUSTED_KEYS", "", "publishers' keys as name:base64 lines, or a file of them"
)
NAME = Variable("TIDEGATE_NAME", "", "this gateway's name among others; HOSTNAME-PID if unset")
WORKERS = Variable(
    "TIDEGATE_WORKERS", "1", "processes that serve; auto: one for each core that it may use"
)
URL_SECRET = Variable(
    "TIDEGATE_URL_SECRET", "", "signs the URLs of a CDN rule with `expires`, as the CDN checks them"
)
DRAIN = Variable(
    "TIDEGATE_DRAIN_SECONDS", "5", "after SIGTERM: serve on, while balancers see /health/ready"
)
MAX_STALE = Variable(
    "TIDEGATE_MAX_STALE",
    "",
    "seconds without a word of Redis after which /health/ready is 503; checks are answered "
    "all the same; never if unset",
)
LOOKUP_TIMEOUT = Variable(
    "TIDEGATE_LOOKUP_TIMEOUT_MS", "50", "longest wait for Redis within one check"
)
LOOKUPS = Variable(
    "TIDEGATE_LOOKUPS", "10000", "look-ups waiting at once in a process; beyond, ids are unknown"
)
CHECKS = Variable(
    "TIDEGATE_CHECKS", "2000", "checks waiting at once in a process; beyond, 503 with Retry-After"
)
LATE = Variable(
    "TIDEGATE_LATE_MS", "500", "turns of the event loop this late are overload: 503, as above"
)

VARIABLES = (
    WORKSPACE,
    LISTEN,
    ADMIN_LISTEN,
    REDIS,
    STORE,
    CACHE,
    TRUSTED_KEYS,
    NAME,
    WORKERS,
    URL_SECRET,
    DRAIN,
    MAX_STALE,
    LOOKUP_TIMEOUT,
    LOOKUPS,
    CHECKS,
    LATE,
)

_SIGNALS = """\
SIGTERM ends it: it turns unready, serves on for TIDEGATE_DRAIN_SECONDS, finishes what it has
begun, and exits with 0. A second one, or SIGINT, does not wait for balancers.

With TIDEGATE_WORKERS of 2 or more this process serves no client: it starts the workers, which
share TIDEGATE_LISTEN, replaces one that dies, and answers on TIDEGATE_ADMIN_LISTEN for all.
SIGHUP replaces them one after the other, each by a new process that reads code and files of
keys anew, and loses no request; settings from the environment stay as they were."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a gateway is told; `checks`, `lookups`, `late_ms` bound what waits."""

    workspace: str
    listen: Endpoint
    admin_listen: Endpoint
    redis: Address
    store: Path | Bucket | None
    cache: Path
    trusted: tuple[PublicKey, ...]
    name: str
    workers: int
    url_secret: str | None = field(repr=False)
    drain_seconds: float
    max_stale: float | None
    lookup_timeout_ms: int
    lookups: int
    checks: int
    late_ms: int


def read_config(environ: Mapping[str, str]) -> Config:
    """Read the settings. Raises ConfigError with every fault; reads the file of trusted keys."""
    faults: list[str] = []

    def read(variable: Variable, parse: Callable[[str], T], spare: T) -> T:
        try:
            return parse(environ.get(variable.name, "").strip() or variable.default)
        except ValueError as fault:
            faults.append(f"{variable.name}: {fault}")
            return spare

    workspace = read(WORKSPACE, _workspace, "")
    folder = Path(".tidegate/gateway") / workspace
    nowhere = Endpoint("", 0)
    config = Config(
        workspace=workspace,
        listen=read(LISTEN, _endpoint, nowhere),
        admin_listen=read(ADMIN_LISTEN, _endpoint, nowhere),
        redis=read(REDIS, parse_url, parse_url(REDIS.default)),
        store=read(STORE, _place, None),
        cache=read(CACHE, lambda text: Path(text) if text else folder, folder),
        trusted=read(TRUSTED_KEYS, _trusted, ()),
        name=read(NAME, _name, ""),
        workers=read(WORKERS, _workers, 1),
        url_secret=read(URL_SECRET, _secret, None),
        drain_seconds=read(DRAIN, _seconds, 0.0),
        max_stale=read(MAX_STALE, _patience, None),
        lookup_timeout_ms=read(LOOKUP_TIMEOUT, _count(1, 10_000), 0),
        lookups=read(LOOKUPS, _count(1, 1_000_000), 0),
        checks=read(CHECKS, _count(1, 1_000_000), 0),
        late_ms=read(LATE, _count(1, 60_000), 0),
    )
    if config.listen.port and config.listen == config.admin_listen:
        faults.append(
            f"{ADMIN_LISTEN.name}: it is the same as {LISTEN.name}. Give it another port."
        )
    if faults:
        raise ConfigError(tuple(faults))
    return config


def usage() -> str:
    """Write what `--help` shows."""
    width = max(len(variable.name) for variable in VARIABLES)
    lines = ["python -m gateway: answers update checks from the live epoch.", ""]
    for variable in VARIABLES:
        default = f" (default {variable.default})" if variable.default else ""
        lines.append(f"  {variable.name:{width}}  {variable.meaning}{default}")
    return "\n".join((*lines, "", _SIGNALS))


def _workspace(text: str) -> str:
    if not text:
        raise ValueError("it is not set. Name the workspace to serve, for example demo.")
    return _word(text)


def _word(text: str) -> str:
    if len(text) > MAX_NAME or not set(text) <= _NAME_CHARACTERS or not text.strip("."):
        raise ValueError(
            f"{text[:80]!r} is no name. Use up to {MAX_NAME} letters, digits and ._- of ASCII."
        )
    return text


def _name(text: str) -> str:
    if text:
        return _word(text)
    host = "".join(char if char in _NAME_CHARACTERS else "-" for char in socket.gethostname())
    return f"{host[: MAX_NAME - 12]}-{os.getpid()}"


def _endpoint(text: str) -> Endpoint:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError(f"{text[:80]!r} is no HOST:PORT. Write for example 0.0.0.0:8080.")
    return Endpoint(host, int(port))


def _place(text: str) -> Path | Bucket | None:
    if not text:
        return None
    place = parse_place(text)
    if isinstance(place, Bucket):
        check_installed()
    return place


def _trusted(text: str) -> tuple[PublicKey, ...]:
    """Read keys from text, or from the file that it names; that there are none is a fault.

    Otherwise an empty file would silently let any key publish.
    """
    if not text:
        return ()
    if ":" not in text or os.path.isfile(text):  # noqa: PTH113 - a Path raises for long texts
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as fault:
            raise ValueError(
                f"the file {text[:200]!r} cannot be read ({fault}). Name a file of lines "
                "name:base64, or write the lines themselves."
            ) from None
    keys = parse_trusted_keys(text)
    if not keys:
        raise ValueError("there is no key in it. Unset it to trust any key, or add name:base64.")
    return keys


def _secret(text: str) -> str | None:
    if 0 < len(text) < MIN_SECRET_CHARS:
        raise ValueError(f"it has under {MIN_SECRET_CHARS} characters, so that it can be guessed.")
    if not set(text) <= _SECRET_CHARACTERS:
        raise ValueError(
            "it has a character that nginx's configuration would not take as it is. Use printable "
            "ASCII without blanks, quotes, $ and backslashes."
        )
    return text or None


def _workers(text: str) -> int:
    if text == "auto":
        return min(cores(), MAX_WORKERS)
    try:
        return _count(1, MAX_WORKERS)(text)
    except ValueError as fault:
        raise ValueError(f"{str(fault).removesuffix('.')}, nor is it auto.") from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= 3600:
        raise ValueError(f"{text[:40]!r} is no number of seconds from 0 to 3600.")
    return seconds


def _patience(text: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not LEAST_STALE <= seconds <= MOST_STALE:
        raise ValueError(
            f"{text[:40]!r} is no number of seconds from {LEAST_STALE} to {MOST_STALE:,}."
        )
    return seconds


def _count(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not least <= int(text[:12]) <= most:
            raise ValueError(f"{text[:40]!r} is no whole number from {least:,} to {most:,}.")
        return int(text)

    return parse
