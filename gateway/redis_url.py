"""Redis by URL: one server, Sentinel, or a Cluster. Pure.

    redis://[USER:PASSWORD@]HOST[:PORT][/DB]                     one server; rediss:// with TLS
    unix://[USER:PASSWORD@]/PATH/TO/SOCKET[?db=DB]               one server, by its socket
    redis+sentinel://[…@]HOST[:PORT],HOST[:PORT]…/SERVICE[/DB]   Sentinels, and what they watch
    redis+cluster://[…@]HOST[:PORT],HOST[:PORT]…                 some nodes of a Cluster

and `rediss+sentinel`, `rediss+cluster` with TLS. A user or password with one of `@ / ? # % :` in
it is percent-encoded. Behind a `?`, joined by `&`:

    ca=FILE, cert=FILE, key=FILE      whom to trust instead of the system's; the client's own
    server_name=NAME                  what the certificates of all servers say, if not their hosts
    sentinel_user=…, sentinel_password=…     the Sentinels' own; the user above is Redis's
    read=replicas                     read buckets and blobs from replicas first: see routing.py
    db=N                              of a socket

No sentence about a wrong URL, and nothing that is shown, repeats what may be a password.
"""

from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import unquote

Node = tuple[str, int]
"""A server's host and port."""

MAX_DB = 1_000_000
_PORTS = {"one": 6379, "sentinel": 26379, "cluster": 6379}
_WRITE = (
    "Write redis://HOST:PORT/0, unix:///PATH, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE or "
    "redis+cluster://HOST:PORT,HOST:PORT; with TLS rediss://…, rediss+sentinel://… or "
    "rediss+cluster://…."
)
_ENCODE = "In a user or password write %40 for @, %2F for /, %3F for ?, %23 for #, %25 for %."
_TLS_OPTIONS = ("ca", "cert", "key", "server_name")


class Kind(Enum):
    """What stands behind a URL."""

    ONE = "one"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Tls:
    """How to know the servers and to be known: files in PEM, empty for none; a name to expect."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password; None for none."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL; `shown` has no password and may be printed.

    `nodes` are the server, the Sentinels or some nodes of the Cluster; none with a socket's `path`.
    """

    shown: str
    kind: Kind
    nodes: tuple[Node, ...]
    path: str = ""
    service: str = ""
    db: int = 0
    login: Login = Login()
    sentinel_login: Login = Login()
    tls: Tls | None = None
    replicas_first: bool = False


def read_url(url: str) -> Address:
    """Read a Redis URL. Raises ValueError with a sentence that says what to write."""
    scheme, colon, rest = url.strip().partition("://")
    base, plus, second = scheme.partition("+")
    kinds = [kind for kind in Kind if kind.value == (second if plus else "one")]
    known = bool(colon and kinds) and base in ("redis", "rediss", "unix") and second != "one"
    if not known or (base == "unix" and plus):
        what = f"{scheme}://" if colon and scheme.isascii() and scheme.isalnum() else "It"
        raise ValueError(f"{what} is no Redis URL. {_WRITE}")
    kind = kinds[0]
    place, _, query = rest.partition("?")
    if "@" in query:
        raise ValueError(f"The Redis URL has an @ behind its ?. {_ENCODE}")
    credentials, _, place = place.rpartition("@")
    if "#" in place or "#" in query:
        raise ValueError(f"The Redis URL has a # in it. {_ENCODE}")
    options = _options(query)
    login = _login(credentials)
    if base == "unix":
        path, db = _socket(place, options)
        nodes: tuple[Node, ...] = ()
        service = ""
        shown = f"unix://{path}"
    else:
        path = ""
        nodes, service, db = _servers(place, kind)
        hosts = ",".join(map(_written, nodes))
        tail = f"/{service}" * bool(service) + f"/{db}" * (kind is not Kind.CLUSTER)
        shown = f"{scheme}://{hosts}{tail}"
    tls = _tls(options) if base == "rediss" else None
    replicas_first = _reads(options, kind)
    sentinel_login = Login()
    if kind is Kind.SENTINEL:
        user, password = options.pop("sentinel_user", None), options.pop("sentinel_password", None)
        sentinel_login = Login(user, password)
    if options:
        raise ValueError(_unknown(next(iter(options)), base, kind))
    return Address(
        shown, kind, nodes, path, service, db, login, sentinel_login, tls, replicas_first
    )


