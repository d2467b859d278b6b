"""Reports: what is read of them, what is passed over, and that they leave no check waiting."""

import asyncio
import re
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import msgpack
import orjson
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from epochs import APP, make_epoch
from gateway.apps import Apps
from gateway.cdn import Cdn
from gateway.errors import RequestError
from gateway.hashing import id_hash, id_seed
from gateway.keys import CENSUS_DAYS, REPORTS_DAYS
from gateway.metrics import MAX_SERIES, OTHER, Metrics
from gateway.remembered import Memory
from gateway.report import EVENTS, MAX_REPORTS, Place, known, read_reports, subject
from gateway.tally import ENTRIES, Heard
from in_process import Served, serving, snapshot_of
from publishing import COFFEE, image_of, plan_files
from test_openapi import DOCUMENT, validator

POST = "/v1/report"
PACKED = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
SOUND = {"app": APP, "release": "stable", "event": "installed"}
PLACE = Place(APP, "stable", "installed")
TELLING = SOUND | {"version": "1.0.0.2", "from": None, "reason": "as told", "later": [1]}


def body(*reports: Any, **more: Any) -> bytes:
    """Write a request."""
    return orjson.dumps({"device": "d-1", "reports": list(reports)} | more)


def heard(served: Served) -> dict[Place, Heard]:
    """Look at what waits for Redis."""
    return served.metrics.tally._reported


MISSING = "The body has no member `reports`: an array of what happened."


@pytest.mark.parametrize(
    ("text", "status", "sentence"),
    [
        (b"{", 400, "The body is not JSON"),
        (b"[]", 400, "The body must be an object, not an array."),
        (b"{}", 400, MISSING),
        (b'{"reports":{}}', 400, "`reports` must be an array of what happened, not an object."),
        (b'{"reports":null}', 400, "`reports` must be an array of what happened, not null."),
        (body(*[{}] * 101), 400, "`reports` has 101 members; at most 100 are read."),
        (body(device="d" * 257), 400, "`device` is 257 bytes long; an id has at most 256."),
        (body(user="界" * 100), 400, "`user` is 300 bytes long; an id has at most 256."),
        (body(x="x" * 65_536), 413, "The body is over 65,536 bytes; send less at once."),
    ],
)
async def test_what_breaks_the_whole_is_refused(text: bytes, status: int, sentence: str) -> None:
    """A body that cannot be read gets a problem that says what is wrong, and counts nothing."""
    with pytest.raises(RequestError) as found:
        read_reports(text, packed=False)
    assert found.value.status == status
    assert str(found.value).startswith(sentence)
    async with (
        serving(snapshot_of(make_epoch())) as served,
        aiohttp.ClientSession(served.url) as session,
    ):
        response = await session.post(POST, data=text)
        said = orjson.loads(await response.read())
        assert (response.status, said["detail"]) == (status, str(found.value))
        assert not heard(served)


WRONG: tuple[Any, ...] = (
    None,
    1,
    "installed",
    [],
    {},
    SOUND | {"app": 2021},
    SOUND | {"app": None},
    SOUND | {"app": "nobody"},
    SOUND | {"app": "a" * 10_000},
    SOUND | {"release": None},
    SOUND | {"release": ["stable"]},
    SOUND | {"release": "Stable"},
    SOUND | {"event": "opened"},
    SOUND | {"event": "Installed"},
    SOUND | {"event": ["installed"]},
    SOUND | {"event": {}},
    {"app": APP, "release": "stable"},
    {"release": "stable", "event": "failed"},
)


@pytest.mark.parametrize("packed", [False, True])
async def test_a_wrong_report_is_passed_over_by_itself(packed: bool) -> None:
    """Whatever is wrong with one, those around it count; the answer and a metric say how many."""
    sent = {"device": "d-1", "reports": [SOUND, *WRONG, TELLING]}
    async with (
        serving(snapshot_of(make_epoch())) as served,
        aiohttp.ClientSession(served.url) as session,
    ):
        data = msgpack.packb(sent) if packed else orjson.dumps(sent)
        response = await session.post(POST, data=data, headers=PACKED if packed else {})
        read = await response.read()
        text = await (await session.get(served.admin_url + "/metrics")).text()
        assert response.status == 202
        assert response.headers["Cache-Control"] == "no-store"
        said = msgpack.unpackb(read) if packed else orjson.loads(read)
        assert said == {"accepted": 2, "passed_over": len(WRONG)}
        validator("Accepted").validate(said)
        assert heard(served)[PLACE].times == 2
        assert len(heard(served)) == 1
    line = f'tidegate_reports_total{{app="{APP}",event="installed",release="stable"}} 2.0'
    assert line in text
    assert f"tidegate_reports_passed_over_total {len(WRONG)}.0" in text


TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from([APP, *EVENTS])
SCALAR = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT
MEMBERS = st.sampled_from(["app", "release", "event", "version", "from", "reason", "x"])
ANYTHING = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner) | st.dictionaries(MEMBERS | TEXT, inner),
    max_leaves=9,
)


@given(sent=st.fixed_dictionaries({"reports": st.lists(ANYTHING, max_size=MAX_REPORTS)}))
def test_no_report_is_read_that_says_too_little(sent: Any) -> None:
    """Of any values, what is read names an app, a release and an event; the rest is passed over."""
    found = read_reports(msgpack.packb(sent), packed=True)
    assert found.sent == len(sent["reports"])
    assert all(isinstance(text, str) for place in found.sound for text in place)
    assert {place.event for place in found.sound} <= set(EVENTS)


async def test_an_unknown_app_costs_one_look_up() -> None:
    """No report makes the gateway decode or keep what the epoch does not have."""
    snapshot = snapshot_of(make_epoch(apps=3))
    many = [SOUND | {"app": f"app-{at}"} for at in range(100)]
    assert known(read_reports(body(*many), packed=False), snapshot.apps) == []
    assert snapshot.apps.known == {}
    assert known(read_reports(body(SOUND), packed=False), snapshot.apps) == [PLACE]
    assert snapshot.apps.known.keys() == {APP}


@pytest.mark.parametrize(
    ("ids", "kind", "who"),
    [
        ({"device": "d", "user": "u"}, "device", "d"),
        ({"user": "u"}, "user", "u"),
        ({"device": "", "user": "u"}, "user", "u"),
        ({"device": 7, "user": "u"}, "user", "u"),
        ({"device": "Unknown", "user": "u"}, "user", "u"),
        ({"device": "unknown", "user": "UNKNOWN"}, "", ""),
        ({}, "", ""),
    ],
)
def test_the_device_is_the_subject_else_the_user(ids: Any, kind: str, who: str) -> None:
    """As in rollouts: the device's id, else the user's; placeholders are no ids."""
    reports = read_reports(orjson.dumps({"reports": []} | ids), packed=False)
    wanted = id_hash(who, id_seed("demo", kind)) if who else None
    assert subject(reports, snapshot_of(make_epoch()).settings) == wanted


async def test_who_has_no_id_counts_as_a_report_alone() -> None:
    """Without a subject the plain count rises, and no distinct one."""
    async with (
        serving(snapshot_of(make_epoch())) as served,
        aiohttp.ClientSession(served.url) as session,
    ):
        for ids in ({}, {"device": "unknown"}, {"device": "d-1"}, {"device": "d-1"}):
            response = await session.post(POST, data=body(SOUND, **{"device": None} | ids))
            assert response.status == 202
        assert heard(served)[PLACE].times == 4
        assert len(heard(served)[PLACE].subjects) == 1


async def test_a_dry_run_leaves_no_trace() -> None:
    """It is answered as usual, and nothing of it is counted or waits for Redis."""
    async with (
        serving(snapshot_of(make_epoch())) as served,
        aiohttp.ClientSession(served.url) as session,
    ):
        said = await (await session.post(POST, data=body(SOUND, {}, dry_run=True))).json()
        text = await (await session.get(served.admin_url + "/metrics")).text()
        assert said == {"accepted": 1, "passed_over": 1}
        assert not heard(served)
        assert "tidegate_reports_total{" not in text
        assert "tidegate_reports_passed_over_total 0.0" in text


async def test_the_path_has_one_method_and_the_origins_of_checks() -> None:
    """Other methods get 405 with Allow; web pages may report from the origins of the plan."""
    ours = {"Origin": "https://ours.example", "Access-Control-Request-Method": "POST"}
    async with (
        serving(snapshot_of(make_epoch(cors=("https://ours.example",)))) as served,
        aiohttp.ClientSession(served.url) as session,
    ):
        got = await session.get(POST)
        preflight = await session.options(POST, headers=ours)
        taken = await session.post(POST, data=body(SOUND), headers=ours)
        assert (got.status, got.headers["Allow"]) == (405, "POST, OPTIONS")
        assert preflight.headers["Access-Control-Allow-Methods"] == "POST, OPTIONS"
        assert taken.headers["Access-Control-Allow-Origin"] == "https://ours.example"
        assert (taken.status, got.headers["Content-Type"]) == (202, "application/problem+json")


