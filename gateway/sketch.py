r"""A HyperLogLog of subjects, written as Redis's own, so that Redis merges and counts it. Pure.

Flajolet, Fusy, Gandouet, Meunier 2007, as Redis has it (hyperloglog.c): a subject's 64-bit hash
chooses one of 16,384 registers by its low 14 bits; the register keeps the largest rank seen, one
more than the number of low zeros in the other 50 bits. The standard error is 0.81 %. The subjects
are hashed as in a check, not as PFADD does: a key must be filled in one of both ways alone.

What Redis reads begins with 16 bytes: HYLL, the encoding, three zeros, and a cached count of 8
bytes, whose very last bit says that there is none. Then come the registers, of 6 bits each:

    dense (0)    all of them, 12,288 bytes: register 0 in the low 6 bits of the first byte, and
                 so on towards the high bits, over the bytes' borders
    sparse (1)   in order, as 00zzzzzz: z+1 zeros; 01zzzzzz zzzzzzzz: z+1 zeros; 1vvvvvrr: r+1
                 registers of rank v+1
"""

from binascii import a2b_base64

REGISTERS = 16_384
FEW = 128
"""Subjects kept as they are, and written sparsely; from there on, registers take less room."""

_INDEX_BITS = 14
_INDEX = REGISTERS - 1
_END = 1 << 50  # behind the 50 bits that are ranked
_SPARSE_RANK = 32
_SHORT_ZEROS = 64
_NOT_COUNTED = b"\0\0\0" + b"\0\0\0\0\0\0\0\x80"
_DENSE = b"HYLL\0" + _NOT_COUNTED
_SPARSE = b"HYLL\1" + _NOT_COUNTED
_SIX_BITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".ljust(256, b"A")


class Sketch:
    """Who was seen; `changed` is set by whoever adds something new, and taken back by others."""

    __slots__ = ("_few", "_registers", "changed")

    def __init__(self) -> None:
        self.changed = False
        self._few: set[int] | None = set()
        self._registers = bytearray()

    def add(self, subject: int) -> None:
        """Add a subject by its 64-bit hash."""
        self.add_ranked(subject, rank_of(subject))

    def add_ranked(self, subject: int, rank: int) -> None:
        """Add a subject whose `rank_of` is known, as of one that goes into many sketches."""
        few = self._few
        if few is not None:
            if subject not in few:
                few.add(subject)
                self.changed = True
                if len(few) > FEW:
                    self._grow(few)
            return
        register = subject & _INDEX
        if rank > self._registers[register]:
            self._registers[register] = rank
            self.changed = True

    def _grow(self, few: set[int]) -> None:
        self._registers = _filled(_ranks(few))
        self._few = None

    def redis(self) -> bytes:
        """Write it as the value of a HyperLogLog's key."""
        if self._few is None:
            return _dense(self._registers)
        ranks = _ranks(self._few)
        if max(ranks.values(), default=0) > _SPARSE_RANK:
            return _dense(_filled(ranks))
        return _sparse(ranks)


def rank_of(subject: int) -> int:
    """Give one more than the number of low zeros behind the bits that choose the register."""
    rest = subject >> _INDEX_BITS | _END
    rank = 1
    while not rest & 1:  # once, on average
        rest >>= 1
        rank += 1
    return rank


def _ranks(subjects: set[int]) -> dict[int, int]:
    """Give the registers that are not 0, with their ranks."""
    found: dict[int, int] = {}
    for each in subjects:
        at = each & _INDEX
        found[at] = max(found.get(at, 0), rank_of(each))
    return found


def _filled(ranks: dict[int, int]) -> bytearray:
    found = bytearray(REGISTERS)
    for at, rank in ranks.items():
        found[at] = rank
    return found


def _dense(registers: bytearray) -> bytes:
    # Base64 packs four times six bits into three bytes, too, but the first is the highest there:
    # backwards, and then backwards again, it is as here. That takes 0.1 ms; a loop takes 2.
    return _DENSE + a2b_base64(registers[::-1].translate(_SIX_BITS))[::-1]


def _sparse(ranks: dict[int, int]) -> bytes:
    found = bytearray(_SPARSE)
    begin = 0
    for at in (*sorted(ranks), REGISTERS):
        zeros = at - begin
        if zeros > _SHORT_ZEROS:
            found += bytes((0x40 | zeros - 1 >> 8, zeros - 1 & 0xFF))
        elif zeros:
            found.append(zeros - 1)
        if at < REGISTERS:
            found.append(0x80 | ranks[at] - 1 << 2)
        begin = at + 1
    return bytes(found)
