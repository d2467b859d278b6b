"""The release day, rehearsed in short: a push, a pause, a worker and Redis killed, all judged."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from compiler.language.reading import read_files
from load_runs import rehearse, rows_of
from loadtest.rehearsal import plan
from loadtest.rehearsal.__main__ import FOUND_OUT_SECONDS, main, unconfirmed
from loadtest.rehearsal.acts import Act, Marks, perform

MARKS = [
    *("push", "pushed", "pause", "worker killed", "Redis killed", "Redis started", "Redis back"),
    *("push", "pushed"),
]


def test_a_short_release_day_fails_nobody_and_answers_rightly(tmp_path: Path) -> None:
    """Every act is played on real processes, every answer is judged, and none fails or is wrong."""
    options = ("--act", "day", "--seconds", "8", "--phones", "200", "--every", "5")
    # A machine that runs two suites at once is slow: that is no fault of what is rehearsed.
    done = rehearse(tmp_path, *options, "--p99-ms", "100000", "--sample", "100")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All held." in done.stdout
    marked = [json.loads(line) for line in (tmp_path / "day-marks.jsonl").read_text().splitlines()]
    assert [each["text"] for each in marked] == MARKS
    assert [each["at"] for each in marked] == sorted(each["at"] for each in marked)
    seconds = rows_of(tmp_path / "day.csv")
    assert sum(int(each["judged_right"]) for each in seconds) > 20
    assert sum(int(each["judged_wrong"]) + int(each["failed"]) for each in seconds) == 0
    epochs = [int(each["newest_epoch"]) for each in seconds if each["newest_epoch"]]
    assert epochs == sorted(epochs)
    assert (epochs[0], epochs[-1]) == (1, 4), "a push, a pause and a push were seen in answers"
    log = (tmp_path / "day-gateway.log").read_text()
    assert "a worker ended, and is replaced" in log
    assert "SIGKILL" in log
    report = (tmp_path / "day.html").read_text()
    for text in ("epoch 2", "epoch 4", *MARKS):
        assert text in report


@pytest.mark.parametrize("edition", [1, 2, 3])
def test_the_plan_is_whole_and_has_every_kind_of_release(tmp_path: Path, edition: int) -> None:
    """Each edition is valid, and differs from the one before."""
    plan.write_plan(tmp_path, edition, plan.now(), 600)
    texts = {
        str(path.relative_to(tmp_path)): path.read_text()
        for path in tmp_path.rglob("*")
        if path.suffix in {".yaml", ".json"}
    }
    reading = read_files(texts, now=time.time())
    assert reading.plan is not None, reading.diagnostics
    assert not reading.diagnostics
    audiences = [
        release["audience"]
        for number in range(len(plan.APPS))
        for release in json.loads(texts[f"apps/app-{number}.yaml"])["releases"]
    ]
    kinds = {name for each in audiences if isinstance(each, dict) for name in each}
    assert kinds == {"lists", "not_lists", "percent", "by", "first", "until"}
    assert "everyone" in audiences
    assert (f"edition-{edition}" in texts["apps/app-0.yaml"]) == (edition > 1)


def _series(*rows: tuple[int, int], unjudged: int = 0) -> str:
    lines = [f"{second},{count},{unjudged}" for second, count in rows]
    return "\n".join(["unix_second,judged_unconfirmed,unjudged", *lines])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([(99, 0), (100, 5), (110, 5), (110 + FOUND_OUT_SECONDS, 5)], []),
        ([(99, 2), (105, 5)], ["2 answers", "first at 99"]),
        ([(105, 5), (111 + FOUND_OUT_SECONDS, 3)], ["3 answers", "first at 116"]),
    ],
)
def test_answers_without_lists_are_excused_while_redis_was_away(
    rows: list[tuple[int, int]], says: list[str]
) -> None:
    """Before, and once gateways must have found out that it is back, they are a fault."""
    found = unconfirmed(_series(*rows), (100.5, 110.5))
    assert len(found) == bool(says)
    assert all(text in found[0] for text in says)


def test_without_an_outage_nothing_is_excused() -> None:
    """A storm kills no Redis: each answer without its lists is a fault."""
    assert unconfirmed(_series((100, 0)), (0.0, 0.0)) == []
    assert len(unconfirmed(_series((100, 1)), (0.0, 0.0))) == 1


def test_an_answer_that_nobody_could_judge_is_a_fault() -> None:
    """Also while Redis was away: plans are read from the store."""
    found = unconfirmed(_series((105, 1), unjudged=3), (100.0, 110.0))
    assert found == ["3 answers that could not be judged"]


def test_acts_are_played_in_order_and_marked(tmp_path: Path) -> None:
    """An act that takes long makes the next one late, never double or lost."""
    played: list[Any] = []
    acts = [
        Act(0.0, "first", lambda: (time.sleep(0.2), played.append(1)), "first done"),
        Act(0.1, "second", lambda: played.append(2)),
    ]
    marks = Marks(tmp_path / "marks")
    perform(acts, marks, 0.1, apart=0.05)
    assert played == [1, 2]
    lines = [json.loads(line) for line in (tmp_path / "marks").read_text().splitlines()]
    assert [each["text"] for each in lines] == ["first", "first done", "second"]
    assert lines[2]["at"] - lines[1]["at"] >= 0.04
    assert marks.outage() == (0.0, 0.0)


@pytest.mark.parametrize(
    "arguments", [["--minutes", "0"], ["--phones", "-1"], ["--act", "comedy"], ["--sample", "x"]]
)
def test_what_cannot_be_rehearsed_is_usage(arguments: list[str]) -> None:
    """Exit code 2 before any process is started."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
