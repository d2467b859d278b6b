"""`allowlist add` and `remove`: ids are on a list of the live epoch, or off it, at once."""

import json
from pathlib import Path
from typing import Any

import pytest

import desks
from compiler.amendments import MOST_IDS, of_id
from compiler.commands import enlisting
from compiler.language.reading import read_files
from compiler.overrides import settle
from desks import DONE, REFUSED, Desk
from gateway import layout
from gateway.errors import FormatError
from gateway.request import parse_body
from gateway.snapshot import build
from interruption import SteppedStore, Steps
from publishing import COFFEE

LISTS = """\
lists:
  - {list: staff, of: user, regex: '^s'}
  - {list: qa, of: user, file: lists/qa.csv, column: id}
  - {list: phones, of: device, file: lists/phones.txt}
  - {list: big, of: user, stored: true}
"""
APP = desks.APP + (
    "  - {id: qa, package: 3, audience: {lists: [qa]}}\n"
    "  - {id: phones, package: 3, audience: {lists: [phones]}}\n"
    "  - {id: big, package: 3, audience: {lists: [big]}}\n"
    "  - {id: staffed, package: 3, audience: {lists: [staff]}}\n"
)
QA = 'name,id\nann,q-1\n"bob, jr",q-2\n'


@pytest.fixture
def listed(desk: Desk, tmp_path: Path) -> Desk:
    """Push a plan with a list of every sort."""
    (desk.folder / "lists").mkdir()
    (desk.folder / "lists/qa.csv").write_text(QA)
    (desk.folder / "lists/phones.txt").write_text("d-2\nd-1\n")
    (desk.folder / "lists.yaml").write_text(LISTS)
    (tmp_path / "big.txt").write_text("".join(f"b-{number}\n" for number in range(9)))
    desk.run("allowlist", "import", "big", str(tmp_path / "big.txt"), "--of", "user")
    desk.push(APP)
    return desk


def wins(desk: Desk, user: str = "", device: str = "", *, down: bool = False) -> str | None:
    """Ask as a gateway of the live epoch would, with Redis's own buckets; give the release."""
    live = desk.workshop.live()
    snapshot = build(b"", live.epoch, live.contents, desk.workshop.store.get_blob, None)
    asked = {"user": user, "device": device, "platform": "ios", "apps": {COFFEE: "1"}}
    check = parse_body(json.dumps(asked).encode(), packed=False)
    members: dict[int, int | None] = {}
    for hashed in snapshot.probes(check):
        digest = snapshot.bucket_of(hashed)
        key = desk.workshop.mirror.keys.bucket(digest)
        bucket = b"" if digest == layout.EMPTY_BUCKET else desk.workshop.link.get(key)
        members[hashed] = None if down else snapshot.lists_of(hashed, bucket)
    body, _ = snapshot.answer(check, members, 1_700_000_000, msgpack=False)
    (answer,) = json.loads(body)["apps"]
    return answer.get("release")


def test_an_id_is_on_a_list_at_once_and_off_it(listed: Desk) -> None:
    """On each sort of list, for its kind of id alone; the opposite leaves nothing laid over."""
    first = listed.workshop.live()
    for name, who, before in (
        ("qa", {"user": "x-9"}, None),
        ("qa", {"user": "q-1"}, "qa"),
        ("phones", {"device": "x-9"}, None),
        ("phones", {"device": "d-1"}, "phones"),
        ("staff", {"user": "x-9"}, None),
        ("staff", {"user": "s-1"}, "staffed"),
    ):
        (text,) = who.values()
        there, back = ("remove", "add") if before else ("add", "remove")
        assert wins(listed, **who) == before
        listed.run("allowlist", there, name, text)
        after = wins(listed, **who)
        assert (after is None) is (before is not None), (name, who)
        assert wins(listed, **who, down=True) == after, "what is laid over needs no Redis"
        assert wins(listed, *reversed((text, "")) if "user" in who else (text,)) is None
        live = listed.workshop.live()
        assert live.contents["membership"] == first.contents["membership"]
        assert live.contents["programs"] == first.contents["programs"]
        assert live.contents["settings"] == first.contents["settings"]
        listed.run("allowlist", back, name, text)
        assert listed.laid() == []
        assert listed.workshop.live().epoch["contents"] == first.epoch["contents"]


