"""The least that gateways and operators need of Redis, as rules of its ACL. Pure.

One table says it: a row for each kind of key of keys.py, with the commands that either side sends,
also from inside scripts. To add a kind of key is to add a row. tests/test_rights.py holds it to
what they really do.

Redis 7 tells reading a key from writing it; Redis 6.2 does not. There a gateway that somebody has
broken into could move the pointer; what it names would still have to be signed.
"""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from gateway.redis_url import Kind


class Role(Enum):
    """Who speaks to Redis."""

    GATEWAY = "gateway"
    OPERATOR = "operator"


class Right(NamedTuple):
    """What the roles do with keys (or a channel) whose names, behind tg:W:, fit a pattern."""

    keys: str
    gateway: str
    operator: str
    channel: bool = False

    def of(self, role: Role) -> tuple[str, ...]:
        """Give the commands of a role."""
        return tuple((self.gateway if role is Role.GATEWAY else self.operator).split())


RIGHTS = (
    Right("live", "get", "get eval set time"),
    Right("blob:*", "get strlen", "get set exists unlink"),
    Right("bucket:*", "get mget", "get set exists unlink"),
    Right("gateways", "zadd zrem", "zrangebyscore zremrangebyscore"),
    Right("gateway:*", "set del", "get"),
    Right("notice", "subscribe unsubscribe", "publish", channel=True),
    Right("census:*", "sadd expire eval hincrby", "smembers hgetall"),
    Right("reports", "sadd expire", "smembers"),
    Right("reports:*", "pfadd expire eval hincrby unlink", "hgetall pfcount"),
    Right("{reach:*", "eval set pfmerge expire del", "pfcount"),
    Right("subjects", "eval zadd zcard zrange zrem zscore expire", ""),
    Right("{guard:*", "eval expire expireat pfadd sadd scard sismember", "pfcount"),
    Right("control", "", "eval get set pexpire del"),
    Right("alarm", "", "hgetall hset hdel"),
    Right(
        "{window:*",
        "eval evalsha time hmget sismember smembers sadd hincrby",
        "eval time hmget hset exists sismember sadd smembers scard unlink",
    ),
)

READS = frozenset(
    {
        *("exists", "get", "hgetall", "hmget", "mget", "scard", "sismember", "smembers", "strlen"),
        *("time", "zrangebyscore"),
    }
)
"""Commands that change no key; a script, and PFCOUNT to Redis, may."""

_WITHOUT_KEYS = {
    Role.GATEWAY: ("ping",),
    # SCAN tells the names of all keys, not what they hold.
    Role.OPERATOR: ("info", "scan", "wait"),
}
_OF_KIND = {
    Kind.ONE: ("select",),
    Kind.SENTINEL: ("select",),
    Kind.CLUSTER: ("asking", "cluster|slots", "command", "readonly"),
}
_OF_SENTINEL = ("sentinel|masters", "sentinel|slaves")


def acl_line(role: Role, user: str, workspace: str, kind: Kind, *, reads_apart: bool = True) -> str:
    """Write the command that gives a user these rights, and no other; it sets no password.

    `reads_apart` is for Redis 7 and Valkey, which know keys that may be read only.
    """
    prefix = f"tg:{workspace}:"
    places: list[str] = []
    commands = {*_WITHOUT_KEYS[role], *_OF_KIND[kind]}
    for right in RIGHTS:
        used = right.of(role)
        commands.update(used)
        if not used:
            continue
        if right.channel:
            places += [f"&{prefix}{right.keys}"]
        else:
            only_read = reads_apart and READS.issuperset(used)
            places += [f"{'%R' if only_read else ''}~{prefix}{right.keys}"]
    return _line(user, [*places, *(f"+{each}" for each in sorted(commands))])


def sentinel_acl_line(user: str) -> str:
    """Write the command that lets a user ask a Sentinel who is primary; it sets no password."""
    return _line(user, [f"+{each}" for each in _OF_SENTINEL])


def _line(user: str, rules: list[str]) -> str:
    # `reset` would take away passwords that were set before; these three take what it means here.
    return " ".join(("ACL SETUSER", user, "on resetkeys resetchannels -@all", *_quoted(rules)))


def _quoted(rules: list[str]) -> Iterator[str]:
    for rule in rules:
        yield f'"{rule}"' if set(rule) & set("{}&~%*|") else rule
