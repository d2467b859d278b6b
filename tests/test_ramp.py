"""A ramp on running gateways: a step happens at its second, and nobody pushes."""

import json
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import processes
from publishing import COFFEE, Workshop, image_of, plan_files


def ask(gateway: processes.Gateway) -> tuple[float, Any]:
    """Ask for the one app; give the moment when the answer was there, and the answer."""
    body = json.dumps({"apps": {COFFEE: "1"}, "device": "d-1"}).encode()
    asked = urllib.request.Request(f"{gateway.url}/v1/check", body)
    with urllib.request.urlopen(asked, timeout=30) as response:
        return time.time(), json.loads(response.read())


def plan(second: int) -> dict[str, str]:
    """Write a plan in which version 2 is for nobody, and from a second on for everyone."""
    files = plan_files(["1", "2"])
    at = datetime.fromtimestamp(second, UTC).isoformat()
    ramp = f"{{percent: [{{at: {at}, percent: 100}}]}}"
    text = files["apps/coffee.yaml"].replace(
        "{id: r2, package: 2, audience: everyone}", f"{{id: r2, package: 2, audience: {ramp}}}"
    )
    return {**files, "apps/coffee.yaml": text}


def serves(gateway: processes.Gateway, number: int) -> bool:
    """Tell whether a gateway serves an epoch; before its first one it answers nobody."""
    with urllib.request.urlopen(f"{gateway.admin_url}/metrics", timeout=30) as response:
        return f"tidegate_epoch {number}.0".encode() in response.read()


def round_of(gateways: Sequence[processes.Gateway]) -> list[tuple[float, float, tuple[int, str]]]:
    """Ask each: from when, until when, and which epoch said what."""
    told = []
    for gateway in gateways:
        before = time.time()
        after, answer = ask(gateway)
        told.append((before, after, (answer["epoch"], answer["apps"][0]["status"])))
    return told


def test_a_step_happens_at_its_second(
    workshop: Workshop, server: processes.RedisServer, tmp_path: Path
) -> None:
    """Two gateways offer nothing before the step and the package from it on, in one epoch."""
    with ExitStack() as stack:
        gateways = [
            stack.enter_context(processes.running_gateway(tmp_path / name, server.url))
            for name in ("one", "two")
        ]
        for ahead in (4, 8, 16, 32):  # a busy machine may come to it too late
            second = int(time.time()) + ahead
            number = workshop.push(image_of(plan(second))).number
            processes.wait_until(
                lambda number=number: all(serves(each, number) for each in gateways),
                "both serve the epoch",
            )
            told = [round_of(gateways)]
            if all(after < second for _, after, _ in told[0]):
                break
        while told[-1][0][0] < second + 0.5:
            told.append(round_of(gateways))
            time.sleep(0.02)
    assert {epoch for each in told for _, _, (epoch, _) in each} == {number}
    for each in zip(*told, strict=True):
        early = {status for _, after, (_, status) in each if after < second}
        late = {status for before, _, (_, status) in each if before >= second}
        assert (early, late) == ({"latest"}, {"update"})