async def test_a_gateway_with_too_much_to_do_takes_no_report() -> None:
    """Without an epoch, and when turns are late, it answers 503 with Retry-After, as to checks."""
    async with serving(None) as served, aiohttp.ClientSession(served.url) as session:
        empty = await session.post(POST, data=body(SOUND))
        served.follower.snapshot = snapshot_of(make_epoch())
        served.client._waiting.late = True
        late = await session.post(POST, data=body(SOUND))
        served.client._waiting.late = False
        taken = await session.post(POST, data=body(SOUND))
        assert (empty.status, empty.headers["Retry-After"]) == (503, "5")
        assert (late.status, late.headers["Retry-After"]) == (503, "1")
        assert taken.status == 202
        assert heard(served)[PLACE].times == 1
        answers = DOCUMENT["paths"][POST]["post"]["responses"]
        assert {"202", "400", "413", "503"} <= answers.keys()


async def test_a_report_that_has_arrived_is_answered_without_a_wait() -> None:
    """From its whole body to its answer a report gives no turn away: nothing is awaited."""
    async with serving(snapshot_of(make_epoch())) as served:
        protocol = BaseProtocol(asyncio.get_running_loop())
        content = aiohttp.StreamReader(protocol, 2**16)
        content.feed_data(body(SOUND))
        content.feed_eof()
        request = make_mocked_request("POST", POST, payload=content, protocol=mock.Mock())
        answering = served.client.handle(request)
        with pytest.raises(StopIteration) as answered:  # it never suspends
            answering.send(None)
        assert answered.value.value.status == 202
        assert heard(served)[PLACE].times == 1


def test_series_of_reports_are_bounded() -> None:
    """However many releases there are, the series stay bounded, and no report goes uncounted."""
    metrics = Metrics()
    for at in range(3_000):
        metrics.report(Place("app", f"r{at}", "failed"), at)
    family = next(each for each in metrics.collect() if each.name == "tidegate_reports")
    assert len(family.samples) <= MAX_SERIES
    assert sum(sample.value for sample in family.samples) == 3_000
    others = [sample for sample in family.samples if sample.labels["release"] == OTHER]
    assert [sample.labels["event"] for sample in others] == ["failed"]


async def test_the_printed_report_is_answered_as_printed() -> None:
    """The guide's example, sent to a gateway that has one of its two apps, gets its answer."""
    guide = (Path(__file__).parent.parent / "gateway/README.md").read_text()
    asked, answered = re.findall(r"^```http\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)[0].split(
        "\n\n"
    )
    sent = asked.removeprefix(f"POST {POST}\n").replace('"staff"', '"stable"')
    validator("Reports").validate(orjson.loads(sent))
    async with (
        serving(snapshot_of(make_epoch())) as served,
        aiohttp.ClientSession(served.url) as session,
    ):
        response = await session.post(POST, data=sent)
        assert (
            f"{response.status}\n{await response.text()}\n".replace(":", ": ").replace(",", ", ")
            == answered
        )
    assert all(f"`{event}`" in guide for event in EVENTS)
    assert f"reports in a request | {MAX_REPORTS} |" in guide
    assert f"up to\n  {ENTRIES:,} distinct ones" in guide
    assert f"kept for {REPORTS_DAYS} days" in guide
    assert f"for {CENSUS_DAYS} days" in guide


@pytest.mark.parametrize("change", ["live", "state: paused", "state: ended", "withdrawn"])
def test_what_was_stopped_is_reported_on_still(change: str) -> None:
    """A release that is paused, ended or withdrawn may yet fail; one that never was may not."""
    files = plan_files(["1.0.0.1", "1.0.0.2"], withdrawn=["1.0.0.2"] * (change == "withdrawn"))
    if change.startswith("state"):
        line = "id: r1.0.0.2, "
        files["apps/coffee.yaml"] = files["apps/coffee.yaml"].replace(line, f"{line}{change}, ")
        assert change in files["apps/coffee.yaml"]
    image = image_of(files)
    programs = image.contents["programs"]
    apps = Apps(programs, Cdn([], None, Memory()), {}, image.blobs.__getitem__, Memory(), None)
    late = {"app": COFFEE, "release": "r1.0.0.2", "event": "failed"}
    never = late | {"release": "r1.0.0.3"}
    found = known(read_reports(body(late, never), packed=False), apps)
    assert found == [Place(COFFEE, "r1.0.0.2", "failed")]
