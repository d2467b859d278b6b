"""The obvious gateway: rules as JSON in Redis, and a loop over them in each request.

    rules:WORKSPACE:APP    the app's releases, highest precedence first, each with its offer
    list:NAME              an allowlist, as a set

`python -m loadtest.contenders.obvious PORT REDIS WORKSPACE` serves checks with aiohttp on uvloop.

It is written as an able engineer would: orjson, a pool of connections, one round trip for the
rules, conditions evaluated before lists are asked for, and one pipeline of SISMEMBER for the lists
that can still decide. Percentages take Tidegate's hash, so that both must give the same bytes:
the functions above the server are also what all rows of the bench are checked against.
"""

import socket
import sys
import time
from collections.abc import Collection, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import orjson
import uvloop
from aiohttp import web
from redis.asyncio import Redis

from gateway.hashing import id_hash, id_seed, percent_bucket, percent_key, percent_place
from loadtest import plans
from loadtest.phones import Phone

Rule = dict[str, Any]
Hashes = dict[str, int | None]
EPOCH = 1
_STRENGTH = {"force": 0, "prompt": 1, "silent": 2}
_VERSIONS = ("os_version", "client_version")
_SPREAD = plans.CHECK_AFTER // 5
_AT_ONCE = 1_000


def rules_of(app: plans.App) -> list[Rule]:
    """Make an app's rules: its releases by precedence, with all that an answer needs."""
    rows = sorted(
        app["releases"],
        key=lambda row: (
            [-part for part in _version(row["package"])],
            _STRENGTH[row.get("upgrade", "silent")],
            row["id"],
        ),
    )
    return [_rule(app["app"], row) for row in rows]


def _rule(app: str, row: dict[str, Any]) -> Rule:
    audience = row["audience"] if row["audience"] != "everyone" else {}
    starts = row.get("starts")
    record = plans.package()
    offer = {
        "version": row["package"],
        "release": row["id"],
        "upgrade": row.get("upgrade", "silent"),
        "download": "any",
        "install": "on_open",
        "package": {
            "size": record["size"],
            "sha256": record["sha256"],
            "urls": [f"{plans.BASE}/{record['forms'][0]['path']}"],
        },
    }
    return {
        "when": row.get("when", []),
        "lists": audience.get("lists", []),
        "basis_points": round(100 * float(audience["percent"])) if "percent" in audience else None,
        "by": audience.get("by", "device"),
        "key": percent_key(app, row["id"]),
        "starts": datetime.fromisoformat(starts).timestamp() if starts else 0,
        "offer": offer,
    }


def hashes_of(workspace: str, phone: Phone) -> Hashes:
    """Hash a phone's ids."""
    return {
        kind: id_hash(phone[kind], id_seed(workspace, kind)) if kind in phone else None
        for kind in ("user", "device")
    }


def candidates(rules: list[Rule], phone: Phone, hashes: Hashes, now: float) -> list[Rule]:
    """Give the releases that hold but for their lists, down to the first without lists."""
    found = []
    for rule in rules:
        if now < rule["starts"] or not all(_holds(each, phone) for each in rule["when"]):
            continue
        wanted = rule["basis_points"]
        if wanted is not None:
            hashed = hashes[rule["by"]]
            if hashed is None or _place(percent_bucket(hashed), rule["key"]) >= wanted:
                continue
        found.append(rule)
        if not rule["lists"]:
            break
    return found


def answer(
    phone: Phone, hashes: Hashes, found: dict[str, list[Rule]], lists: Collection[str]
) -> bytes:
    """Answer a phone that is on these lists, from each app's candidates."""
    parts = []
    for app, installed in phone["apps"].items():
        rule = next((r for r in found[app] if _reaches(r, lists)), None)
        if rule is None:
            parts.append({"app": app, "status": "none"})
        elif _version(installed) < _version(rule["offer"]["version"]):
            parts.append({"app": app, "status": "update"} | rule["offer"])
        else:
            parts.append({"app": app, "status": "latest"})
    subject = hashes["device"] if hashes["device"] is not None else hashes["user"]
    spread = ((subject or 0) & 0xFFFF_FFFF) * (2 * _SPREAD + 1) >> 32
    after = plans.CHECK_AFTER - _SPREAD + spread
    return orjson.dumps({"epoch": EPOCH, "check_after": after, "apps": parts})


