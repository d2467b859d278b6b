"""Publication to a real Redis and a real store."""

from pathlib import Path
from typing import Any

import pytest

from compiler.publication.checkout import Checkout, Standing
from compiler.publication.gateways import wait_for_gateways
from compiler.publication.mirror import Mirror
from compiler.publication.publisher import LostRaceError
from compiler.refusal import Refused
from gateway.errors import FormatError, StoreError
from gateway.link import connect_sync, parse_url
from gateway.pointer import encode_pointer
from gateway.verify import verify_epoch
from processes import wait_until
from publishing import (
    COFFEE,
    KEYS,
    WORKSPACE,
    Workshop,
    assert_served,
    assert_stored,
    image_of,
    plan_files,
    publisher_key,
    record,
    withdrawal,
)

ONE, TWO, THREE = (image_of(plan_files(versions)) for versions in (["1"], ["1", "2"], ["2", "3"]))


def test_a_push_is_served_and_stored(workshop: Workshop) -> None:
    """What was pushed resolves from Redis alone and from the store alone, under number 1."""
    pushed = workshop.push(TWO, note="first")
    assert (pushed.number, pushed.already) == (1, False)
    assert assert_served(workshop.link) == 1
    assert_stored(workshop.store, pushed.digest)
    live = workshop.live()
    assert live.epoch["author"] == "ann"
    assert live.epoch["note"] == "first"
    assert live.epoch["previous"] == b""
    assert workshop.store.get_named("live") == live.pointer


def test_epochs_are_numbered_and_chained(workshop: Workshop) -> None:
    """Each epoch names the one before it by digest, and its number is one higher."""
    first = workshop.push(ONE)
    second = workshop.push(TWO)
    assert (first.number, second.number) == (1, 2)
    assert workshop.live().epoch["previous"] == first.digest


def test_only_what_changed_is_written(workshop: Workshop) -> None:
    """A push writes the blobs that are new, and none that are there."""
    ids = {"staff": [f"u{at}" for at in range(2000)]}
    workshop.push(image_of(plan_files(["1"], staff=True), ids))
    pushed = workshop.push(image_of(plan_files(["1"], staff=True, check_after=60), ids))
    # workspace.yaml, settings, plan tree, contents, epoch
    assert (pushed.stored, pushed.blobs, pushed.buckets) == (5, 5, 0)


def test_one_new_id_writes_few_buckets(workshop: Workshop) -> None:
    """A list that gains an id changes one bucket, not all of them."""
    ids = [f"u{at}" for at in range(2000)]
    files = plan_files(["1"], staff=True)
    first = workshop.push(image_of(files, {"staff": ids}))
    second = workshop.push(image_of(files, {"staff": [*ids, "new"]}))
    assert first.buckets > 8
    assert second.buckets == 1
    assert_served(workshop.link, 2)


def test_equal_contents_are_no_new_epoch(workshop: Workshop) -> None:
    """Pushing what is live makes no epoch, whoever pushes and whatever the note."""
    first = workshop.push(ONE)
    again = workshop.push(ONE, key=publisher_key("bob"), note="again", force=False, base=None)
    assert again.already
    assert (again.number, again.digest) == (1, first.digest)
    assert (again.stored, again.blobs, again.buckets) == (0, 0, 0)


def test_another_key_signs_what_is_live_if_told_to(workshop: Workshop) -> None:
    """With `again` equal contents are a new epoch, by the new key: the old one may go."""
    first = workshop.push(ONE)
    bob = publisher_key("bob")
    again = workshop.push(ONE, again=True, key=bob, force=False, base=1)
    assert (again.already, again.number, again.blobs) == (False, 2, 1)
    old, new = (
        {"blob": workshop.store.get_blob(each), "digest": each}
        for each in (first.digest, again.digest)
    )
    only_bob = {"workspace": WORKSPACE, "trusted": (bob.public,)}
    assert verify_epoch(**new, **only_bob)["author"] == "bob"
    with pytest.raises(FormatError, match="signed by key"):
        verify_epoch(**old, **only_bob)


