"""The books: each epoch of a store as the referee's rules, by its number."""

from pathlib import Path

import orjson
import pytest

import crowds
from compiler.image import relay_image
from compiler.plan import State
from compiler.publication.live import LIVE, stored_pointer
from compiler.refusal import Refused
from crowds import COFFEE
from gateway import layout
from gateway.errors import FormatError, StoreError
from loadtest.books import KEPT, Books, open_books
from loadtest.population import Population
from loadtest.referee import Outcome, judge
from loadtest.rules import Rules
from processes import RedisServer, free_port
from publishing import Workshop

PAUSE: layout.Override = {"what": "state", "app": COFFEE, "name": "wifi", "value": "paused"}
CHECK_AFTER: layout.Override = {"what": "check_after", "app": "", "name": "", "value": "60"}
WIFI = {"device": "d-1", "network": "WIFI", "os_version": "14", "platform": "android"}
PHONE = WIFI | {"client_version": "10.2.3", "apps": {COFFEE: "1.0.0.1"}}
NOW = crowds.STARTS - 100


def push_twice(workshop: Workshop) -> None:
    """Publish the plan, then pause a release."""
    image = crowds.image()
    workshop.push(image)
    workshop.push(relay_image(image.contents, image.tree, image.blobs.__getitem__, [PAUSE]))


def state(rules: Rules, release: str) -> State:
    """Find a release of coffee."""
    return next(each.state for each in rules.apps[COFFEE].releases if each.id == release)


def test_an_answer_is_judged_by_the_plan_of_its_own_epoch(workshop: Workshop) -> None:
    """Before and after a pause each answer is right by its epoch, and wrong by the other one."""
    push_twice(workshop)
    books = Books(workshop.store)
    first, second = books.rules(1), books.rules(2)
    assert books.newest() is second
    assert (state(first, "wifi"), state(second, "wifi")) == (State.LIVE, State.PAUSED)
    image = crowds.image()
    paused = relay_image(image.contents, image.tree, image.blobs.__getitem__, [PAUSE])
    blobs = {**image.blobs, **paused.blobs}
    desks = crowds.desk(image), crowds.desk(paused, blobs.__getitem__, number=2)
    phone = next(
        found
        for found in (PHONE | {"device": f"d-{number}"} for number in range(99))
        if orjson.loads(desks[0].ask(found, NOW))["apps"][0].get("release") == "wifi"
    )
    answers = [orjson.loads(desk.ask(phone, NOW)) for desk in desks]
    for rules, other, answer in ((first, second, answers[0]), (second, first, answers[1])):
        assert judge(rules, phone, answer, NOW, NOW).outcome is Outcome.RIGHT
        renamed = answer | {"epoch": other.number}
        assert judge(other, phone, renamed, NOW, NOW).outcome is Outcome.WRONG


def test_the_books_hold_all_that_decides(workshop: Workshop) -> None:
    """Lists, frozen seats and patches come from the store: a whole crowd's answers are right."""
    image = crowds.image()
    workshop.push(image)
    rules = Books(workshop.store).newest()
    assert rules.members(10_000) == crowds.IDS
    assert all(0 < len(ids) <= 7 for ids in rules.members(7).values())
    assert rules.frozen.keys() == {("cake", "first")}
    assert rules.patches.keys() == {COFFEE}
    desk = crowds.desk(image)
    population = Population(1, 200, rules.plan, rules.members(), member_share=0.3)
    for number in range(200):
        phone = population.phone(number)
        answer = orjson.loads(desk.ask(phone, NOW))
        verdict = judge(rules, phone, answer, NOW, NOW)
        assert verdict.outcome is Outcome.RIGHT, verdict.sentence


def test_epochs_share_what_did_not_change(workshop: Workshop) -> None:
    """Two epochs with the same lists have them in memory once, and few epochs are kept at all."""
    push_twice(workshop)
    books = Books(workshop.store)
    first, second = books.rules(1), books.rules(2)
    assert first.lists["staff"] is second.lists["staff"]
    assert first.table is second.table is not None
    assert books.rules(1) is first
    image = crowds.image()
    for seconds in range(KEPT):
        laid = [PAUSE, CHECK_AFTER | {"value": str(seconds)}]
        workshop.push(relay_image(image.contents, image.tree, image.blobs.__getitem__, laid))
    for number in range(2, KEPT + 3):
        books.rules(number)
    assert books.rules(KEPT + 2) is books.newest()
    assert books.rules(1) is not first