def _reaches(rule: Rule, lists: Collection[str]) -> bool:
    return not rule["lists"] or any(each in lists for each in rule["lists"])


@lru_cache(maxsize=1 << 16)
def _place(bucket: int, key: int) -> int:
    return percent_place(bucket, key)


def _version(text: str) -> list[int]:
    return [int(part) for part in text.split(".")]


def _holds(condition: dict[str, Any], phone: Phone) -> bool:
    name = condition["attribute"]
    sent = phone["custom"].get(name[7:]) if name.startswith("custom.") else phone.get(name)
    if sent is None:
        return False
    if name in _VERSIONS:
        return _in_range(condition, _version(sent))
    text = sent.casefold()
    if "in" in condition:
        return any(text == each.casefold() for each in condition["in"])
    if "not_in" in condition:
        return all(text != each.casefold() for each in condition["not_in"])
    return any(fnmatchcase(text, each.casefold()) for each in condition["matches"])


def _in_range(condition: dict[str, Any], version: list[int]) -> bool:
    if "at_least" in condition:
        return version >= _version(condition["at_least"])
    low, high = condition["between"]
    return _version(low) <= version <= _version(high)


class Server:
    """The handler and its Redis."""

    def __init__(self, url: str, workspace: str) -> None:
        self._redis = Redis.from_url(url)
        self._workspace = workspace

    async def check(self, request: web.Request) -> web.Response:
        """Answer one check, after one round trip, or two when lists decide."""
        phone = orjson.loads(await request.read())
        apps = list(phone["apps"])
        rules: list[Any] = await self._redis.mget([rules_key(self._workspace, app) for app in apps])
        hashes = hashes_of(self._workspace, phone)
        now = time.time()
        found = {
            app: candidates(orjson.loads(each), phone, hashes, now)
            for app, each in zip(apps, rules, strict=True)
        }
        names = [name for each in found.values() for rule in each for name in rule["lists"]]
        lists = await self._lists(phone["user"], names) if names else ()
        body = answer(phone, hashes, found, lists)
        fields = {"Cache-Control": "no-store"}
        return web.Response(body=body, content_type="application/json", headers=fields)

    async def _lists(self, user: str, names: Sequence[str]) -> set[str]:
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.sismember(f"list:{name}", user)
        on = await pipeline.execute()
        return {name for name, is_on in zip(names, on, strict=True) if is_on}


def rules_key(workspace: str, app: str) -> str:
    """Name an app's rules in Redis."""
    return f"rules:{workspace}:{app}"


def publish(port: int, workspace: str, apps: Sequence[plans.App], ids: int) -> None:
    """Write the apps' rules, and the lists of so many ids, to the Redis on this port."""
    commands = 0
    with socket.create_connection(("127.0.0.1", port), timeout=60) as redis:
        for app in apps:
            key = rules_key(workspace, app["app"]).encode()
            redis.sendall(_command(b"SET", key, orjson.dumps(rules_of(app))))
            commands += 1
        for number, name in enumerate(plans.list_names() if ids else ()):
            members = [each.encode() for each in plans.members_of(number, ids)]
            for at in range(0, len(members), _AT_ONCE):
                key = f"list:{name}".encode()
                redis.sendall(_command(b"SADD", key, *members[at : at + _AT_ONCE]))
                commands += 1
        while commands > 0:  # each is answered by one line
            commands -= redis.recv(1 << 16).count(b"\n")


def _command(*words: bytes) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def main() -> None:
    """Serve until ended."""
    server = Server(sys.argv[2], sys.argv[3])
    app = web.Application()
    app.router.add_post("/v1/check", server.check)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
