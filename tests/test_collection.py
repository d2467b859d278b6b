"""Garbage collection in a real store and a real Redis."""

from contextlib import suppress

import pytest

from compiler.image import Image
from compiler.lists.allowlist import ListIds
from compiler.lists.stored_list import StoredList, read_stored_list, write_stored_list
from compiler.publication.collection import Collected, collect
from compiler.publication.epoch import read_publication, stored_digests
from compiler.publication.history import End, read_history
from compiler.refusal import Refused
from compiler.storage.store import Store
from interruption import Killed, SteppedLink, SteppedStore, Steps, kill
from publishing import KEYS, WORKSPACE, Workshop, assert_served, assert_stored, image_of, plan_files

LATER = 7200


def numbered(at: int) -> Image:
    """Make an image of its own, with 300 ids."""
    files = plan_files(["1"], staff=True, check_after=at)
    return image_of(files, {"staff": [f"{at}-{each}" for each in range(300)]})


def collected(workshop: Workshop, **options: object) -> Collected:
    """Collect, two hours later."""
    said = {"now": workshop.now + LATER, "keep": 2, **options}
    where = {"store": workshop.store, "link": workshop.link, "workspace": WORKSPACE}
    return collect(**{**where, **said})


def stored(workshop: Workshop) -> set[bytes]:
    """Name what the store holds."""
    return {blob.digest for blob in workshop.store.list_blobs()}


def test_the_store_keeps_exactly_the_newest_epochs(workshop: Workshop) -> None:
    """What the newest epochs need stays, and the signed record of each before; nothing else."""
    pushed = [workshop.push(numbered(at)) for at in range(4)]
    found = collected(workshop)
    assert (found.epochs, found.oldest) == (2, 3)
    live = workshop.live()
    for each in pushed[2:]:
        assert_stored(workshop.store, each.digest)
    before = read_publication(live.epoch["previous"], workshop.store.get_blob)
    records = {each.digest for each in pushed[:2]}
    assert stored(workshop) == stored_digests(live) | stored_digests(before) | records
    assert collected(workshop) == Collected(2, 3, 0, 0, 0)  # nothing is left to do


def test_redis_keeps_the_live_epoch_and_its_predecessor(workshop: Workshop) -> None:
    """In Redis two epochs stay, whatever the store keeps."""
    buckets = []
    for at in range(4):
        workshop.push(numbered(at))
        buckets.append(workshop.redis_keys("bucket"))
    found = collected(workshop, keep=50)
    assert found.blobs == 0
    assert workshop.redis_keys("bucket") == buckets[3] - buckets[1]
    assert found.redis_keys > len(buckets[1])
    assert_served(workshop.link, 4)


def test_what_a_gateway_serves_stays(workshop: Workshop) -> None:
    """An epoch that a gateway announces is kept whole, in the store and in Redis."""
    old = workshop.push(numbered(0))
    buckets = workshop.redis_keys("bucket")
    for at in range(1, 4):
        workshop.push(numbered(at))
    workshop.announce("gw-1", old.number, old.digest)
    collected(workshop, keep=1)
    assert_stored(workshop.store, old.digest)
    kept = read_publication(old.digest, workshop.store.get_blob)
    assert buckets <= workshop.redis_keys("bucket")
    assert workshop.link.exists(KEYS.blob(old.digest))
    workshop.link.delete(KEYS.gateway("gw-1"))
    collected(workshop, keep=1)
    assert kept.epoch["contents"] not in stored(workshop)
    assert old.digest in stored(workshop)  # who, when, why, with which key
    assert not buckets & workshop.redis_keys("bucket")


def test_what_is_young_stays(workshop: Workshop) -> None:
    """A push on its way has blobs that no epoch needs yet: an hour is given to it."""
    workshop.push(numbered(0))
    young = workshop.store.put_blob(b"a push on its way")
    collected(workshop, now=workshop.now + 60)
    assert young in stored(workshop)
    collected(workshop, now=workshop.now + 3700)
    assert young not in stored(workshop)


def test_imported_lists_stay(workshop: Workshop) -> None:
    """The ids of an imported list are kept, though no epoch uses them yet."""
    workshop.push(numbered(0))
    ids = ListIds("vip", "user", 1, 0, 0, b"u1\n", ())
    imported = write_stored_list(workshop.store, ids, workshop.now)
    collected(workshop)
    assert imported.digest in stored(workshop)