def test_what_came_of_each_id_is_counted(listed: Desk) -> None:
    """Those that were so already are told, and alone they make no epoch."""
    ran = listed.run("allowlist", "add", "qa", "q-1", "q-8", "q-9")
    assert "Epoch 3 is live: qa: 2 added, 1 there already." in ran.out
    assert listed.workshop.live().epoch["note"] == "allowlist add qa q-1 q-8 q-9"
    again = listed.run("allowlist", "add", "qa", "q-1", "q-9", "-m", "why not")
    assert "qa: 0 added, 2 there already: that is so already in epoch 3 (ann" in again.out
    said = json.loads(listed.run("allowlist", "remove", "qa", "q-1", "q-0", "--json").out)
    assert (said["removed"], said["not_there"], said["at_once"]) == (1, 1, True)
    assert listed.workshop.live().number == 4
    assert "~qa without q-1" in listed.run("history").out
    shown = listed.run("history", "show", "4").out
    assert "laid over the plan: qa/q-1 is not on the list" in shown
    assert "qa: 2 user ids in epoch 4; by overrides with q-8, q-9 and without q-1" in (
        listed.run("allowlist", "show", "qa").out
    )
    assert listed.run("allowlist", "show", "qa", "--ids").out == "q-2\nq-8\nq-9\n"
    assert json.loads(listed.run("allowlist", "show", "qa", "--json").out)["added"] == [
        "q-8",
        "q-9",
    ]
    explained = listed.run("explain", "--app", "coffee", "--user", "q-8").out
    assert "laid over the plan: qa/q-8 is on the list" in explained
    assert "update to 3 by qa" in explained


def test_a_push_keeps_ids_and_the_plan_ends_them(listed: Desk) -> None:
    """They are printed; a list that says the same ends them, and `--take-plan` those it names."""
    listed.run("allowlist", "add", "qa", "q-8", "q-9")
    listed.run("allowlist", "remove", "staff", "s-1")
    (listed.folder / "lists/qa.csv").write_text(QA + "cid,q-8\n")
    pushed = listed.push(APP + "# again\n").err
    assert "kept from before: qa/q-9 is on the list" in pushed
    assert "kept from before: staff/s-1 is not on the list" in pushed
    assert "no longer laid over: qa/q-8 is on the list; the plan says the same now" in pushed
    assert (wins(listed, "q-8"), wins(listed, "q-9"), wins(listed, "s-1")) == ("qa", "qa", None)
    assert "Overridden now: qa, staff." in listed.push(APP, "--take-plan", "q", code=REFUSED).err
    taken = listed.push(APP, "--take-plan", "qa", "--take-plan", "staff/s-1").err
    assert "no longer laid over: qa/q-9 is on the list; the plan's list is taken" in taken
    assert listed.laid() == []
    assert (wins(listed, "q-9"), wins(listed, "s-1")) == (None, "staffed")


def test_a_refused_push_says_nothing_of_overrides(listed: Desk) -> None:
    """What became of them is printed once it has become so, and not of a push that is refused."""
    listed.run("allowlist", "remove", "qa", "q-1")
    listed.run("allowlist", "add", "qa", "q-8")
    (listed.folder / "lists/qa.csv").write_text("name,id\nbob,q-2\n")
    refused = listed.push(APP, code=REFUSED).err
    assert "would shrink from 2 to 1 ids" in refused
    assert "laid over" not in refused
    assert "kept from before" not in refused
    assert listed.laid() == [("member", "q-1", "false"), ("member", "q-8", "true")]
    pushed = listed.push(APP, "--allow-shrink").err
    assert "no longer laid over: qa/q-1 is not on the list; the plan says the same now" in pushed
    assert "kept from before: qa/q-8 is on the list" in pushed
    assert listed.laid() == [("member", "q-8", "true")]


