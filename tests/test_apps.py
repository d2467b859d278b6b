"""An epoch's apps: what is carried over from the one before, what is decoded when, and answers."""

from typing import Any

import pytest

from gateway import layout
from gateway.apps import BIG_BYTES, Apps
from gateway.cdn import Cdn
from gateway.errors import FormatError
from gateway.program import NO_RELEASE, Program
from gateway.remembered import Memory
from large_epochs import app_id, large_epoch
from publishing import COFFEE, image_of, plan_files

LISTS = {f"list-{at}-0": at for at in range(200)}


def opened(
    number: int = 1,
    previous: Apps | None = None,
    *,
    bits: dict[str, int] | None = None,
    base: str = "https://cdn.example.com",
    **epoch: Any,
) -> Apps:
    """Open a large epoch's apps, as a snapshot does."""
    made = large_epoch(number, apps=3, **epoch)
    signed = layout.decode(layout.Signed, made.blobs[made.digest])
    root = layout.unpack_map(layout.Epoch, signed["epoch"])["contents"]
    programs = layout.decode(layout.Contents, made.blobs[root])["programs"]
    rules: list[layout.Cdn] = [{"regions": ["*"], "bases": [base], "expires": None}]
    kept = previous is not None and previous.cdn.rules == rules
    cdn = previous.cdn if previous is not None and kept else Cdn(rules, None, Memory())
    lists = LISTS if bits is None else bits
    return Apps(programs, cdn, lists, made.blobs.__getitem__, Memory(), previous)


def test_a_program_is_decoded_at_its_first_check() -> None:
    """Nothing is decoded ahead but what is big; who is no app is none, and is not remembered."""
    apps = opened()
    assert not apps.known
    entry = apps[app_id(1)]
    assert entry is not None
    assert apps[app_id(1)] is entry
    assert apps["no such app"] is None
    assert apps.known.keys() == {app_id(1)}


def test_a_big_program_is_decoded_when_it_is_built() -> None:
    """A first check does not wait for the decoding of a thousand releases."""
    apps = opened(huge=300)
    assert apps.known.keys() == {app_id(0)}
    entry = apps[app_id(0)]
    assert entry is not None
    assert len(entry.source.blob) >= BIG_BYTES


def test_what_did_not_change_is_kept_and_what_was_in_use_is_decoded_again() -> None:
    """An entry stays with all that it remembers; a changed one is there before the next check."""
    before = opened()
    entries = [before[app_id(at)] for at in range(2)]
    after = opened(2, before, changed=1)
    assert after.known.keys() == {app_id(0), app_id(1)}
    assert after[app_id(0)] is not entries[0]
    assert after[app_id(1)] is entries[1]
    changed = after[app_id(0)]
    assert changed is not None
    assert b'"version":"1.2.10.0"' in changed.answers[0, 0, "1.0.0", 0].json


def test_a_kept_entry_lets_go_of_the_epoch_before() -> None:
    """Its blob is the new epoch's, so that the old epoch's file can be unmapped."""
    before = opened()
    entry = before[app_id(1)]
    assert entry is not None
    old = entry.source.blob
    after = opened(2, before, changed=1)
    assert after[app_id(1)] is entry
    assert entry.source.blob == old
    assert entry.source.blob is not old


def test_an_entry_goes_with_the_bits_and_bases_that_it_was_made_with() -> None:
    """A list that moves, or another CDN, makes it anew; a list of other apps does not."""
    ids = {"shards": 1, "seed": 0}
    before = opened(**ids)
    entries = [before[app_id(at)] for at in range(3)]
    same = opened(2, before, bits=LISTS | {"of others": 200}, **ids)
    assert [same[app_id(at)] for at in range(3)] == entries
    moved = opened(2, before, bits=LISTS | {"list-1-0": 201}, **ids)
    assert [moved[app_id(at)] is entries[at] for at in range(3)] == [True, False, True]
    entry = moved[app_id(1)]
    assert entry is not None
    assert entry.lists == 1 << 201
    other = opened(2, before, base="https://other.example.com", **ids)
    assert [other[app_id(at)] is entries[at] for at in range(3)] == [False] * 3
    entry = other[app_id(1)]
    assert entry is not None
    assert b"https://other.example.com/files/" in entry.answers[1, 0, "1.0.0", 0].json


def test_an_app_in_use_whose_list_went_is_refused() -> None:
    """A program that names a list that is no longer there is never carried over."""
    ids = {"shards": 1, "seed": 0}
    before = opened(**ids)
    assert before[app_id(1)] is not None
    bits = {name: bit for name, bit in LISTS.items() if name != "list-1-0"}
    with pytest.raises(FormatError, match="'list-1-0', which is not there"):
        opened(2, before, bits=bits, **ids)


@pytest.mark.parametrize("count", [1, 2, 61, 62, 63, 64, 65, 200])
def test_each_of_any_number_of_releases_can_win(count: int) -> None:
    """Also the last of more releases than a machine word has bits, and none when none holds."""
    files = plan_files()
    files["apps/coffee.yaml"] = f"app: {COFFEE}\npackages: [{{version: 1.0.0.1}}]\nreleases:\n" + (
        "".join(
            f"  - {{id: r{at:03}, package: 1.0.0.1, audience: everyone, "
            f"when: [{{attribute: city, in: [c{at}]}}]}}\n"
            for at in range(count)
        )
    )
    image = image_of(files)
    program = layout.decode(layout.Program, image.blobs[image.contents["programs"][COFFEE]])
    built = Program(program, {}, Memory())
    context = ((0, 0), None, None)
    for at in range(count):
        rank = built.winner({"city": f"C{at}"}, {}, context, 0)
        assert program["releases"][rank]["id"] == f"r{at:03}"
    assert built.winner({"city": "elsewhere"}, {}, context, 0) == NO_RELEASE
