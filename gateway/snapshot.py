"""One epoch, ready to answer: immutable but for what its tables remember. Pure: no I/O, no clock.

A check takes three steps, of which the shell does the middle one (after `identify`, where the
workspace has an identity provider):

    hashes = snapshot.probes(check)                  which ids must be looked up (mostly none)
    members = {hash: mask or None, …}                from Redis; where it does not answer, None, or
                                                     the complement of the mask that was last known
    body, outcomes = snapshot.answer(check, members, second, msgpack=False)

Where a time window may seat the client, the body is empty, and two steps more are taken:

    asks = snapshot.asks(check, members, second)     which windows must be asked, by app
    seats = {app: rank, …}                           from Redis: where the client has a seat now
    body, outcomes = snapshot.answer(check, members, second, msgpack=False, seats)
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgpack import packb
from xxhash import xxh3_64_intdigest, xxh3_128_hexdigest

from gateway import layout
from gateway.amendments import read_amendments
from gateway.answer import INVALID, UNKNOWN, UNSAID, Outcome, accepted, refusal
from gateway.apps import Apps, Entry
from gateway.cdn import Cdn
from gateway.check import Check
from gateway.errors import FormatError
from gateway.hashing import PERCENT_BUCKETS, id_seed, scaled
from gateway.identity import Identity
from gateway.membership import ExpressionLists, MembershipTable
from gateway.program import Program, is_sent
from gateway.remembered import Memory, Remembered
from gateway.seating import NOBODY, Ask, Place
from gateway.switches import Switches, open_switches

SPREAD = 0.2
"""`check_after` is spread by this share to both sides, so that phones don't come in waves."""

CHECK_AFTER_SECONDS = 86_400
_APP_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_KINDS = ("user", "device")
_SUBJECT = "subject"
NO_LISTS = (0, 0)
_END = b"]}"
_ASK_FIRST = b""
_LOW = 0xFFFF_FFFF

Recall = Callable[[int, Ask], int | None]
"""Gives, of an epoch's number and an ask, the rank of the seat, or NOBODY; None: Redis must say."""