def test_pull_writes_ids_into_the_lists_files(listed: Desk) -> None:
    """Other columns and the order stay, `--force` is not needed, and a push ends them."""
    listed.run("allowlist", "add", "qa", "q-9")
    listed.run("allowlist", "remove", "qa", "q-1")
    listed.run("allowlist", "add", "phones", "d-3")
    listed.run("allowlist", "add", "staff", "x")
    pulled = listed.run("pull", str(listed.folder)).out
    assert "written into lists/qa.csv, so that a push ends the override: qa/q-9 is on" in pulled
    assert "laid over the plan, and not written into it: staff/x is on the list" in pulled
    assert (listed.folder / "lists/qa.csv").read_text() == 'name,id\n"bob, jr",q-2\n,q-9\n'
    assert (listed.folder / "lists/phones.txt").read_text() == "d-2\nd-1\nd-3\n"
    listed.run("push", str(listed.folder), "--base", str(listed.workshop.live().number))
    assert listed.laid() == [("member", "x", "true")]
    again = listed.run("pull", str(listed.folder)).out
    assert "0 files written" in again
    elsewhere = listed.folder.parent / "elsewhere"
    listed.run("allowlist", "add", "qa", "q-8")
    listed.run("pull", str(elsewhere))
    assert (elsewhere / "lists/qa.csv").read_text() == "id\nq-2\nq-8\nq-9\n"


def test_pull_empties_no_list(listed: Desk) -> None:
    """No push takes a file without ids: what would leave none stays laid over the plan."""
    listed.run("allowlist", "remove", "phones", "d-1", "d-2")
    listed.run("allowlist", "remove", "qa", "q-1", "q-2")
    listed.run("allowlist", "add", "qa", "q-9")
    pulled = listed.run("pull", str(listed.folder)).out
    assert "laid over the plan, and not written into it: phones/d-1 is not on the list" in pulled
    assert (listed.folder / "lists/phones.txt").read_text() == "d-2\nd-1\n"
    assert (listed.folder / "lists/qa.csv").read_text() == "name,id\n,q-9\n"
    base = str(listed.workshop.live().number)
    listed.run("push", str(listed.folder), "--base", base, "--allow-shrink")
    assert listed.laid() == [("member", "d-1", "false"), ("member", "d-2", "false")]
    assert (wins(listed, device="d-1"), wins(listed, "q-9")) == (None, "qa")


def test_a_stored_list_has_them_too(listed: Desk) -> None:
    """The store's list is changed after the epoch, so that the next push ends the overrides."""
    ran = listed.run("allowlist", "add", "big", "b-new")
    assert "In the store big has 10 user ids now; the next push takes them from there." in ran.out
    listed.run("allowlist", "remove", "big", "b-1")
    assert (wins(listed, "b-new"), wins(listed, "b-1")) == ("big", None)
    listed.push(APP + "# again\n")
    assert listed.laid() == []
    assert (wins(listed, "b-new"), wins(listed, "b-1")) == ("big", None)
    half = [f"b-{number}" for number in range(2, 8)]
    refused = listed.run("allowlist", "remove", "big", *half, code=REFUSED)
    assert "would shrink from 9 to 3 ids" in refused.err
    assert listed.laid() == []


def test_too_many_ids_are_for_the_list_itself(listed: Desk, tmp_path: Path) -> None:
    """More than gateways keep at hand are refused; a stored list takes them for the next push."""
    ids = tmp_path / "ids.txt"
    ids.write_text("".join(f"m-{number}\n" for number in range(MOST_IDS + 1)))
    refused = listed.run("allowlist", "add", "qa", "--from", str(ids), code=REFUSED).err
    assert "10,001 ids would lie over the lists of the plan; the most is 10,000." in refused
    before = listed.workshop.live()
    ran = listed.run("allowlist", "add", "big", "--from", str(ids))
    assert "big: 10,001 added, 0 there already. It has 10,010 user ids. It takes effect" in ran.out
    assert listed.workshop.live() == before
    ids.write_text("".join(f"m-{number}\n" for number in range(MOST_IDS)))
    listed.run("allowlist", "add", "qa", "--from", str(ids))
    assert wins(listed, "m-77") == "qa"
    kept = listed.push(APP + "# again\n").err
    assert "kept from before: qa: and 9,997 more ids are on the list" in kept


