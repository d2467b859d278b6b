"""The names of everything that a workspace keeps in Redis.

Where nothing else is said, no two keys share a hash tag, so that a Cluster spreads the blobs and
buckets, and no command and no script names more than one of them. For two a script does: it looks
at all windows of an app together, under {window:<app>}; and it merges what a gateway knows of the
reach of its releases, from a key that it makes and deletes, under {reach:<app>}.

    tg:W:live              the pointer to the live epoch (encode_pointer)
    tg:W:blob:<hex>        a blob, by its SHA-256
    tg:W:bucket:<hex>      a bucket of ids, by its 16-byte digest
    tg:W:gateways          sorted set of gateway names, scored by when they were last heard (s)
    tg:W:gateway:<name>    what a gateway says of itself, as JSON, expiring
    tg:W:notice            the channel on which a moved pointer is announced
    tg:W:control           the lease of the active controller: its holder's random name
    tg:W:alarm             hash of <app>/<release> to what is wrong with it, as JSON

Sums that all gateways add to (sums.py); a day is written as 20261122, in UTC:

    tg:W:census:<day>                        set of the apps that were asked about
    tg:W:census:<day>:<app>                  hash of installed version, `none` or `other`, to checks
    tg:W:reports                             set of the apps that were reported on
    tg:W:reports:<app>                       hash of <release>:<event> to reports
    tg:W:reports:<app>:<release>:<event>     HyperLogLog of hashed subjects
    tg:W:{reach:<app>}:<release>             HyperLogLog (sketch.py) of whom it was offered to
    tg:W:{reach:<app>}:<release>:new         what is being merged into it
    tg:W:subjects                            sorted set of the keys of these HyperLogLogs, scored by
                                             when they were last added to (Unix seconds)

They are forgotten CENSUS_DAYS, REPORTS_DAYS and REACH_DAYS after they were added to last.

    tg:W:{window:<app>}:<release>                      the record of a window (seating.py), a hash
    tg:W:{window:<app>}:<release>:<sets>.<shard>       a set of its seats, signed 64-bit numbers

    tg:W:{guard:<app>:<release>}:<event>:<minute>    HyperLogLog of hashed subjects, for a day

    tg:W:{guard:<app>:<release>}:offered:<day>.<shard>    set of signed hashed subjects, for 2 days

are kept of a release with a guardrail: those that reported the event, `installed` or `failed`, in a
minute since 1970, and those whom it was offered to on a day since 1970 (guarding.py). They share a
hash tag, as the minutes of a period are counted together, and only of those.

Who may do what with them stands in rights.py: a new kind of key is a row there, too.
"""

CENSUS_DAYS = 8
REPORTS_DAYS = 90
REACH_DAYS = 90
GUARD_SECONDS = 86_400


class Keys:
    """The keys of one workspace."""

    def __init__(self, workspace: str) -> None:
        self._prefix = f"tg:{workspace}:"
        self.live = self._prefix + "live"
        self.gateways = self._prefix + "gateways"
        self.notice = self._prefix + "notice"
        self.reports = self._prefix + "reports"
        self.subjects = self._prefix + "subjects"
        self.control = self._prefix + "control"
        self.alarm = self._prefix + "alarm"

    def blob(self, digest: bytes) -> str:
        """Name the key of a blob."""
        return f"{self._prefix}blob:{digest.hex()}"

    def bucket(self, digest: bytes) -> str:
        """Name the key of a bucket."""
        return f"{self._prefix}bucket:{digest.hex()}"

    def gateway(self, name: str) -> str:
        """Name the key under which a gateway announces itself."""
        return f"{self._prefix}gateway:{name}"

    def census(self, day: str) -> str:
        """Name the key of the apps that were asked about on a day."""
        return f"{self._prefix}census:{day}"

    def census_of(self, day: str, app: str) -> str:
        """Name the key of a day's checks of an app by installed version."""
        return f"{self._prefix}census:{day}:{app}"

    def reports_of(self, app: str) -> str:
        """Name the key of the number of reports on an app by release and event."""
        return f"{self.reports}:{app}"

    def subjects_of(self, app: str, release: str, event: str) -> str:
        """Name the key of the distinct subjects of an event."""
        return f"{self.reports}:{app}:{release}:{event}"

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

    def reach_of(self, app: str, release: str) -> str:
        """Name the key of the distinct subjects whom a release was offered to."""
        return f"{self._prefix}{{reach:{app}}}:{release}"

    def guard(self, app: str, release: str, event: str, minute: int) -> str:
        """Name the key of a minute's distinct subjects of an event, under a guardrail."""
        return f"{self._prefix}{{guard:{app}:{release}}}:{event}:{minute}"

    def offered(self, app: str, release: str, day: int) -> str:
        """Name the sets of a day's subjects whom a guarded release was offered to: `.<shard>`."""
        return f"{self._prefix}{{guard:{app}:{release}}}:offered:{day}"

    def every(self, kind: str) -> str:
        """Give the SCAN pattern of all keys of a kind: `blob` or `bucket`."""
        return f"{self._prefix}{kind}:*"

    def digest(self, key: str) -> bytes:
        """Read the digest back out of a blob's or bucket's key."""
        return bytes.fromhex(key.rpartition(":")[2])