def _servers(place: str, kind: Kind) -> tuple[tuple[Node, ...], str, int]:
    """Read hosts, the service's name and the database."""
    hosts, *parts = place.rstrip("/").split("/")
    names = hosts.split(",")
    if kind is Kind.ONE and len(names) > 1:
        raise ValueError(
            "The Redis URL names several hosts. Write redis+sentinel://HOST,HOST/SERVICE for "
            "Sentinels, or redis+cluster://HOST,HOST for a Cluster."
        )
    nodes = tuple(_node(name, at, kind) for at, name in enumerate(names, 1))
    service = ""
    if kind is Kind.SENTINEL:
        service = unquote(parts.pop(0)) if parts else ""
        if not service:
            raise ValueError(
                "The Redis URL does not name what the Sentinels watch. Write "
                "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE, with the name that stands behind "
                "`sentinel monitor` in their configuration."
            )
    db = _database(parts.pop(0)) if parts else 0
    if parts:
        raise ValueError(f"The Redis URL has too many parts. {_WRITE}")
    if kind is Kind.CLUSTER and db:
        raise ValueError("A Redis Cluster has only database 0. Leave the number out.")
    return nodes, service, db


def _node(text: str, at: int, kind: Kind) -> Node:
    """Read HOST[:PORT] or [IPV6][:PORT]; what is wrong may be a password, and is not repeated."""
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        wrong = port[:1] not in ("", ":")
        port = port[1:]
    else:
        host, colon, port = text.partition(":")
        wrong = ":" in port or bool(colon and not port)
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    if port and not 0 < number <= 65_535:
        wrong = True
    if not host or wrong or host.strip() != host:
        which = f"host {at} of the Redis URL" if at > 1 else "the host of the Redis URL"
        raise ValueError(
            f"{which[0].upper()}{which[1:]} is no HOST:PORT. Write for example redis-1:6379, or "
            f"[::1]:6379. {_ENCODE}"
        )
    return host, number or _PORTS[kind.value]


def _socket(place: str, options: dict[str, str]) -> tuple[str, int]:
    path = unquote(place)
    if not path.startswith("/"):
        raise ValueError("A socket needs its whole path. Write unix:///run/redis/redis.sock.")
    return path, _database(options.pop("db", "0"))


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text[:9]) > MAX_DB:
        raise ValueError("The Redis URL's database is no number. Write for example /0 at its end.")
    return int(text)


def _login(credentials: str) -> Login:
    user, _, password = credentials.partition(":")
    return Login(unquote(user) or None, unquote(password) or None)


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        if not equals or not value or name in options:
            raise ValueError(
                "What stands behind the ? of the Redis URL is not NAME=VALUE, each once, joined "
                "by &. Write for example ?ca=/etc/redis/ca.pem&server_name=redis."
            )
        options[name] = unquote(value)
    return options


def _tls(options: dict[str, str]) -> Tls:
    tls = Tls(*(options.pop(name, "") for name in _TLS_OPTIONS))
    if tls.key and not tls.cert:
        raise ValueError("The Redis URL has a key= without a cert=. Name both files.")
    return tls


def _reads(options: dict[str, str], kind: Kind) -> bool:
    if kind is Kind.ONE or "read" not in options:
        return False
    if options.pop("read") != "replicas":
        raise ValueError("The Redis URL's read= can only be read=replicas.")
    return True


def _unknown(name: str, base: str, kind: Kind) -> str:
    if name in _TLS_OPTIONS:
        return f"The Redis URL's option {name}= needs TLS. Write rediss… instead of redis…."
    known: tuple[str, ...] = _TLS_OPTIONS if base == "rediss" else ()
    if base == "unix":
        known += ("db",)
    if kind is Kind.SENTINEL:
        known += ("sentinel_user", "sentinel_password")
    if kind is not Kind.ONE:
        known += ("read",)
    may = f"It may be {', '.join(known)}." if known else "This kind of URL takes none."
    return f"The Redis URL has an option that is not known here. {may}"


def _written(node: Node) -> str:
    host, port = node
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
