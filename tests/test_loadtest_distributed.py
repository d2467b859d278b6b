"""A distributed load test: one master and two workers of plain Locust, as separate processes."""

import re
from pathlib import Path

from load_runs import LONGEST, QUICK, ended, rows_of, start, wait_for
from phones import answered_by
from processes import RedisServer, free_port, running_gateway, wait_until
from publishing import Workshop, image_of, plan_files

COUNTING = """
import os
from locust import events

sent = []

@events.request.add_listener
def _request(name, **_):
    sent.extend(["check"] * (name == "check"))

@events.quit.add_listener
def _quit(**_):
    with open(os.path.join({folder!r}, str(os.getpid())), "w") as file:
        file.write(str(len(sent)))
"""
"""Locust's own sum at the master lacks what a worker tells over half a second late."""


def test_a_master_sums_what_its_workers_count(
    tmp_path: Path, server: RedisServer, workshop: Workshop
) -> None:
    """One master and two workers, plain Locust, separate processes: each check is counted once.

    Each worker's Locust tells of every request; these must be the report's number, to the last
    one. The workers are told everything by the master, and have phones of their own.
    """
    workshop.push(image_of(plan_files(("1.0.0.1", "1.0.0.2"))))
    (tmp_path / "counts").mkdir()
    (tmp_path / "counting.py").write_text(COUNTING.format(folder=str(tmp_path / "counts")))
    files = f"loadtest/locustfile.py,{tmp_path / 'counting.py'}"
    plain = ("-m", "locust", "-f", files, "--loglevel", "WARNING")
    port = str(free_port(also=1))
    with running_gateway(tmp_path / "gateway", server.url) as gateway:
        words = ["--master", "--master-bind-port", port, "--expect-workers", "2", "--headless"]
        words += ["-H", gateway.url, *QUICK, "-r", "4", "-t", "300s", "--seed", "7"]
        words += ["--report", str(tmp_path / "r.html"), "--series", str(tmp_path / "s.csv")]
        words += ["--only-summary"]
        with ended(start(workshop.folder, *plain, *words)) as master:
            joins = ("--worker", "--master-port", port)
            one, two = (start(Path("nowhere"), *plain, *joins) for _ in range(2))
            with ended(one), ended(two):
                for _ in range(2):  # seconds apart: by the second, all phones are counted
                    wait_for(master, "4 users")
                enough = answered_by(gateway) + 200
                wait_until(lambda: answered_by(gateway) > enough, "enough is asked")
                master.terminate()
                said, _ = master.communicate(timeout=LONGEST)
                assert master.returncode == 0, said
                assert [each.wait(LONGEST) for each in (one, two)] == [0, 0], said
                for each in (one, two):
                    assert each.stdout is not None
                    each.stdout.close()
    rows = rows_of(tmp_path / "s.csv")
    by_locust = sum(int(path.read_text()) for path in (tmp_path / "counts").iterdir())
    assert sum(int(row["answered"]) + int(row["failed"]) for row in rows) == by_locust > 100
    assert sum(int(row["judged_right"]) for row in rows) > by_locust // 10
    assert max(int(row["phones"]) for row in rows) == 800
    assert "a master and 2 workers" in (tmp_path / "r.html").read_text()
    assert "seed 7" in (tmp_path / "r.html").read_text()


def test_a_worker_that_is_lost_may_have_hidden_anything(
    tmp_path: Path, server: RedisServer, workshop: Workshop
) -> None:
    """Who killed one of two workers in the midst of a run is told so, by the exit code, too."""
    workshop.push(image_of(plan_files(("1.0.0.1", "1.0.0.2"))))
    plain, port = ("-m", "locust", "-f", "loadtest/locustfile.py"), str(free_port(also=1))
    with running_gateway(tmp_path / "gateway", server.url) as gateway:
        words = ("--master", "--master-bind-port", port, "--expect-workers", "2", "--headless")
        words += ("-H", gateway.url, *QUICK, "-r", "4", "-t", "300s", "--only-summary")
        words += ("--report", str(tmp_path / "r.html"))
        joins = ("--worker", "--master-port", port, "--loglevel", "WARNING")
        with ended(start(workshop.folder, *plain, *words)) as master:
            one, two = (start(Path("nowhere"), *plain, *joins) for _ in range(2))
            with ended(one), ended(two):
                wait_for(master, "checks/s")
                two.kill()
                wait_for(master, "setting state to missing")
                master.terminate()
                said, _ = master.communicate(timeout=LONGEST)
            for each in (one, two):
                assert each.stdout is not None
                each.stdout.close()
    assert master.returncode == 1, said
    assert re.search("NOT HELD +workers heard to the end: 1 of 2", said)
