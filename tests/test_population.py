"""The crowd: the same from the same seed, as skewed as it says, asking what the plan is about."""

import json
import subprocess
import sys
from collections import Counter
from math import sqrt
from random import Random
from typing import Any

import msgpack
import orjson
import pytest

import crowds
from compiler.language.reading import read_files
from gateway.attribute import BUILT_IN
from gateway.request import parse_body
from gateway.version import parse_version
from loadtest.population import MEMBERS, NAMED, NO_DEVICE, PACKED, SIGNED_IN, Population
from tools import ROOT

PLAN = crowds.plan()
COUNT = 6_000
PHONES = [Population(1, COUNT, PLAN, crowds.IDS).phone(number) for number in range(COUNT)]
DIGEST = """
import hashlib, json, crowds
from loadtest.population import Population
crowd = Population(7, 300, crowds.plan(), crowds.IDS)
text = json.dumps([(crowd.packed(each), crowd.phone(each)) for each in range(300)])
print(hashlib.sha256(text.encode()).hexdigest())
"""


def many_apps(count: int) -> Any:
    """Read a plan of so many small apps."""
    names = [f"a-{number:02}" for number in range(count)]
    versions = ("1.0", "1.1", "1.2", "1.3")
    files = {"workspace.yaml": "workspace: demo\n"} | crowds.records(dict.fromkeys(names, versions))
    for name in names:
        packages = ", ".join(f"{{version: {version}}}" for version in versions)
        files[f"apps/{name}.yaml"] = (
            f"app: {name}\npackages: [{packages}]\n"
            "releases: [{id: all, package: 1.3, audience: everyone}]\n"
        )
    plan = read_files(files, now=0).plan
    assert plan is not None
    return plan


def near(count: int, total: int, share: float) -> bool:
    """Tell whether a count is within 5 sigma of its share of independent draws."""
    return abs(count - total * share) <= 5 * sqrt(total * share * (1 - share))


def test_a_phone_is_the_same_whoever_asks_and_when() -> None:
    """Asked in any order, again, or by another process: the seed and the number say it all."""
    crowd = Population(1, COUNT, PLAN, crowds.IDS)
    numbers = list(range(0, COUNT, 7))
    Random(1).shuffle(numbers)
    for number in numbers:
        phone = crowd.phone(number)
        assert phone == PHONES[number]
        phone["apps"].clear()  # a caller may do with it what it likes
        phone.setdefault("accept", []).append("x")
        assert crowd.phone(number) == PHONES[number]
    assert Population(2, COUNT, PLAN, crowds.IDS).phone(0) != PHONES[0]
    said = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_every_phone_can_be_asked_for() -> None:
    """A gateway reads every phone's request, in both notations; however odd, none breaks it."""
    for phone in PHONES:
        json_body, packed_body = orjson.dumps(phone), msgpack.packb(phone)
        for body, packed in ((json_body, False), (packed_body, True)):
            check = parse_body(body, packed=packed)
            assert check.apps == phone["apps"]
            for name in (*BUILT_IN, "accept"):
                assert check.sent.get(name) == phone.get(name)


def test_apps_follow_zipf() -> None:
    """The app of rank r is asked about r times less than the first; so are phones with r apps."""
    plan = many_apps(30)
    crowd = Population(3, COUNT, plan, most_apps=1)
    counts = Counter(app for number in range(COUNT) for app in crowd.phone(number)["apps"])
    harmonic = sum(1 / rank for rank in range(1, 31))
    for rank, app in enumerate(plan.apps, 1):
        assert near(counts[app.id], COUNT, 1 / rank / harmonic), app.id
    full = Population(3, COUNT, plan, most_apps=20)
    sizes = Counter(
        len([app for app in full.phone(number)["apps"] if app != "strange"])
        for number in range(COUNT)
    )
    assert max(sizes) <= 20
    assert near(sizes[1], COUNT, 1 / sum(1 / rank for rank in range(1, 21)))
    assert sizes[1] > sizes[2] > sizes[4] > sizes[8] > 0


