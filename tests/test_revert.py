"""Reverting: old content under a new number, and nothing withdrawn comes back."""

import pytest

from compiler.packaging.package_key import EDDSA, generate
from compiler.publication.epoch import Publication
from compiler.publication.freshness import withdrawn_keys
from compiler.publication.live import read_live
from compiler.publication.publisher import LostRaceError, Published
from compiler.publication.revert import Reversion, Stranded, prepare_revert
from compiler.refusal import Refused
from gateway.version import parse_version
from publishing import COFFEE, Workshop, assert_served, image_of, plan_files, withdrawal


def reverted(workshop: Workshop, number: int) -> tuple[Reversion, Published]:
    """Revert as the command does."""
    found = prepare_revert(
        workshop.store, workshop.mirror, workshop.live(), number, now=workshop.now
    )
    commit = workshop.live().epoch["commit"]
    return found, workshop.push(found.image, force=True, commit=commit)


def onto(workshop: Workshop) -> dict[str, Publication]:
    """Say that a push has settled the live epoch's overrides, if there is an epoch."""
    found = read_live(workshop.store, workshop.mirror, "demo")
    return {} if found is None else {"onto": found}


def is_withdrawn(workshop: Workshop, version: str) -> bool:
    """Tell whether the live epoch's compiled program withdraws a version."""
    contents = workshop.live().contents
    return parse_version(version) in withdrawn_keys(contents, COFFEE, workshop.store.get_blob)


def test_a_revert_is_the_old_content_under_a_new_number(workshop: Workshop) -> None:
    """Without withdrawals the contents are E's, byte for byte, and nothing is written again."""
    ids = {"staff": [f"u{at}" for at in range(300)]}
    workshop.push(image_of(plan_files(["1"], staff=True), ids))
    old = workshop.live()
    workshop.push(image_of(plan_files(["1"], staff=True), {"staff": ["u1"]}), allow_shrink=True)
    found, pushed = reverted(workshop, 1)
    assert pushed.number == 3
    assert workshop.live().epoch["contents"] == old.epoch["contents"]
    assert (pushed.buckets, found.kept, found.stranded) == (0, (), ())
    assert_served(workshop.link, 3)


def test_a_withdrawn_version_is_not_offered_again(workshop: Workshop) -> None:
    """1 offers version 2, 2 withdraws it in the plan, 3 breaks something: revert 1 keeps it away.

    Also when the withdrawal was laid over, written otherwise, and when 3 forgot the version.
    """
    for withdrawn, broken in (
        (
            image_of(plan_files(["1", "2"], withdrawn=["2"])),
            image_of(plan_files(["1", "2"], withdrawn=["2"], check_after=1)),
        ),
        (
            image_of(plan_files(["1", "2"]), overrides=[withdrawal("2.0")]),
            image_of(plan_files(["1"]), overrides=[withdrawal("2.0")]),
        ),
        (image_of(plan_files(["1", "2"], withdrawn=["2"])), image_of(plan_files(["1"]))),
    ):
        first = workshop.push(image_of(plan_files(["1", "2"])), **onto(workshop))
        assert not is_withdrawn(workshop, "2")
        workshop.push(withdrawn)
        workshop.push(broken)
        found, pushed = reverted(workshop, first.number)
        assert pushed.number == first.number + 3
        assert {parse_version(each["name"]) for each in found.kept} == {parse_version("2")}
        assert is_withdrawn(workshop, "2")
        assert_served(workshop.link, pushed.number)


def test_a_withdrawal_taken_back_is_not_kept(workshop: Workshop) -> None:
    """What was withdrawn and offered again since E stays on offer."""
    workshop.push(image_of(plan_files(["1", "2"])))
    workshop.push(image_of(plan_files(["1", "2"], withdrawn=["2"])))
    workshop.push(image_of(plan_files(["1", "2"], check_after=7)))
    found, _ = reverted(workshop, 1)
    assert found.kept == ()
    assert not is_withdrawn(workshop, "2")


