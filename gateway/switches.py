"""Switches at work: one pass over the tables decides all of them. Pure: no I/O, no clock.

The targeting rows of all switches are the ranks of one set of tables (program.py), so that after
the ANDs each switch looks at its own run of bits: its first row that accepts the client decides.
Every answer is ready-made bytes: in OFREP's notation, and as a member of a check's answer.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from msgpack import packb

from gateway import layout
from gateway.errors import FormatError
from gateway.hashing import PERCENT_BUCKETS, percent_place
from gateway.program import Tables
from gateway.remembered import Memory, Remembered

STATIC, MATCH, SPLIT, DISABLED = "STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED"
OTHERWISE = "UNKNOWN"
"""The default of a switch with targeting: OFREP has no word for it, and STATIC may be kept."""

_CERTAIN, _DEGRADED = b'"metadata":{}}', b'"metadata":{"degraded":true}}'


class FlagAnswer:
    """What a client gets of one switch, in each notation; `degraded` when Redis would know better.

    `ofrep` is the success of a single evaluation and of a bulk one's item; `json` and `msgpack`
    are the key and value of a check's member `switches`.
    """

    __slots__ = ("degraded", "json", "msgpack", "ofrep", "variant")

    def __init__(self, variant: str, ofrep: bytes, json: bytes, msgpack: bytes) -> None:
        self.variant = variant
        self.ofrep = ofrep
        self.json = json
        self.msgpack = msgpack
        self.degraded = False


def _rendered(key: str, variant: layout.VariantEntry, reason: str) -> FlagAnswer:
    value, name = variant["value"], orjson.dumps(variant["name"])
    shown = orjson.dumps(key)
    return FlagAnswer(
        variant["name"],
        b'{"key":%b,"value":%b,"reason":"%b","variant":%b,%b'
        % (shown, value, reason.encode(), name, _CERTAIN),
        b'%b:{"variant":%b,"value":%b}' % (shown, name, value),
        packb(key) + packb({"variant": variant["name"], "value": orjson.loads(value)}),
    )


def _doubtful(answer: FlagAnswer, key: str) -> FlagAnswer:
    """Say of an answer that it could not be decided."""
    head = len(packb(key))
    # A map of two members becomes one of three.
    packed = answer.msgpack[:head] + b"\x83" + answer.msgpack[head + 1 :]
    found = FlagAnswer(
        answer.variant,
        answer.ofrep.removesuffix(_CERTAIN) + _DEGRADED,
        answer.json[:-1] + b',"degraded":true}',
        packed + packb("degraded") + b"\xc3",
    )
    found.degraded = True
    return found


class Flag:
    """One switch: its run of the ranks, and the answer of each of its rows."""

    __slots__ = ("_by_user", "_default", "_first", "_mask", "_rows", "_splits", "key")

    def __init__(self, data: layout.SwitchEntry, first: int, memory: Memory) -> None:
        """`first` is the rank of its first row. Raises FormatError on a bad split."""
        self.key = key = data["key"]
        rows, variants = data["targeting"], data["variants"]
        reason = (OTHERWISE if rows else STATIC) if data["enabled"] else DISABLED
        self._default = _rendered(key, variants[data["default"]], reason)
        self._first = first
        self._mask = layout.all_bits(len(rows)) << first
        self._by_user = [row["by_user"] for row in rows]
        # Of each row either its answer, or a table from a subject's bucket to its answer.
        self._rows = [
            None if row["variant"] is None else _rendered(key, variants[row["variant"]], MATCH)
            for row in rows
        ]
        splits = [_rendered(key, variant, SPLIT) for variant in variants]
        self._splits = [
            None if row["split"] is None else _split_table(row["split"], splits, memory)
            for row in rows
        ]

    def answer(self, bits: int, least: int, most: int, context: tuple[Any, ...]) -> FlagAnswer:
        """Give the answer for a client whom the ranks in `bits` accept.

        `least` are those that accept it whatever Redis did not tell, `most` those that may.
        """
        found = self._chosen(bits, context)
        if most != least:
            sure, likely = least & self._mask, most & self._mask
            if sure & -sure != likely & -likely:
                return _doubtful(found, self.key)
        return found

    def _chosen(self, bits: int, context: tuple[Any, ...]) -> FlagAnswer:
        mine = bits & self._mask
        if not mine:
            return self._default
        row = (mine & -mine).bit_length() - 1 - self._first
        answer = self._rows[row]
        if answer is not None:
            return answer
        split = self._splits[row]
        assert split is not None
        found: FlagAnswer = split[context[2 if self._by_user[row] else 1]]
        return found


def _split_table(split: layout.Split, answers: list[FlagAnswer], memory: Memory) -> Remembered:
    key, bounds, variants = split["key"], split["bounds"], split["variants"]
    if bounds != sorted(set(bounds)) or bounds[-1:] != [PERCENT_BUCKETS]:
        raise FormatError("the bounds of a split do not rise to the last place")
    if len(bounds) != len(variants):
        raise FormatError("a split has more bounds than variants, or fewer")

    def chosen(bucket: int) -> FlagAnswer:
        place = percent_place(bucket, key)
        return next(
            answers[variant]
            for bound, variant in zip(bounds, variants, strict=True)
            if place < bound
        )

    return Remembered(chosen, memory)


class Switches(Tables):
    """All switches of an epoch; `mask` is of the lists that some row asks about."""

    __slots__ = ("_anonymous", "_without_user", "by_key", "flags", "mask")

    def __init__(self, data: layout.Switches, bits: Mapping[str, int], memory: Memory) -> None:
        """Build the tables; `bits` gives every list's bit. Raises FormatError on bad data."""
        rows = [row for entry in data["switches"] for row in entry["targeting"]]
        super().__init__(data, len(rows), bits, memory)
        self.mask = sum(1 << bits[name] for name in self.lists)
        self.flags: list[Flag] = []
        first = 0
        try:
            for entry in data["switches"]:
                self.flags.append(Flag(entry, first, memory))
                first += len(entry["targeting"])
        except (IndexError, orjson.JSONDecodeError):
            raise FormatError("a switch names a variant that is not there, or no JSON") from None
        self.by_key = {flag.key: flag for flag in self.flags}
        # A split needs a subject as a percentage does.
        everyone = layout.all_bits(len(rows))
        counting = [row["split"] is not None for row in rows]
        self._anonymous = everyone & ~sum(
            1 << rank for rank, counts in enumerate(counting) if counts
        )
        self._without_user = everyone & ~sum(
            1 << rank for rank, counts in enumerate(counting) if counts and rows[rank]["by_user"]
        )

    def decide(
        self,
        sent: dict[str, Any],
        custom: dict[str, Any],
        context: tuple[Any, ...],
        second: int,
        told: int,
    ) -> tuple[int, int, int]:
        """Give the ranks that accept a client, that do whatever Redis did not tell, and that may.

        The arguments are as in Tables.winner; `told` are those of the lists that surely have the
        client of which Redis has told now.
        """
        masks, bucket, user_bucket = context[0], context[1], context[2]
        bits = least = most = self.accepting(sent, custom, context, second)
        surely, possibly = masks
        if surely != possibly:
            turned = ((possibly, told), bucket, user_bucket)
            most = self.accepting(sent, custom, turned, second)
            if told != surely:
                firm = ((told, possibly), bucket, user_bucket)
                least = self.accepting(sent, custom, firm, second)
        counted = -1
        if bucket is None:
            counted &= self._anonymous
        if user_bucket is None:
            counted &= self._without_user
        return bits & counted, least & counted, most & counted

    def members(
        self, decided: tuple[int, int, int], context: tuple[Any, ...], msgpack: bool
    ) -> list[bytes]:
        """Write every switch's key and value, as a check's answer has them."""
        bits, least, most = decided
        found: list[bytes] = []
        for flag in self.flags:
            answer = flag.answer(bits, least, most, context)
            found.append(answer.msgpack if msgpack else answer.json)
        return found


def open_switches(blob: layout.Blob, bits: Mapping[str, int], memory: Memory) -> Switches:
    """Open an epoch's switches. Raises FormatError."""
    data: layout.Switches = layout.decode(layout.Switches, blob)
    return Switches(data, bits, memory)