class Snapshot:
    """Everything that a gateway serves from one epoch."""

    def __init__(
        self,
        digest: bytes,
        epoch: layout.Epoch,
        contents: layout.Contents,
        blob: Callable[[bytes], layout.Blob],
        previous: "Snapshot | None",
        url_secret: str | None,
    ) -> None:
        """Build beside what is served now; see `build`."""
        self.digest = digest
        self.epoch = epoch
        self.number = epoch["number"]
        self.contents = contents
        self.settings: layout.Settings = layout.decode(layout.Settings, blob(contents["settings"]))
        workspace = self.settings["workspace"]
        if workspace != epoch["workspace"]:
            raise FormatError(f"epoch {self.number} is of another workspace, {workspace!r}")
        self._seeds = tuple(id_seed(workspace, kind) for kind in _KINDS)
        self._placeholders = frozenset(self.settings["placeholders"])
        self.bits = {name: at for at, name in enumerate(sorted(self.settings["lists"]))}
        expressions = ExpressionLists(self.settings["lists"], self.bits)
        self._expressions = expressions or None
        self._table = _membership_table(contents["membership"], blob, self.bits)
        self._amended = read_amendments(contents["amended"], self.bits)
        # By kind of id: all lists of exact ids, whose members can only be found in the buckets.
        self._exact = [
            sum(
                1 << self.bits[name]
                for name, entry in self.settings["lists"].items()
                if entry["of"] == kind and not entry["regex"]
            )
            for kind in (*_KINDS, _SUBJECT)
        ]
        self.memory: Memory = previous.memory if previous is not None else Memory()
        rules = self.settings["cdn"]
        if previous is not None and previous.cdn.rules == rules:
            self.cdn: Cdn = previous.cdn
        else:
            self.cdn = Cdn(rules, url_secret, self.memory)
        self._regions: Remembered = self.cdn.regions
        self._signs: bool = self.cdn.signs
        self.identity = _open_identity(self.settings["identity"], previous)
        self.apps: Apps = Apps(
            contents["programs"],
            self.cdn,
            self.bits,
            blob,
            self.memory,
            previous.apps if previous is not None else None,
        )
        self.switches: Switches | None = self._open_switches(blob, previous)
        self._heads = _Heads(self.number, self.settings["check_after"])

    def _open_switches(
        self, blob: Callable[[bytes], layout.Blob], previous: "Snapshot | None"
    ) -> Switches | None:
        """Open the switches, or go on with those of before, and all that they remember."""
        digest = self.contents["switches"]
        if digest is None:
            return None
        if previous is not None and previous.contents["switches"] == digest:
            before = previous.switches
            assert before is not None
            if all(self.bits.get(name) == previous.bits[name] for name in before.lists):
                return before
        return open_switches(blob(digest), self.bits, self.memory)

    def identify(self, check: Check, authorization: bytes | None, second: int) -> str:
        """Let no ids count but those of a token; give one of identity.OUTCOMES.

        Comes before `probes`, where there is an `identity`.
        """
        assert self.identity is not None
        check.user, check.device, outcome = self.identity.who(authorization, second)
        if check.fingerprint:
            ids = packb((check.user, check.device))
            check.fingerprint += xxh3_128_hexdigest(ids)
        return outcome

    def probes(self, check: Check) -> tuple[int, ...]:  # noqa: C901 - one pass, without a call
        """Hash the ids; tell which need their bucket: likely members of what an app asks about."""
        user, device = check.user, check.device
        user_hash = device_hash = None
        if user is not None and user.casefold() not in self._placeholders:
            check.user_hash = user_hash = xxh3_64_intdigest(user.encode(), self._seeds[0])
        if device is not None and device.casefold() not in self._placeholders:
            check.device_hash = device_hash = xxh3_64_intdigest(device.encode(), self._seeds[1])
        table = self._table
        if table is None:
            return ()
        wanted = 0
        apps, known = self.apps, self.apps.known
        for app in check.apps:
            entry = known.get(app) or apps.learn(app)
            if entry is not None:
                wanted |= entry.lists
        if check.switches and self.switches is not None:
            wanted |= self.switches.mask
        of_user, of_device, of_subject = self._exact
        if wanted & of_subject:  # frozen windows
            if device_hash is None:
                of_user |= of_subject
            else:
                of_device |= of_subject
        found: tuple[int, ...] = ()
        if wanted & of_user and user_hash is not None and table.may_hold(user_hash):
            found = (user_hash,)
        if wanted & of_device and device_hash is not None and table.may_hold(device_hash):
            found = (*found, device_hash)
        return found

    def bucket_of(self, hashed: int) -> bytes:
        """Give the digest of the bucket that holds a probed hash."""
        assert self._table is not None
        return self._table.bucket_of(hashed)

    def lists_of(self, hashed: int, bucket: bytes) -> int:
        """Read the mask of lists out of a fetched bucket. Raises FormatError if it is not it."""
        assert self._table is not None
        return self._table.lists_of(hashed, bucket)

    def answer(
        self,
        check: Check,
        members: Mapping[int, int | None],
        second: int,
        msgpack: bool,
        seats: dict[str, int] | None = None,
        recall: Recall | None = None,
    ) -> tuple[bytes, list[Outcome]]:
        """Answer a check after its probes: `members` holds each of them; `second` is Unix time.

        Without `seats` the body is empty when there are windows to ask; see `asks`. With them,
        `second` is the same again. What `recall` knows need not be asked.
        """
        sent, user_hash = check.sent, check.user_hash
        subject = user_hash if check.device_hash is None else check.device_hash
        # As `context` does it; here for every check, so without a call.
        masks = self._masks(check, members) if self.bits else NO_LISTS
        bucket = None if subject is None else scaled(subject, PERCENT_BUCKETS)
        user_bucket = None if user_hash is None else scaled(user_hash, PERCENT_BUCKETS)
        region = sent.get("region")
        place = self._regions[region if is_sent(region) else None]
        if self._signs:
            place = self.cdn.place(place, second)
        accept = sent.get("accept")
        opened = UNSAID if accept is None else accepted(accept)
        apps, known = self.apps, self.apps.known
        context = (masks, bucket, user_bucket)
        parts: list[bytes] = []
        outcomes: list[Outcome] = []
        for app, installed in check.apps.items():
            entry = known.get(app) or apps.learn(app)
            if entry is None or not (installed is None or installed.__class__ is str):
                detail = _fault(app, entry)
                parts.append(refusal(app, detail, packed=msgpack))
                outcomes.append(UNKNOWN if detail is None else INVALID)
                continue
            # An attribute like the others, but each app has its own.
            sent["installed"] = have = installed if is_sent(installed) else None
            rank = entry.program.winner(sent, check.custom, context, second)
            if entry.program.windowed:
                seat = (
                    self._recalled(app, entry.program, check, context, second, recall)
                    if seats is None
                    else seats.get(app, NOBODY)
                )
                if seat is None:
                    return _ASK_FIRST, []
                rank = rank if seat == NOBODY else seat
            key = (rank, place, have, opened)
            answer = entry.answers.known.get(key) or entry.answers.learn(key)
            parts.append(answer.msgpack if msgpack else answer.json)
            outcomes.append(answer.outcome)
        if check.switches:
            body = self._with_switches(check, members, context, second, msgpack, parts)
            return body, outcomes
        if msgpack:
            return self._heads.msgpack(subject, parts), outcomes
        return self._heads.json(subject, parts), outcomes

    def _with_switches(
        self,
        check: Check,
        members: Mapping[int, int | None],
        context: tuple[Any, ...],
        second: int,
        msgpack: bool,
        parts: list[bytes],
    ) -> bytes:
        """Write the response with all switches beside the apps."""
        flags: list[bytes] = []
        switches = self.switches
        if switches is not None:
            told = self.told(check, members, context)
            decided = switches.decide(check.sent, check.custom, context, second, told)
            flags = switches.members(decided, context, msgpack)
        subject = check.user_hash if check.device_hash is None else check.device_hash
        if msgpack:
            body = self._heads.msgpack(subject, parts)
            # One member more: the map's head says four, and the switches' says how many.
            head = b"\x84" + body[1:]
            return b"".join((head, packb("switches"), b"\xde", _u16(len(flags)), *flags))
        body = self._heads.json(subject, parts)
        return b'%b,"switches":{%b}}' % (body[:-1], b",".join(flags))

    def _recalled(
        self,
        app: str,
        program: Program,
        check: Check,
        context: tuple[Any, ...],
        second: int,
        recall: Recall | None,
    ) -> int | None:
        """Give the rank of the seat, or NOBODY, where no window must be asked."""
        ask = _ask(app, program, check, context, second)
        if ask is None:
            return NOBODY
        return None if recall is None else recall(self.number, ask)

    def asks(self, check: Check, members: Mapping[int, int | None], second: int) -> list[Ask]:
        """Name the windows that must be asked for a check, those of an app together."""
        sent = check.sent
        context = self.context(check, members)
        found: list[Ask] = []
        for app, installed in check.apps.items():
            entry = self.apps[app]
            if entry is None or not entry.program.windowed:
                continue
            if not (installed is None or installed.__class__ is str):
                continue
            sent["installed"] = installed if is_sent(installed) else None
            ask = _ask(app, entry.program, check, context, second)
            if ask is not None:
                found.append(ask)
        return found

    def context(self, check: Check, members: Mapping[int, int | None]) -> tuple[Any, ...]:
        """Give what is known of a client besides what it sent; see Tables.winner."""
        user_hash = check.user_hash
        subject = user_hash if check.device_hash is None else check.device_hash
        return (
            self._masks(check, members) if self.bits else NO_LISTS,
            None if subject is None else scaled(subject, PERCENT_BUCKETS),
            None if user_hash is None else scaled(user_hash, PERCENT_BUCKETS),
        )

    def told(
        self, check: Check, members: Mapping[int, int | None], context: tuple[Any, ...]
    ) -> int:
        """Give those of the lists that surely have a client of which Redis has told now."""
        surely: int = context[0][0]
        if not members:
            return surely
        now = {
            hashed: None if mask is None or mask < 0 else mask for hashed, mask in members.items()
        }
        return surely if now == members else self._masks(check, now)[0]

    def _masks(self, check: Check, members: Mapping[int, int | None]) -> tuple[int, int]:
        """Give the lists that surely, and that possibly, have this client."""
        if not members and self._expressions is None and not self._amended:
            return NO_LISTS
        surely = possibly = 0
        ids = (check.user, check.user_hash), (check.device, check.device_hash)
        for kind, (text, hashed) in enumerate(ids):
            if hashed is None or text is None:
                continue
            if self._expressions is not None:
                surely |= self._expressions.mask(_KINDS[kind], text)
            exact = self._exact[kind]
            if kind or check.device_hash is None:
                exact |= self._exact[2]
            known = members.get(hashed, 0)
            if known is None:
                possibly |= exact
            elif known < 0:  # as it was when Redis told of it last
                surely |= ~known & exact
                possibly |= exact
            else:
                # A bucket knows an id by its hash alone: keep to the lists of this kind.
                surely |= known & exact
            if hashed in self._amended:
                on, off = self._amended[hashed]
                surely = surely & ~off | on
                possibly &= ~off
        return surely, surely | possibly


