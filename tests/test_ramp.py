"""A ramp on running gateways: a step happens at its second, and nobody pushes."""

import json
import time
import urllib.request
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


def test_a_step_happens_at_its_second(
    workshop: Workshop, server: processes.RedisServer, tmp_path: Path
) -> None:
    """Two gateways offer nothing before the step and the package from it on, in one epoch."""
    with ExitStack() as stack:
        gateways = [
            stack.enter_context(processes.running_gateway(tmp_path / name, server.url))
            for name in ("one", "two")
        ]
        second = int(time.time()) + 4
        files = plan_files(["1", "2"])
        at = datetime.fromtimestamp(second, UTC).isoformat()
        ramp = f"{{percent: [{{at: {at}, percent: 100}}]}}"
        text = files["apps/coffee.yaml"].replace(
            "{id: r2, package: 2, audience: everyone}", f"{{id: r2, package: 2, audience: {ramp}}}"
        )
        workshop.push(image_of({**files, "apps/coffee.yaml": text}))
        told: list[tuple[float, float, str]] = []

        def is_over() -> bool:
            for gateway in gateways:
                before = time.time()
                after, answer = ask(gateway)
                told.append((before, after, answer["apps"][0]["status"]))
                assert answer["epoch"] == 1
            return told[-1][0] > second + 0.5

        def serves() -> bool:
            urls = [f"{gateway.admin_url}/metrics" for gateway in gateways]
            return all(b"tidegate_epoch 1.0" in urllib.request.urlopen(url).read() for url in urls)

        processes.wait_until(serves, "both serve the epoch")
        processes.wait_until(is_over, "the step is over")
    early = {status for _, after, status in told if after < second}
    late = {status for before, _, status in told if before >= second}
    assert (early, late) == ({"latest"}, {"update"})