def test_a_list_that_nobody_has_is_refused(listed: Desk) -> None:
    """Neither in the epoch nor in the store; a list that the plan lost keeps what is laid."""
    assert "The store has no list q." in listed.run("allowlist", "add", "q", "x", code=REFUSED).err
    listed.run("allowlist", "add", "qa", "q-9")
    (listed.folder / "lists.yaml").write_text(LISTS.replace("qa, of", "qb, of"))
    listed.push(APP.replace("lists: [qa]", "lists: [qb]"))
    assert listed.laid() == [("member", "q-9", "true")]
    assert wins(listed, "q-9") is None


def test_what_lies_over_a_lost_list_ends_by_its_opposite(listed: Desk) -> None:
    """So that it does not come back with the list; a stored list is changed in the store, too."""
    listed.run("allowlist", "add", "qa", "q-8", "q-9")
    listed.run("allowlist", "remove", "qa", "q-1")
    listed.run("allowlist", "add", "big", "x-1")
    (listed.folder / "lists.yaml").write_text("\n".join(LISTS.splitlines()[:2]) + "\n")
    listed.push(desks.APP)
    for line, said in (
        ("remove qa q-9 q-0", "qa: 1 removed, 1 not on it."),
        ("add qa q-1", "qa: 1 added, 0 there already."),
        ("remove big x-1", "In the store big has 9 user ids now"),
    ):
        assert said in listed.run("allowlist", *line.split()).out, line
    ran = listed.run("allowlist", "add", "qa", "q-8", "q-7", code=REFUSED)
    assert "The store has no list qa." in ran.err, "nothing of these ends"
    assert listed.laid() == [("member", "q-8", "true")]
    (listed.folder / "lists.yaml").write_text(LISTS)
    listed.push(APP)
    assert [wins(listed, user) for user in ("q-8", "q-9", "x-1")] == ["qa", None, None]


def _meanwhile(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, line: str, other: str, code: int
) -> Any:
    """Run a command while another one is faster."""
    steps = Steps(1, lambda: desk.run(*other.split()) and None)
    real = enlisting.open_store
    once = iter([SteppedStore(desk.workshop.store, steps)])
    monkeypatch.setattr(enlisting, "open_store", lambda place: next(once, None) or real(place))
    return desk.run(*line.split(), code=code)


def test_of_two_at_once_both_count(listed: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one goes on top of the faster, unless that has said the opposite of an id."""
    _meanwhile(listed, monkeypatch, "allowlist add qa q-8", "allowlist add qa q-9", DONE)
    assert listed.laid() == [("member", "q-8", "true"), ("member", "q-9", "true")]
    ran = _meanwhile(
        listed, monkeypatch, "allowlist add qa q-1 q-7", "allowlist remove qa q-1", REFUSED
    )
    assert "has changed qa/q-1 meanwhile: it is not on the list." in ran.err
    assert ("member", "q-7", "true") not in listed.laid()


def test_revert_keeps_ids(listed: Desk) -> None:
    """An id put on a list after epoch 2 is on it when epoch 2 is published again."""
    listed.run("allowlist", "add", "qa", "q-9")
    (listed.folder / "lists/qa.csv").write_text(QA + "cid,q-7\n")
    listed.push(APP)
    assert "kept: qa/q-9 is on the list" in listed.run("revert", "2").out
    assert (wins(listed, "q-9"), wins(listed, "q-7")) == ("qa", None)


def test_a_gateway_refuses_what_does_not_fit(listed: Desk) -> None:
    """Ids over a list that the settings lack, or half an id, are no epoch to serve."""
    live, blob = listed.workshop.live(), listed.workshop.store.get_blob
    for name, added, fault in (("none", bytes(8), "the settings lack"), ("qa", b"1", "is cut")):
        amended = {name: {"added": added, "removed": b""}}
        with pytest.raises(FormatError, match=fault):
            build(b"", live.epoch, {**live.contents, "amended": amended}, blob, None)


def test_a_lists_name_takes_all_of_its_ids() -> None:
    """`--take-plan qa` ends what lies over qa, and nothing over another list."""
    files = {"workspace.yaml": "workspace: demo\n", "lists.yaml": LISTS}
    plan = read_files(files, now=0).plan
    assert plan is not None
    many = [of_id("qa", str(number), on=True) for number in range(MOST_IDS)]
    other = of_id("phones", "d", on=True)
    found = settle(plan, plan, [*many, other], ["qa"])
    assert (len(found.taken), found.kept) == (MOST_IDS, (other,))
