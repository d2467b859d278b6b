"""The history of epochs in a real store."""

import pytest

from compiler.publication.audit import Expected, verify_history
from compiler.publication.collection import collect
from compiler.publication.history import (
    End,
    difference_of,
    find_epoch,
    read_history,
)
from compiler.publication.publisher import sign
from compiler.refusal import Refused
from gateway import layout
from gateway.signing import key_id
from publishing import WORKSPACE, Workshop, image_of, plan_files, publisher_key


@pytest.fixture
def newest(workshop: Workshop) -> bytes:
    """Publish three epochs by two people; give the newest's digest."""
    workshop.push(image_of(plan_files(["1"])), note="one", now=1_800_000_000)
    bob = publisher_key("bob")
    workshop.push(image_of(plan_files(["1", "2"])), note="two", key=bob, commit="c" * 40)
    return workshop.push(image_of(plan_files(["1", "2"], check_after=60))).digest


def test_the_history_tells_who_when_and_what(workshop: Workshop, newest: bytes) -> None:
    """Newest first, each with author, time, key, note, commit and difference."""
    found = read_history(workshop.store, newest)
    assert found.end is End.FIRST
    third, second, first = found.entries
    assert [each.number for each in found.entries] == [3, 2, 1]
    assert (first.author, first.time, first.note) == ("ann", 1_800_000_000, "one")
    assert (second.author, second.commit) == ("bob", "c" * 40)
    assert second.key_id == key_id(publisher_key("bob").raw)
    assert first.difference == "+Coffee"
    assert second.difference == "~Coffee: +package 2, +release r2"
    assert third.difference == "check_after 1800 → 60"


def test_a_limited_history_still_tells_differences(workshop: Workshop, newest: bytes) -> None:
    """The last one that is shown is compared with the one before it, which is not shown."""
    found = read_history(workshop.store, newest, limit=2)
    assert found.end is End.LIMIT
    assert [each.number for each in found.entries] == [3, 2]
    assert found.entries[1].difference == "~Coffee: +package 2, +release r2"
    plain = read_history(workshop.store, newest, differences=False)
    assert [each.difference for each in plain.entries] == [None, None, None]
    assert read_history(workshop.store, newest, limit=3).end is not End.LOST


def test_epochs_are_found_by_number(workshop: Workshop, newest: bytes) -> None:
    """Any epoch of the chain can be read and compared; others are refused with a reason."""
    assert find_epoch(workshop.store, newest, 2).epoch["note"] == "two"
    found = difference_of(workshop.store, newest, 1, 3)
    assert [each.name for each in found.apps[0].changes] == ["2", "r2"]
    assert found.settings[0].details == ("1800 → 60",)
    with pytest.raises(Refused, match="no epoch 4 yet: the newest is 3"):
        find_epoch(workshop.store, newest, 4)
    with pytest.raises(Refused, match="There is no epoch 0"):
        find_epoch(workshop.store, newest, 0)


def test_a_sound_chain_verifies(workshop: Workshop, newest: bytes) -> None:
    """Three sound epochs, whose authors are whom the trusted keys name."""
    keys = [publisher_key("ann").public, publisher_key("bob").public]
    found = verify_history(workshop.store, newest, Expected(WORKSPACE, keys))
    assert (found.epochs, found.end, found.fault) == (3, End.FIRST, None)
    assert verify_history(workshop.store, newest, Expected(WORKSPACE)).fault is None


def test_an_untrusted_or_misnamed_author_is_found(workshop: Workshop, newest: bytes) -> None:
    """A key that is not trusted, or trusted under another name, breaks the chain there."""
    ann = publisher_key("ann").public
    found = verify_history(workshop.store, newest, Expected(WORKSPACE, [ann]))
    assert found.epochs == 1
    assert "Epoch 2: it is signed by key" in str(found.fault)
    renamed = type(ann)("bobby", publisher_key("bob").raw)
    found = verify_history(workshop.store, newest, Expected(WORKSPACE, [ann, renamed]))
    assert "names bob as its author, but the key is that of bobby" in str(found.fault)