def _ask(
    app: str, program: Program, check: Check, context: tuple[Any, ...], second: int
) -> Ask | None:
    """Name the windows of an app that must be asked for a check, None when there is none."""
    user_hash, device_hash = check.user_hash, check.device_hash
    places = []
    for rank, takes in program.wanted(check.sent, check.custom, context, second):
        hashed = user_hash if program.windows[rank] or device_hash is None else device_hash
        if hashed is not None:
            places.append(Place(program.releases[rank], rank, hashed, takes))
    return Ask(app, tuple(places)) if places else None


def _fault(app: str, entry: Entry | None) -> str | None:
    """Say what is wrong with one app's part of a request; None when there is just no such app."""
    if entry is not None:
        return "the installed version must be a text or null"
    return (
        None if _APP_ID.match(app) else "an app id is 1 to 64 of the characters A-Z a-z 0-9 . _ -"
    )


class _Heads:
    """The envelope around the answers: epoch, and `check_after` spread over the subjects."""

    def __init__(self, epoch: int, check_after: int) -> None:
        if not 0 <= check_after <= CHECK_AFTER_SECONDS:
            raise FormatError(f"a check_after of {check_after} s cannot be")
        self._middle = int(check_after * SPREAD)
        high = min(check_after + self._middle, CHECK_AFTER_SECONDS)
        every = range(check_after - self._middle, high + 1)
        self._values = len(every)
        self._json = [b'{"epoch":%d,"check_after":%d,"apps":[' % (epoch, each) for each in every]
        self._msgpack = [
            b"\x83" + b"".join(map(packb, ("epoch", epoch, "check_after", each, "apps")))
            for each in every
        ]

    def _place(self, subject: int | None) -> int:
        """Choose one of the values by the low half of a subject's hash; the middle without one."""
        if subject is None:
            return self._middle
        hashed = subject
        return (hashed & _LOW) * self._values >> 32

    def json(self, subject: int | None, parts: list[bytes]) -> bytes:
        """Write the response as JSON."""
        if len(parts) == 1:
            return self._json[self._place(subject)] + parts[0] + _END
        return b"".join((self._json[self._place(subject)], b",".join(parts), _END))

    def msgpack(self, subject: int | None, parts: list[bytes]) -> bytes:
        """Write the response as MessagePack."""
        # An array's head: fixarray up to 15, else array 16 (a check has 100 at most).
        head = bytes([0x90 | len(parts)]) if len(parts) < 16 else b"\xdc" + _u16(len(parts))
        return b"".join((self._msgpack[self._place(subject)], head, *parts))


