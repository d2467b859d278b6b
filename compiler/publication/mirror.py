"""What Redis holds of a workspace, for the commands: the pointer, blobs and buckets.

Every command names one key, in pipelines of bounded size, so that one server and a Cluster are
served by the same code. Every fault of Redis becomes a StoreError that names the host.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

import redis
import redis.sentinel

from gateway.keys import Keys
from gateway.link import RedisFault, SyncLink, redis_failed

T = TypeVar("T")

BATCH_KEYS = 512
BATCH_BYTES = 4 << 20
"""A pipeline holds at most so many commands, and values of about so many bytes."""

REPLICATION_MS = 1_000
"""How long a push waits for a primary's replicas, at most, before and after the pointer moves."""

KEPT_POLICY = "noeviction"

# Compares the pointer byte for byte and never lets its number fall. Saying the same twice is
# success: an answer may be lost on its way, and the client then repeats the command.
_SWAP = """
local live = redis.call('GET', KEYS[1])
if live == ARGV[2] then return live end
if (live or '') ~= ARGV[1] then return live or '' end
if live and tonumber(string.match(live, '^%d+') or '-1') >= tonumber(ARGV[3]) then return live end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
"""


class Mirror:
    """One workspace in Redis. Every method raises StoreError when Redis does not answer."""

    def __init__(self, link: SyncLink, workspace: str) -> None:
        self._link: Any = link  # redis-py's types leave open whether a call is awaited
        self._is_cluster = isinstance(link, redis.RedisCluster)
        self.keys = Keys(workspace)
        self.host = _host(link)

    def pointer(self) -> bytes | None:
        """Read the pointer to the live epoch, None when there is none."""
        with self._asking():
            found: bytes | None = self._link.get(self.keys.live)
            return found

    def swap_pointer(self, old: bytes | None, new: bytes, number: int) -> bytes:
        """Move the pointer if it still is `old` and its number below `number`.

        Give the pointer as it is afterwards: `new` means that it has moved. Where there are
        replicas, what was written before is first on one of each primary, so that no failover
        leaves a pointer to blobs that are lost.
        """
        self._await_replicas()
        with self._asking():
            found = self._link.eval(_SWAP, 1, self.keys.live, old or b"", new, number)
        self._await_replicas()
        return bytes(found)

    def give_notice(self, pointer: bytes) -> None:
        """Tell the gateways of a moved pointer; a hint only, as they poll."""
        with self._asking():
            self._link.publish(self.keys.notice, pointer)

    def absent(self, keys: Iterable[str]) -> Iterator[str]:
        """Give those of the keys that are not there."""
        for batch in batches(keys, BATCH_KEYS):
            found = self.pipeline(("EXISTS", key) for key in batch)
            yield from (key for key, there in zip(batch, found, strict=True) if not there)

    def get_many(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Read keys: each with its value, or None."""
        for batch in batches(keys, BATCH_KEYS // 4):
            found = self.pipeline(("GET", key) for key in batch)
            yield from zip(batch, found, strict=True)

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> tuple[int, int]:
        """Write keys; give how many, and how many bytes their values have."""
        keys = size = 0
        for batch in _sized_batches(items):
            self.pipeline((("SET", key, value) for key, value in batch))
            keys += len(batch)
            size += sum(len(value) for _, value in batch)
        return keys, size

    def delete_many(self, keys: Iterable[str]) -> int:
        """Delete keys; give how many were there."""
        return sum(
            sum(self.pipeline(("UNLINK", key) for key in batch))
            for batch in batches(keys, BATCH_KEYS)
        )

    def names(self, key: str) -> set[str]:
        """Give the members of a set of names."""
        with self._asking():
            return {name.decode("utf-8", "replace") for name in self._link.smembers(key)}

    def numbers(self, keys: Iterable[str]) -> Iterator[tuple[str, dict[str, int]]]:
        """Read hashes of numbers: each key with its numbers by name; what is none is left out."""
        for batch in batches(keys, BATCH_KEYS):
            found = self.pipeline(("HGETALL", key) for key in batch)
            for key, fields in zip(batch, found, strict=True):
                yield (
                    key,
                    {
                        name.decode("utf-8", "replace"): int(number)
                        for name, number in fields.items()
                        if number.isdigit()
                    },
                )

    def distinct(self, keys: Iterable[str]) -> Iterator[tuple[str, int]]:
        """Estimate how many distinct subjects were added to each HyperLogLog, to 1 % or so."""
        for batch in batches(keys, BATCH_KEYS):
            yield from zip(batch, self.pipeline(("PFCOUNT", key) for key in batch), strict=True)

    def together(self, groups: Iterable[Sequence[str]]) -> list[int]:
        """Estimate the distinct subjects of several HyperLogLogs together, group by group.

        The keys of a group lie in one slot; of no keys it is 0.
        """
        asked = [tuple(group) for group in groups]
        found = iter(self.pipeline(("PFCOUNT", *group) for group in asked if group))
        return [int(next(found)) if group else 0 for group in asked]

    def alarms(self) -> dict[str, str]:
        """Give what the controller is alarmed about, by `<app>/<release>`, as JSON."""
        with self._asking():
            found = self._link.hgetall(self.keys.alarm)
        return {name.decode(): text.decode() for name, text in found.items()}

    def is_controlled(self) -> bool:
        """Tell whether a controller holds the lease."""
        with self._asking():
            return self._link.get(self.keys.control) is not None

    def raise_alarm(self, name: str, text: str) -> None:
        """Set an alarm."""
        with self._asking():
            self._link.hset(self.keys.alarm, name, text)

    def end_alarm(self, name: str) -> None:
        """Delete an alarm."""
        with self._asking():
            self._link.hdel(self.keys.alarm, name)

    def every(self, kind: str) -> Iterator[str]:
        """Give all keys of a kind (`blob` or `bucket`), perhaps one twice."""
        return self.scan(self.keys.every(kind))

    def scan(self, pattern: str) -> Iterator[str]:
        """Give all keys that fit a pattern, perhaps one twice."""
        with self._asking():
            for key in self._link.scan_iter(match=pattern, count=1000):
                yield key.decode()

    def script(self, script: str, key: str, *arguments: str | int) -> Any:
        """Run a script on one key, and on others of its hash tag."""
        with self._asking():
            return self._link.eval(script, 1, key, *arguments)

    def now(self) -> int:
        """Ask for Redis's second; of a Cluster's nodes the one that has the pointer's slot."""
        return int(self.script("return redis.call('TIME')[1]", self.keys.live))

    def announced(self, since: float) -> list[tuple[str, bytes]]:
        """Give name and announcement of every gateway whose announcement has not expired.

        `since` (Unix seconds) leaves out names that were last heard before it.
        """
        with self._asking():
            found = self._link.zrangebyscore(self.keys.gateways, since, "+inf")
        names = sorted(name.decode("utf-8", "replace") for name in found)
        said = self.get_many(self.keys.gateway(name) for name in names)
        pairs = zip(names, said, strict=True)
        return [(name, text) for name, (_, text) in pairs if text is not None]

    def forget_gateways(self, before: float) -> None:
        """Drop the names of gateways that were last heard before (Unix seconds)."""
        with self._asking():
            self._link.zremrangebyscore(self.keys.gateways, "-inf", f"({before}")

    def evicting_policies(self) -> list[str]:
        """Give the eviction policies, of any server here, that may delete keys."""
        with self._asking():
            if self._is_cluster:
                told = self._link.info("memory", target_nodes=redis.RedisCluster.PRIMARIES)
                nodes = list(told.values()) if "maxmemory_policy" not in told else [told]
            else:
                nodes = [self._link.info("memory")]
        policies = {str(node.get("maxmemory_policy", KEPT_POLICY)) for node in nodes}
        return sorted(policies - {KEPT_POLICY})

    def _await_replicas(self) -> None:
        """Wait a while until a replica of each primary has all that was written here.

        No promise: one that stays behind holds up no push, as `restore` can mend what is lost.
        """
        with self._asking():
            places: list[dict[str, Any]] = [{}]
            if self._is_cluster:
                places = [{"target_nodes": [node]} for node in self._link.get_primaries()]
            for place in places:
                if self._link.info("replication", **place).get("connected_slaves"):
                    self._link.execute_command("WAIT", 1, REPLICATION_MS, **place)

    def pipeline(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Run commands of one key each; give their answers."""
        with self._asking():
            pipeline = self._link.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute()
            return answers

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except RedisFault as fault:
            raise redis_failed(self.host, fault) from fault


def batches(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a stream into lists of at most `size` items."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def _sized_batches(items: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    batch: list[tuple[str, bytes]] = []
    size = 0
    for key, value in items:
        batch.append((key, value))
        size += len(value)
        if len(batch) >= BATCH_KEYS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _host(link: SyncLink) -> str:
    """Name the server without its password."""
    if isinstance(link, redis.RedisCluster):
        nodes = link.nodes_manager.startup_nodes.values()
        return ",".join(sorted(f"{node.host}:{node.port}" for node in nodes))
    pool = link.connection_pool
    if isinstance(pool, redis.sentinel.SentinelConnectionPool):
        asked = (each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels)
        hosts = ",".join(sorted(f"{each['host']}:{each['port']}" for each in asked))
        return f"{pool.service_name} (Sentinels {hosts})"
    where = pool.connection_kwargs
    if "path" in where:
        return f"unix://{where['path']}"
    return f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"