def test_damage_and_loss_are_found(workshop: Workshop, newest: bytes) -> None:
    """A damaged blob, a missing blob and a missing epoch are each named with their epoch."""
    store = workshop.store
    first = find_epoch(store, newest, 1)
    program = next(iter(first.contents["programs"].values()))
    path = workshop.folder / "blobs" / program.hex()[:2] / program.hex()
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"x")
    found = verify_history(store, newest, Expected(WORKSPACE))
    assert found.epochs == 2
    assert "Epoch 1:" in str(found.fault)
    assert "damaged" in str(found.fault)
    path.unlink()
    assert "lacks" in str(verify_history(store, newest, Expected(WORKSPACE)).fault)
    path.write_bytes(good)
    assert verify_history(store, newest, Expected(WORKSPACE)).fault is None
    store.delete_blobs([first.digest])
    found = verify_history(store, newest, Expected(WORKSPACE))
    assert (found.epochs, found.end) == (2, End.LOST)
    assert "Epoch 2: the epoch before is missing" in str(found.fault)
    assert read_history(store, newest).end is End.LOST


def test_forged_epochs_are_found(workshop: Workshop, newest: bytes) -> None:
    """A changed epoch, a number that does not fall, another workspace: each is a break."""
    live = workshop.live()
    key = publisher_key()
    faults = {
        "does not fall: the one after it is 4": {"number": 3, "previous": newest},
        "of the workspace 'other'": {"workspace": "other"},
    }
    for sentence, fields in faults.items():
        blob = sign({**live.epoch, "number": 4, **fields}, key)  # type: ignore[typeddict-item]
        digest = workshop.store.put_blob(blob)
        if "previous" in fields:
            blob = sign({**live.epoch, "number": 4, "previous": digest}, key)
            digest = workshop.store.put_blob(sign({**live.epoch, "number": 3}, key))
            top = sign({**live.epoch, "number": 3, "previous": digest}, key)
            digest = workshop.store.put_blob(top)
            sentence = "does not fall: the one after it is 3"  # noqa: PLW2901
        assert sentence in str(verify_history(workshop.store, digest, Expected(WORKSPACE)).fault)
    signed = layout.decode(layout.Signed, sign(live.epoch, key))
    signed["epoch"] = layout.pack_map({**live.epoch, "author": "eve"})
    digest = workshop.store.put_blob(layout.encode(layout.Signed, signed))
    assert "signature does not hold" in str(
        verify_history(workshop.store, digest, Expected(WORKSPACE)).fault
    )


def test_a_collected_past_is_said_and_no_break(workshop: Workshop, newest: bytes) -> None:
    """After gc records go back to the first epoch; without them the chain ends where it was cut.

    Both are said plainly, and are no fault; a record that is altered is one.
    """
    later = workshop.now + 7200
    where = {"store": workshop.store, "link": workshop.link, "workspace": WORKSPACE}
    collect(**where, now=later, keep=2)
    found = read_history(workshop.store, newest)
    assert [each.number for each in found.entries] == [3, 2, 1]
    assert (found.end, found.entries[2].author) == (End.FIRST, "ann")
    assert [each.difference for each in found.entries] == ["check_after 1800 → 60", None, None]
    verified = verify_history(workshop.store, newest, Expected(WORKSPACE))
    assert (verified.epochs, verified.records, verified.fault) == (3, 1, None)
    record = bytes.fromhex(found.entries[2].digest)
    path = workshop.folder / "blobs" / record.hex()[:2] / record.hex()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    verified = verify_history(workshop.store, newest, Expected(WORKSPACE))
    assert (verified.epochs, verified.fault is None) == (2, False)
    path.unlink()
    found = read_history(workshop.store, newest)
    assert [each.number for each in found.entries] == [3, 2]
    assert found.end is End.COLLECTED
    assert found.end.value == "older epochs were collected"
    assert found.entries[1].difference is None
    verified = verify_history(workshop.store, newest, Expected(WORKSPACE))
    assert (verified.epochs, verified.end, verified.fault) == (2, End.COLLECTED, None)
    with pytest.raises(Refused, match="Epoch 1 was collected; the oldest that is kept is 2"):
        find_epoch(workshop.store, newest, 1)
