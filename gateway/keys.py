"""The names of everything that a workspace keeps in Redis.

No two keys share a hash tag, so that a Cluster spreads the blobs and buckets; no command and no
script names more than one of them. Only the windows of one app share one, {window:<app>}, because
one script looks at them together.

    tg:W:live              the pointer to the live epoch (layout.encode_pointer)
    tg:W:blob:<hex>        a blob, by its SHA-256
    tg:W:bucket:<hex>      a bucket of ids, by its 16-byte digest
    tg:W:gateways          sorted set of gateway names, scored by when they were last heard (s)
    tg:W:gateway:<name>    what a gateway says of itself, as JSON, expiring
    tg:W:notice            the channel on which a moved pointer is announced

    tg:W:{window:<app>}:<release>                      the record of a window (seating.py), a hash
    tg:W:{window:<app>}:<release>:<sets>.<shard>       a set of its seats, signed 64-bit numbers
"""


class Keys:
    """The keys of one workspace."""

    def __init__(self, workspace: str) -> None:
        self._prefix = f"tg:{workspace}:"
        self.live = self._prefix + "live"
        self.gateways = self._prefix + "gateways"
        self.notice = self._prefix + "notice"

    def blob(self, digest: bytes) -> str:
        """Name the key of a blob."""
        return f"{self._prefix}blob:{digest.hex()}"

    def bucket(self, digest: bytes) -> str:
        """Name the key of a bucket."""
        return f"{self._prefix}bucket:{digest.hex()}"

    def gateway(self, name: str) -> str:
        """Name the key under which a gateway announces itself."""
        return f"{self._prefix}gateway:{name}"

    def window(self, app: str, release: str) -> str:
        """Name the record of a window."""
        return f"{self._prefix}{{window:{app}}}:{release}"

    def seats(self, app: str, release: str, sets: int, shard: int) -> str:
        """Name one of the sets over which a window's seats are spread."""
        return f"{self.window(app, release)}:{sets}.{shard}"

    @property
    def windows(self) -> str:
        """The SCAN pattern of all records of windows, and of all sets of seats."""
        return f"{self._prefix}{{window:*"

    def window_of(self, key: str) -> tuple[str, str]:
        """Read app and release back out of a window's key."""
        app, _, rest = key.removeprefix(f"{self._prefix}{{window:").partition("}:")
        return app, rest.partition(":")[0]

    def every(self, kind: str) -> str:
        """Give the SCAN pattern of all keys of a kind: `blob` or `bucket`."""
        return f"{self._prefix}{kind}:*"

    def digest(self, key: str) -> bytes:
        """Read the digest back out of a blob's or bucket's key."""
        return bytes.fromhex(key.rpartition(":")[2])