def test_pushing_again_heals_what_redis_and_store_lost(workshop: Workshop) -> None:
    """A push of the live contents puts back single keys and blobs that were lost."""
    files = plan_files(["1"], staff=True)
    image = image_of(files, {"staff": [f"u{at}" for at in range(500)]})
    pushed = workshop.push(image)
    bucket = next(iter(workshop.redis_keys("bucket")))
    workshop.link.delete(KEYS.blob(image.contents["settings"]))
    workshop.link.delete(KEYS.bucket(bucket))
    workshop.store.delete_blobs([image.contents["membership"]["packs"][0]])
    again = workshop.push(image)
    assert (again.already, again.stored, again.blobs, again.buckets) == (True, 1, 1, 1)
    assert_served(workshop.link, 1)
    assert_stored(workshop.store, pushed.digest)


def test_a_store_that_is_behind_is_healed(workshop: Workshop) -> None:
    """When a push was killed right after the pointer moved, the next command moves `live`."""
    workshop.push(ONE)
    stored = workshop.store.get_named("live")
    workshop.push(TWO)
    workshop.store.put_named("live", stored)
    workshop.store.delete_named(f"versions/{COFFEE}/2")
    assert workshop.live().number == 2
    assert workshop.store.get_named("live") == workshop.live().pointer
    assert workshop.store.get_named(f"versions/{COFFEE}/2") is not None


def test_an_emptied_redis_asks_for_a_restore(workshop: Workshop) -> None:
    """A push to an emptied Redis is refused: it would hide the epochs that the store knows."""
    workshop.push(ONE)
    workshop.link.flushall()
    with pytest.raises(Refused, match="tidegate restore"):
        workshop.push(TWO)


def test_a_redis_set_back_asks_for_a_restore(workshop: Workshop) -> None:
    """A Redis that is at an older epoch than the store has lost what it acknowledged."""
    workshop.push(ONE)
    old = workshop.link.get(KEYS.live)
    workshop.push(TWO)
    workshop.link.set(KEYS.live, old)
    with pytest.raises(Refused, match=r"is at epoch 1, but .* knows epoch 2.*tidegate restore"):
        workshop.push(THREE)


def test_a_foreign_store_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    """A store that does not know Redis's epoch is the wrong one, and is left as it was."""
    workshop.push(ONE)
    other = Workshop(tmp_path / "other", workshop.link)
    with pytest.raises(Refused, match="Is it the store of this Redis"):
        other.push(TWO)
    assert not list(other.store.list_blobs())


def test_another_workspace_is_refused(workshop: Workshop) -> None:
    """A plan of another workspace is not published here."""
    image = image_of(plan_files(["1"], workspace="other"))
    with pytest.raises(Refused, match="'other', not of 'demo'"):
        workshop.push(image)


def test_an_evicting_redis_is_refused(workshop: Workshop) -> None:
    """A Redis that may evict keys is refused, with the line to type."""
    workshop.link.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(Refused, match="CONFIG SET maxmemory-policy noeviction"):
            workshop.push(ONE)
    finally:
        workshop.link.config_set("maxmemory-policy", "noeviction")
    assert workshop.push(ONE).number == 1


def test_a_gateway_that_cannot_read_the_format_stops_a_push(workshop: Workshop) -> None:
    """It is named, with its version, and nothing is published."""
    workshop.announce("gw-1")
    workshop.announce("gw-old", formats=[0], version="0.0.9")
    with pytest.raises(Refused, match=r"cannot be read by gw-old \(version 0\.0\.9\)"):
        workshop.push(ONE)
    assert workshop.link.get(KEYS.live) is None


def test_a_number_is_above_what_gateways_served(workshop: Workshop) -> None:
    """After losses no gateway is left behind: the next number is above all that one serves."""
    workshop.announce("gw-1", epoch=41)
    assert workshop.push(ONE).number == 42


def test_gateways_are_told_at_once(workshop: Workshop) -> None:
    """The pointer is sent as a notice when it has moved, and not when it has not."""
    with workshop.link.pubsub() as heard:

        def message() -> Any:
            return wait_until(lambda: heard.get_message(timeout=1), "a message")["data"]

        heard.subscribe(KEYS.notice)
        assert message() == 1  # the subscription itself
        workshop.push(ONE)
        assert message() == workshop.live().pointer
        workshop.push(ONE)
        workshop.link.publish(KEYS.notice, b"nothing before this")
        assert message() == b"nothing before this"


