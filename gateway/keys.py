"""The names of everything that a workspace keeps in Redis.

No two keys share a hash tag, so that a Cluster spreads the blobs and buckets; no command and no
script names more than one of them.

    tg:W:live              the pointer to the live epoch (layout.encode_pointer)
    tg:W:blob:<hex>        a blob, by its SHA-256
    tg:W:bucket:<hex>      a bucket of ids, by its 16-byte digest
    tg:W:gateways          sorted set of gateway names, scored by when they were last heard (s)
    tg:W:gateway:<name>    what a gateway says of itself, as JSON, expiring
    tg:W:notice            the channel on which a moved pointer is announced

Who may do what with them stands in rights.py: a new kind of key is a row there, too.
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

    def every(self, kind: str) -> str:
        """Give the SCAN pattern of all keys of a kind: `blob` or `bucket`."""
        return f"{self._prefix}{kind}:*"

    def digest(self, key: str) -> bytes:
        """Read the digest back out of a blob's or bucket's key."""
        return bytes.fromhex(key.rpartition(":")[2])