def test_an_override_of_a_version_unknown_to_e_is_kept(workshop: Workshop) -> None:
    """Every override is kept, so that a later plan that knows the version withdraws it."""
    workshop.push(image_of(plan_files(["1"])))
    workshop.push(image_of(plan_files(["1", "2"]), overrides=[withdrawal("2")]))
    found, _ = reverted(workshop, 1)
    assert workshop.live().tree["overrides"] == [withdrawal("2")]
    assert found.stranded == (Stranded(COFFEE, "2", offered=True),)


def test_what_a_revert_strands_is_named(workshop: Workshop) -> None:
    """Versions and apps that E does not know are named, offered or not."""
    tea = {
        "apps/tea.yaml": "app: tea\npackages:\n  - version: 1.0\n",
    }
    workshop.push(image_of(plan_files(["1"])))
    workshop.push(image_of({**plan_files(["1", "1.5", "2"]), **tea}))
    found, _ = reverted(workshop, 1)
    assert found.stranded == (
        Stranded(COFFEE, "1.5", offered=True),
        Stranded(COFFEE, "2", offered=True),
        Stranded("tea", None, offered=False),
    )


def test_whom_a_kept_withdrawal_strands_there_is_named(workshop: Workshop) -> None:
    """Under the plan of E no other release serves who has the withdrawn version."""
    workshop.push(image_of(plan_files(["2"])))
    workshop.push(image_of(plan_files(["1", "2"]), overrides=[withdrawal("2")]))
    found, _ = reverted(workshop, 1)
    (host,) = found.hosts
    assert host.startswith(f"{COFFEE}/2: any host app not named here: no release is left")


def test_a_change_of_the_trusted_keys_is_told(workshop: Workshop) -> None:
    """Keys that the epoch's plan does not trust, or trusts again, are named; else nothing is."""
    plain = {"workspace.yaml": "workspace: demo\n", "apps/tea.yaml": "app: tea\n"}
    one, two = (generate(EDDSA, name).public for name in ("ann", "bob"))
    said = f"workspace: demo\nkeys:\n  {one.line}\n  {two.line}\n"
    workshop.push(image_of(plain))
    workshop.push(image_of({**plain, "workspace.yaml": said}))
    workshop.push(image_of({**plain, "workspace.yaml": said + "check_after: 9\n"}))
    found = [
        prepare_revert(
            workshop.store, workshop.mirror, workshop.live(), number, now=workshop.now
        ).keys
        for number in (1, 2)
    ]
    assert found[1] is None
    assert found[0] is not None
    assert found[0].details == (f"ann ({one.id[:8]}), bob ({two.id[:8]}) → none",)
    reverted(workshop, 1)
    back = prepare_revert(
        workshop.store, workshop.mirror, workshop.live(), 2, now=workshop.now
    ).keys
    assert back is not None
    assert back.details == (f"none → ann ({one.id[:8]}), bob ({two.id[:8]})",)


def test_reverting_to_the_live_epoch_is_refused(workshop: Workshop) -> None:
    """There is nothing to do, and an epoch that never was is refused."""
    workshop.push(image_of(plan_files(["1"])))
    with pytest.raises(Refused, match="is live already"):
        prepare_revert(workshop.store, workshop.mirror, workshop.live(), 1, now=workshop.now)
    with pytest.raises(Refused, match="no epoch 9 yet"):
        prepare_revert(workshop.store, workshop.mirror, workshop.live(), 9, now=workshop.now)


def test_a_revert_does_not_undo_a_push_that_it_has_not_seen(workshop: Workshop) -> None:
    """Who pushes between the look and the revert wins, although a revert needs no base."""
    workshop.push(image_of(plan_files(["1"])))
    workshop.push(image_of(plan_files(["1", "2"])))
    live = workshop.live()
    prepared = prepare_revert(workshop.store, workshop.mirror, live, 1, now=workshop.now)
    workshop.push(image_of(plan_files(["1", "2", "3"])), note="third package")
    with pytest.raises(LostRaceError, match=r"third package.*\n.*\n.*\+ package 3"):
        workshop.push(prepared.image, force=True, onto=live)
    assert workshop.live().number == 3