def test_a_push_has_only_what_it_changed_read_again(workshop: Workshop) -> None:
    """A changed app is read again and the others are not, and all is as if all were; so is this.

    Once a file that all apps share has changed, all are read again.
    """
    more = crowds.FILES["apps/tea.yaml"].replace("id: most", "id: others")
    shared = crowds.FILES["workspace.yaml"].replace("check_after: 600", "check_after: 60")
    versions = {"apps/tea.yaml": more}, {"workspace.yaml": shared}
    workshop.push(crowds.image())
    for changed in versions:
        workshop.push(crowds.image(crowds.FILES | changed), force=True)
    books = Books(workshop.store)
    first, second, third = map(books.rules, (1, 2, 3))
    same = {app for app, found in second.apps.items() if found is first.apps[app]}
    assert same == {COFFEE, "cake", "plain"}
    assert [release.id for release in second.apps["tea"].releases] == ["first", "others"]
    assert not any(found is second.apps[app] for app, found in third.apps.items())
    for rules in (first, second, third):
        alone = Books(workshop.store).rules(rules.number)
        assert alone.apps == rules.apps
        assert alone.plan.workspace == rules.plan.workspace
        assert alone.plan.switches == rules.plan.switches
        phones = [Population(1, 50, each.plan).phone for each in (alone, rules)]
        assert all(phones[0](number) == phones[1](number) for number in range(50))


def test_an_epoch_that_gateways_serve_already_is_waited_for(workshop: Workshop) -> None:
    """The store's pointer follows Redis's: the books look again until it has."""
    push_twice(workshop)
    newest = stored_pointer(workshop.store)
    first = workshop.store.get_named(LIVE)
    assert newest is not None and first == newest
    books = Books(workshop.store)
    older = layout.encode_pointer(1, _digest(workshop, 1))
    told = iter([older, older, newest])
    late = Books(workshop.store, lambda: next(told))
    assert late.rules(2).number == 2
    with pytest.raises(Refused, match="no epoch 3 yet: the newest is 2"):
        books.rules(3, patience_seconds=0)
    with pytest.raises(Refused, match="no epoch 0"):
        books.rules(0)


def _digest(workshop: Workshop, number: int) -> bytes:
    from compiler.publication.history import find_epoch

    pointer = stored_pointer(workshop.store)
    assert pointer is not None
    return find_epoch(workshop.store, layout.decode_pointer(pointer)[1], number).digest


def test_redis_tells_of_an_epoch_before_the_store_does(
    workshop: Workshop, server: RedisServer
) -> None:
    """With Redis's URL the newest epoch is Redis's; if that is away, the store's."""
    push_twice(workshop)
    workshop.store.put_named(LIVE, layout.encode_pointer(1, _digest(workshop, 1)))
    folder = str(workshop.folder)
    assert open_books(folder, "demo").newest().number == 1
    assert open_books(folder, "demo", server.url).newest().number == 2
    away = open_books(folder, "demo", f"redis://127.0.0.1:{free_port()}/0")
    assert away.newest().number == 1
    with pytest.raises(Refused, match="no epoch 2 yet"):
        away.rules(2, patience_seconds=0)


def test_nothing_damaged_or_missing_is_judged_by(workshop: Workshop, tmp_path: Path) -> None:
    """An empty store, none, and a blob with other bytes are told of, not guessed at."""
    with pytest.raises(Refused, match="Nothing was published"):
        Books(workshop.store).newest()
    with pytest.raises(StoreError):
        open_books(str(tmp_path / "nowhere"), "demo")
    image = crowds.image()
    workshop.push(image)
    digest = image.tree["lists"]["staff"]["digest"].hex()
    (workshop.folder / "blobs" / digest[:2] / digest).write_bytes(b"stranger\n")
    with pytest.raises(FormatError):
        Books(workshop.store).newest()
