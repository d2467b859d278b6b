"""A gateway that is wrong in one bit is caught by the sample that a load test judges."""

import os
from collections import Counter
from pathlib import Path
from random import Random

import orjson

import crowds
from crowds import CAKE, COFFEE, PLAIN
from gateway import layout
from loadtest.books import Books
from loadtest.population import Population
from loadtest.referee import Outcome, judge
from loadtest.sample import judge_sample
from processes import Gateway, RedisServer
from publishing import Workshop
from wrong_gateway import Place, bitmaps, flip

SOAK = "TIDEGATE_SOAK" in os.environ
FLIPS = 10_000 if SOAK else 40
PHONES = 2_000 if SOAK else 300
CROWD, STEP = 20_000, 100
"""A crowd, of which one in a hundred is judged."""

NOW = crowds.STARTS + 100
IMAGE = crowds.image()
RULES = crowds.rules()


def program(app: str) -> layout.Program:
    """Give an app's program."""
    found: layout.Program = layout.decode(
        layout.Program, IMAGE.blobs[IMAGE.contents["programs"][app]]
    )
    return found


def desk_with(app: str, rank: int, place: Place) -> crowds.Desk:
    """Open the plan with one bit flipped."""
    data = program(app)
    flip(data, place, rank)
    wrong = {IMAGE.contents["programs"][app]: layout.encode(layout.Program, data)}
    return crowds.desk(IMAGE, lambda digest: wrong.get(digest) or IMAGE.blobs[digest])


def test_no_bit_of_the_tables_is_wrong_unnoticed() -> None:
    """Where a flipped bit changes what a phone is told, the referee does not find that right."""
    random = Random(1)
    flips = [
        (app, rank, place)
        for app in (COFFEE, CAKE, PLAIN)  # tea has an open window: either is right there
        for place in bitmaps(program(app))
        for rank in range(len(program(app)["releases"]))
    ]
    assert len(flips) > 200
    population = Population(1, PHONES, RULES.plan, RULES.members(), member_share=0.1)
    phones = [population.phone(number) for number in range(PHONES)]
    right_desk = crowds.desk(IMAGE)
    right = [right_desk.ask(phone, NOW) for phone in phones]
    seen: Counter[Outcome] = Counter()
    tables = set()
    for app, rank, place in random.sample(flips, min(FLIPS, len(flips))):
        desk = desk_with(app, rank, place)
        for phone, wanted in zip(phones, right, strict=True):
            told = desk.ask(phone, NOW)
            if told != wanted:
                verdict = judge(RULES, phone, orjson.loads(told), NOW, NOW)
                seen[verdict.outcome] += 1
                tables.add(place[0])
                assert verdict.outcome is not Outcome.RIGHT, (app, rank, place, phone)
    print(f"\nflipped bits: {dict(seen)}")
    assert seen[Outcome.WRONG] > 20 * seen[Outcome.UNCONFIRMED]
    assert {"attributes", "hosts"} <= tables


def test_a_wrong_gateway_is_caught_by_a_hundredth(
    workshop: Workshop, server: RedisServer, tmp_path: Path
) -> None:
    """Of one plan's gateways all answers to a sample are right; with one bit flipped some are not.

    It is one bit of coffee's 31 bitmaps of seven: who is on a WIFI is not offered `wifi`.
    """
    workshop.push(IMAGE)
    books = Books(workshop.store)
    rules = books.newest()
    population = Population(1, CROWD, rules.plan, rules.members())
    found = {}
    for name, module in {"right": ("gateway",), "wrong": crowds.wrong_module(IMAGE)}.items():
        gateway = Gateway(tmp_path / name, server.url, LOOKUP_TIMEOUT_MS="10000")
        gateway.module = module
        try:
            gateway.start()
            found[name] = judge_sample(gateway.url, books.rules, population, range(0, CROWD, STEP))
        finally:
            gateway.stop()
    right, wrong = found["right"], found["wrong"]
    assert (right.right, right.cases, right.failed) == (CROWD // STEP, [], 0)
    assert wrong.failed == wrong.unconfirmed == 0
    assert wrong.wrong > 0
    assert wrong.right + wrong.wrong == CROWD // STEP
    for case in wrong.cases:
        assert case.verdict.sentence.startswith(f"app {COFFEE}: `"), case
        assert case.verdict.sentence.endswith("by epoch 1")