def test_newer_versions_are_commoner() -> None:
    """Of an app's packages each is twice as common as the one before; some phones have none."""
    plan = many_apps(1)
    crowd = Population(4, COUNT, plan)
    have = Counter(crowd.phone(number)["apps"]["a-00"] for number in range(COUNT))
    for newer, older in (("1.3", "1.2"), ("1.2", "1.1"), ("1.1", "1.0")):
        both = have[newer] + have[older]
        assert near(have[newer], both, 2 / 3)
    assert have[None] > 0.1 * COUNT
    assert have["0.0.1"] > 0
    systems: dict[str, Counter[str]] = {}
    for phone in PHONES:
        version = phone.get("os_version")
        if phone["platform"] in ("android", "ios") and isinstance(version, str):
            systems.setdefault(phone["platform"], Counter())[version] += 1
    for found in systems.values():
        ordered = sorted(
            (text for text in found if found[text] > COUNT / 50),
            key=lambda text: parse_version(text) or (),
        )
        assert len(ordered) > 3
        assert found[ordered[-1]] > found[ordered[0]]


def test_members_come_from_every_list() -> None:
    """The share on lists is as told; each list has its part, and ids are of its kind."""
    listed = {"user": set(crowds.IDS["staff"]), "device": set(crowds.IDS["phones"])}
    half = Population(5, COUNT, PLAN, crowds.IDS, member_share=0.5)
    for share, phones in ((MEMBERS, PHONES), (0.5, list(map(half.phone, range(COUNT))))):
        on = {
            kind: [phone[kind] for phone in phones if phone.get(kind) in ids]
            for kind, ids in listed.items()
        }
        assert near(sum(map(len, on.values())), COUNT, share)
        assert near(len(on["user"]), COUNT, share / 2)
    assert set(on["user"]) == listed["user"], "the sample has every member"
    nobody = Population(5, 500, PLAN, member_share=1)
    assert all(nobody.phone(n).get("user") not in listed["user"] for n in range(500))


def test_the_plans_own_values_are_sent() -> None:
    """Every value that a condition or a host-app range names is sent by some phone."""
    sent: dict[str, set[Any]] = {}
    for phone in PHONES:
        custom = phone.get("custom")
        own = custom if isinstance(custom, dict) else {}
        for name, value in {**phone, **{f"custom.{key}": own[key] for key in own}}.items():
            if isinstance(value, str | int):
                sent.setdefault(name, set()).add(value)
    assert {"gold", 3, "neither"} <= sent["custom.tier"]
    assert {"10.2.0", "10.1.0", "11", "10.2"} <= sent["client_version"]
    assert {"12", "16.9"} <= sent["os_version"]
    assert {"xix", "rex"} <= sent["brand"]
    assert {"CN-XJ", "CN-ZJ"} <= sent["region"]
    named = sum(phone.get("brand") in ("xix", "rex") for phone in PHONES)
    assert near(named, COUNT, NAMED)


def test_some_phones_are_odd() -> None:
    """Strange input comes in its small share: no device, no such app, MessagePack, and so on."""
    crowd = Population(1, COUNT, PLAN)
    assert abs(sum(map(crowd.packed, range(COUNT))) - PACKED * COUNT) < 20
    assert near(sum("user" in phone for phone in PHONES), COUNT, SIGNED_IN)
    assert near(sum("device" not in phone for phone in PHONES), COUNT, NO_DEVICE)
    kinds = {
        "placeholder": any(p.get("device") in PLAN.workspace.placeholders for p in PHONES),
        "strange app": any("strange" in phone["apps"] for phone in PHONES),
        "switches": any(phone.get("switches") is True for phone in PHONES),
        "accept": any(phone.get("accept") == [] for phone in PHONES),
        "junk": any("junk" in phone["apps"].values() for phone in PHONES),
        "a number": any(7 in phone["apps"].values() for phone in PHONES),
        "unreadable": any(phone.get("network") == "?" * 300 for phone in PHONES),
    }
    assert all(kinds.values()), kinds
    assert all(json.loads(orjson.dumps(phone)) == phone for phone in PHONES[:100])


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"member_share": 1.5}, {"most_apps": 0}, {"plan": many_apps(0)}]
)
def test_what_cannot_be_drawn_from_is_refused(wrong: dict[str, Any]) -> None:
    """A crowd has phones and apps, and a phone has a number among them."""
    with pytest.raises(ValueError, match=r"population|apps"):
        Population(**({"seed": 1, "size": 1, "plan": PLAN} | wrong))
    for number in (-1, COUNT):
        with pytest.raises(ValueError, match="no phone"):
            Population(1, COUNT, PLAN).phone(number)