def _u16(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _open_identity(told: layout.Identity | None, previous: Snapshot | None) -> Identity | None:
    """Open the identity provider, or go on with that of before, and the tokens it remembers."""
    if told is None:
        return None
    before = None if previous is None else previous.identity
    return before if before is not None and before.is_told(told) else Identity(told)


def _membership_table(
    membership: layout.Membership | None,
    blob: Callable[[bytes], layout.Blob],
    bits: Mapping[str, int],
) -> MembershipTable | None:
    if membership is None:
        return None
    sets: layout.Sets = layout.decode(layout.Sets, blob(membership["sets"]))
    return MembershipTable(membership, sets, [blob(each) for each in membership["shards"]], bits)


def needed(contents: layout.Contents) -> list[bytes]:
    """Name the blobs that a gateway must have to serve these contents."""
    membership = contents["membership"]
    tables = [] if membership is None else [membership["sets"], *membership["shards"]]
    switches = [] if contents["switches"] is None else [contents["switches"]]
    return [contents["settings"], *contents["programs"].values(), *switches, *tables]


def build(
    digest: bytes,
    epoch: layout.Epoch,
    contents: layout.Contents,
    blob: Callable[[bytes], layout.Blob],
    previous: Snapshot | None,
    url_secret: str | None = None,
) -> Snapshot:
    """Build the snapshot of a verified epoch; `blob` gives the bytes of every needed digest.

    `url_secret` is what the CDN's URLs are signed with; `previous` must have been given the same.

    Raises FormatError when a blob does not hold what it should, KeyError when one is missing.
    """
    return Snapshot(digest, epoch, contents, blob, previous, url_secret)