def test_of_two_operators_one_wins(workshop: Workshop) -> None:
    """The loser is told who won, when, why, and what they changed; nothing of theirs is live."""
    workshop.push(ONE)

    def overtake(what: str, done: int, total: int) -> None:
        if what.startswith("Redis") and workshop.live().number == 1:
            workshop.push(TWO, key=publisher_key("bob"), note="second package")

    with pytest.raises(LostRaceError) as lost:
        workshop.push(THREE, progress=overtake)
    told = str(lost.value)
    assert "epoch 2 (bob, 20" in told
    assert '"second package") is live now' in told
    assert "+ package 2" in told
    assert lost.value.winner is not None
    assert lost.value.winner.number == 2
    assert workshop.live().number == 2
    assert workshop.live().epoch["author"] == "bob"


def test_a_redis_emptied_during_a_push_is_told(workshop: Workshop) -> None:
    """When the pointer vanishes under a push, it does not publish beside the lost history."""
    workshop.push(ONE)

    def vanish(what: str, done: int, total: int) -> None:
        workshop.link.delete(KEYS.live)

    with pytest.raises(LostRaceError, match="tidegate restore"):
        workshop.push(TWO, progress=vanish)
    assert workshop.link.get(KEYS.live) is None


def test_the_pointer_never_falls(workshop: Workshop) -> None:
    """The script moves the pointer only from what was read, and only upwards."""
    mirror = workshop.mirror
    digest = bytes(32)
    five, six, four = (encode_pointer(number, digest) for number in (5, 6, 4))
    assert mirror.swap_pointer(None, five, 5) == five
    assert mirror.swap_pointer(None, six, 6) == five
    assert mirror.swap_pointer(five, four, 4) == five
    assert mirror.swap_pointer(five, encode_pointer(5, b"\1" * 32), 5) == five
    assert mirror.swap_pointer(five, six, 6) == six
    assert mirror.swap_pointer(five, six, 6) == six  # said twice


def test_outside_git_a_base_is_needed(workshop: Workshop) -> None:
    """Outside Git a push names the live epoch, or is refused; --force overrides."""
    workshop.push(ONE, base=None)
    with pytest.raises(Refused, match=r"epoch 1 \(ann.*--base 1"):
        workshop.push(TWO, base=None)
    with pytest.raises(Refused, match="made for epoch 7, but epoch 1"):
        workshop.push(TWO, base=7)
    assert workshop.push(TWO, base=1).number == 2
    assert workshop.push(THREE, force=True).number == 3


class _Standing(Checkout):
    """A checkout that stands as told to every commit."""

    __slots__ = ()
    answer = Standing.CONTAINS

    def standing(self, commit: str) -> Standing:
        assert commit == "a" * 40
        return self.answer


class _Lacking(_Standing):
    __slots__ = ()
    answer = Standing.LACKS


class _Unknowing(_Standing):
    __slots__ = ()
    answer = Standing.UNKNOWN


def test_a_stale_checkout_is_refused(workshop: Workshop) -> None:
    """The live epoch's commit must be an ancestor of HEAD; unknown commits ask for a fetch."""
    head = ("b" * 40, False)
    workshop.push(ONE, checkout=_Standing(Path(), "a" * 40, False))
    assert workshop.live().epoch["commit"] == "a" * 40
    with pytest.raises(Refused, match=r"does not contain it.*Pull or merge"):
        workshop.push(TWO, checkout=_Lacking(Path(), *head))
    with pytest.raises(Refused, match="git fetch"):
        workshop.push(TWO, checkout=_Unknowing(Path(), *head))
    with pytest.raises(Refused, match="has never seen it"):
        workshop.push(TWO, checkout=_Unknowing(Path(), *head), base=1)
    assert workshop.push(TWO, checkout=_Standing(Path(), *head)).number == 2
    assert workshop.live().epoch["commit"] == "b" * 40
    assert workshop.push(THREE, checkout=_Lacking(Path(), *head), force=True).number == 3


def test_from_outside_git_into_git_needs_a_base(workshop: Workshop) -> None:
    """An epoch that was pushed outside Git has no commit that a checkout could contain."""
    workshop.push(ONE)
    checkout = _Standing(Path(), "a" * 40, False)
    with pytest.raises(Refused, match=r"pushed outside Git.*--base 1"):
        workshop.push(TWO, checkout=checkout)
    assert workshop.push(TWO, checkout=checkout, base=1).number == 2


