"""A live epoch that this version cannot read: refused in one sentence; a forced push goes on."""

import pytest

from compiler.publication.audit import Expected, verify_history
from compiler.publication.collection import YOUNG_SECONDS, collect
from compiler.publication.history import End, find_epoch, read_history
from compiler.publication.live import UnreadableError
from compiler.refusal import Refused
from gateway import layout
from gateway.pointer import encode_pointer
from publishing import WORKSPACE, Workshop, assert_served, image_of, plan_files

ONE, TWO = (image_of(plan_files(versions)) for versions in (["1"], ["1", "2"]))
NUMBER = 7
OLD = b"TGD1E\x01\0\0" + bytes(8) + b"an epoch of format 1"
DAMAGED = layout.encode(layout.Signed, {"epoch": b"", "key": b"", "signature": b""})[:-1]


def make_live(workshop: Workshop, blob: bytes, *, in_redis: bool = True) -> bytes:
    """Let an E blob be the live epoch; give its digest."""
    digest = layout.digest_of(blob)
    pointer = encode_pointer(NUMBER, digest)
    workshop.store.put_blobs([(digest, blob)])
    workshop.store.put_named("live", pointer)
    if in_redis:
        workshop.mirror.swap_pointer(None, pointer, NUMBER)
    return digest


@pytest.mark.parametrize(
    ("blob", "why"), [(OLD, "it is in data format 1, and this Tidegate reads 2"), (DAMAGED, "")]
)
def test_only_force_goes_over_it(workshop: Workshop, blob: bytes, why: str) -> None:
    """Without it the push is refused and says what to do; nothing has changed."""
    make_live(workshop, blob)
    for base in (None, NUMBER):
        with pytest.raises(UnreadableError, match=rf"{why}.*push the plan with --force"):
            workshop.push(ONE, force=False, base=base)
    assert workshop.mirror.pointer() == workshop.store.get_named("live")
    assert workshop.push(ONE).number == NUMBER + 1


@pytest.mark.parametrize("in_redis", [True, False])
def test_the_numbers_and_the_chain_go_on(workshop: Workshop, in_redis: bool) -> None:
    """The new epoch follows the old one by number and digest, also when Redis was emptied."""
    old = make_live(workshop, OLD, in_redis=in_redis)
    pushed = workshop.push(ONE)
    assert pushed.number == NUMBER + 1
    assert workshop.live().epoch["previous"] == old
    assert assert_served(workshop.link) == NUMBER + 1
    assert workshop.push(TWO, force=False, base=NUMBER + 1).number == NUMBER + 2


def test_the_history_says_where_it_ends(workshop: Workshop) -> None:
    """Listed, searched and verified, the chain ends in a sentence and not in a fault."""
    make_live(workshop, OLD)
    pushed = workshop.push(ONE)
    found = read_history(workshop.store, pushed.digest)
    assert [each.number for each in found.entries] == [NUMBER + 1]
    assert found.end is End.OTHER_FORMAT
    verified = verify_history(workshop.store, pushed.digest, Expected(WORKSPACE))
    assert (verified.epochs, verified.end, verified.fault) == (1, End.OTHER_FORMAT, None)
    with pytest.raises(Refused, match="data format that this Tidegate does not read"):
        find_epoch(workshop.store, pushed.digest, NUMBER)


def test_a_damaged_epoch_below_is_a_break(workshop: Workshop) -> None:
    """What is damaged is no older format: `history` ends there, and `verify` reports it."""
    make_live(workshop, DAMAGED)
    pushed = workshop.push(ONE)
    assert read_history(workshop.store, pushed.digest).end is End.DAMAGED
    fault = verify_history(workshop.store, pushed.digest, Expected(WORKSPACE)).fault
    assert fault == f"Epoch {NUMBER + 1}: the epoch before is damaged."


def test_gc_takes_the_old_chain_away(workshop: Workshop) -> None:
    """Nobody reads it again; the chain that is left counts as collected, not as broken."""
    old = make_live(workshop, OLD)
    pushed = workshop.push(ONE)
    now = workshop.now + YOUNG_SECONDS + 60
    collect(store=workshop.store, link=workshop.link, workspace=WORKSPACE, now=now)
    assert not workshop.store.has_blob(old)
    assert read_history(workshop.store, pushed.digest).end is End.COLLECTED
    assert assert_served(workshop.link) == NUMBER + 1