def write_vip(store: Store, now: int, text: bytes) -> StoredList:
    """Give the list `vip` another text, whatever it has."""
    ids = ListIds("vip", "user", text.count(b"\n"), 0, 0, text, ())
    return write_stored_list(store, ids, now, read_stored_list(store, "vip"), allow_shrink=True)


OLD, NEW = b"u1\n", b"u1\nu2\n"


def test_a_list_may_take_up_its_old_text_while_gc_runs(workshop: Workshop) -> None:
    """At whatever step of gc a list's record goes back to an old text, that text stays."""
    workshop.push(numbered(0))
    at = 0
    reached = True
    while reached:
        at += 1
        for text in (OLD, NEW):
            write_vip(workshop.store, workshop.now, text)
        steps = Steps(at, lambda: write_vip(workshop.store, workshop.now, OLD))
        collected(
            workshop,
            store=SteppedStore(workshop.store, steps),
            link=SteppedLink(workshop.link, steps),
        )
        reached = steps.reached
        current = read_stored_list(workshop.store, "vip")
        assert current is not None
        assert workshop.store.get_blob(current.digest) == (OLD if reached else NEW), at
    assert at > 10


class CollectedFirst(Store):
    """A store in which a gc runs just before an object is swapped."""

    def __init__(self, workshop: Workshop) -> None:
        """Stand before a workshop's store."""
        super().__init__(workshop.store._backend, workshop.store.name)
        self._workshop = workshop
        self.blobs = 0

    def swap_named(self, path: str, old: bytes | None, new: bytes) -> bool:
        """Collect, then swap."""
        self.blobs = collected(self._workshop).blobs
        return super().swap_named(path, old, new)


def test_a_list_puts_back_what_a_gc_took_before_its_record_moved(workshop: Workshop) -> None:
    """A text that a gc deletes between the list's look at it and the record's move is there."""
    workshop.push(numbered(0))
    for text in (OLD, NEW):
        write_vip(workshop.store, workshop.now, text)
    racing = CollectedFirst(workshop)
    current = write_vip(racing, workshop.now, OLD)
    assert racing.blobs == 1  # OLD itself
    assert workshop.store.get_blob(current.digest) == OLD


def test_named_objects_stay(workshop: Workshop) -> None:
    """Package files and the ledger are never deleted."""
    for at in range(3):
        workshop.push(numbered(at))
    workshop.store.put_named("files/ab/cd.zip", b"zip")
    before = set(workshop.store.list_named())
    collected(workshop, keep=1)
    assert before <= set(workshop.store.list_named())


def test_a_dry_run_deletes_nothing(workshop: Workshop) -> None:
    """It tells what a real run then does."""
    for at in range(4):
        workshop.push(numbered(at))
    before = stored(workshop), workshop.redis_keys("blob"), workshop.store.list_named()
    told = collected(workshop, dry_run=True)
    assert (stored(workshop), workshop.redis_keys("blob"), workshop.store.list_named()) == before
    assert told.blobs > 10
    assert collected(workshop) == told


def test_a_killed_collection_harms_nothing(workshop: Workshop) -> None:
    """Killed at any step, what is kept is whole, the history is no broken one, and gc goes on."""
    at = 1
    for number in range(4):
        workshop.push(numbered(number))
    while True:
        steps = Steps(at, kill)
        with suppress(Killed):
            collected(
                workshop,
                store=SteppedStore(workshop.store, steps),
                link=SteppedLink(workshop.link, steps),
            )
        assert_served(workshop.link)
        live = workshop.live()
        found = read_history(workshop.store, live.digest)
        assert [each.number for each in found.entries][:2] == [live.number, live.number - 1]
        assert found.end in (End.FIRST, End.COLLECTED)
        for entry in found.entries[:2]:
            assert_stored(workshop.store, bytes.fromhex(entry.digest))
        if not steps.reached:
            break
        at += 4
        workshop.push(numbered(100 + at))
    assert at > 40


def test_nothing_published_is_nothing_to_collect(workshop: Workshop) -> None:
    """Before the first epoch gc deletes nothing; keep 0 is refused."""
    young = workshop.store.put_blob(b"x")
    assert collected(workshop) == Collected(0, 0, 0, 0, 0)
    assert young in stored(workshop)
    with pytest.raises(Refused, match="--keep 1"):
        collected(workshop, keep=0)


def test_an_emptied_redis_is_not_collected(workshop: Workshop) -> None:
    """Without Redis's word nobody knows what gateways serve: restore comes first."""
    workshop.push(numbered(0))
    workshop.link.flushall()
    with pytest.raises(Refused, match="tidegate restore"):
        collected(workshop)