def test_a_list_that_shrinks_by_half_is_refused(workshop: Workshop) -> None:
    """Half of the ids gone needs --allow-shrink; fewer do not."""
    files = plan_files(["1"], staff=True)
    ids = [f"u{at}" for at in range(100)]
    workshop.push(image_of(files, {"staff": ids}))
    with pytest.raises(Refused, match="from 100 to 50"):
        workshop.push(image_of(files, {"staff": ids[:50]}))
    assert workshop.push(image_of(files, {"staff": ids[:51]})).number == 2
    assert workshop.push(image_of(files, {"staff": ids[:10]}), allow_shrink=True).number == 3


def test_an_override_is_never_lost(workshop: Workshop) -> None:
    """An image that was made without the live overrides is refused, unless for just that epoch."""
    workshop.push(image_of(plan_files(["1", "2"]), overrides=[withdrawal("2")]))
    with pytest.raises(Refused, match=f"would lose: {COFFEE}/2 is withdrawn"):
        workshop.push(THREE)
    kept = image_of(plan_files(["1", "2", "3"]), overrides=[withdrawal("2.0")])
    assert workshop.push(kept).number == 2
    assert workshop.push(TWO, onto=workshop.live()).number == 3
    assert workshop.live().tree["overrides"] == []


def test_a_versions_bytes_never_change(workshop: Workshop) -> None:
    """Other bytes under a version that an epoch knew are refused, however it is written."""
    workshop.push(ONE)
    workshop.push(image_of(plan_files(["3"])))  # version 1 is gone from the plan, not the ledger
    files = plan_files(["1.0.0"]) | record("1.0.0", bytes_of="other")
    with pytest.raises(Refused, match=f"{COFFEE} 1 "):
        workshop.push(image_of(files))
    same = plan_files(["1.0.0"]) | record("1.0.0", bytes_of=COFFEE + "1")
    assert workshop.push(image_of(same)).number == 3


def test_a_failed_push_claims_no_version(workshop: Workshop) -> None:
    """Bytes that never were in an epoch may be replaced: the ledger follows the pointer."""
    workshop.push(ONE)

    def die(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workshop.push(TWO, progress=die)
    other = plan_files(["1", "2"]) | record("2", bytes_of="mended")
    assert workshop.push(image_of(other)).number == 2


def test_redis_away_is_a_sentence(tmp_path: Path) -> None:
    """A Redis that does not answer is named without its password."""
    link = connect_sync(parse_url("redis://me:secret@127.0.0.1:1/0"), timeout_seconds=1)
    with pytest.raises(StoreError, match=r"Redis at 127\.0\.0\.1:1 failed") as failed:
        Workshop(tmp_path, link).push(ONE)
    assert "secret" not in str(failed.value)


def test_waiting_counts_and_names(workshop: Workshop) -> None:
    """The wait ends when all serve the epoch, or names who does not when its time is over."""
    workshop.announce("gw-1", epoch=7)
    workshop.announce("gw-2", epoch=6)
    times = iter([0.0, 0.0, 0.1, 0.4, 9.0])
    seen = []
    served = wait_for_gateways(
        workshop.mirror,
        7,
        timeout_seconds=20,
        on_change=seen.append,
        clock=lambda: next(times),
        sleep=lambda seconds: workshop.announce("gw-2", epoch=8) if len(seen) == 1 else None,
    )
    assert served.message == "2 of 2 in 0.1 s"
    assert [each.serving for each in seen] == [1, 2]
    workshop.announce("gw-2", epoch=6)
    late = wait_for_gateways(workshop.mirror, 7, timeout_seconds=0, clock=lambda: 0.0)
    assert late.laggards == ("gw-2",)
    assert late.message == "1 of 2 in 0.0 s; not yet: gw-2"
    assert late.reasons == ("",)
    workshop.announce("gw-2", epoch=6, why="no\nsecret \x1b[2J" + "!" * 9_999)
    late = wait_for_gateways(workshop.mirror, 7, timeout_seconds=0, clock=lambda: 0.0)
    assert late.reasons[0].startswith("no secret ?[2J!!")
    assert len(late.reasons[0]) <= 500


def test_no_gateway_is_said(workshop: Workshop) -> None:
    """Without gateways the wait ends at once and says so; one that expired is none."""
    workshop.announce("gw-1", epoch=1)
    workshop.link.delete(KEYS.gateway("gw-1"))
    served = wait_for_gateways(Mirror(workshop.link, WORKSPACE), 7, timeout_seconds=20)
    assert served.total == 0
    assert "No gateway" in served.message
