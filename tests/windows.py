"""Time windows in tests: plans that have one, publications of them, and phones that arrive."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any

from compiler.image import build_image
from compiler.language.reading import read_files
from compiler.publication.publisher import Published
from compiler.publication.windows import carry_over
from compiler.windows import windows_of
from gateway.hashing import id_hash, id_seed
from gateway.keys import Keys
from gateway.seating import SCRIPT, Ask, Place, arguments
from publishing import COFFEE, WORKSPACE, Workshop, record

NAME = f"{COFFEE}/first"
LATE = "2099-01-01T00:00:00Z"
SEED = id_seed(WORKSPACE, "device")


def plan_files(
    first: int, until: str = LATE, more: str = "", release: str = "", name: str = "first"
) -> dict[str, str]:
    """Write a plan whose release `name` has a window, for Xiaomi only; `stable` is for all."""
    window = f"{{first: {first}, until: '{until}'{more}}}"
    app = f"""app: {COFFEE}
packages: [{{version: 1.0.0.1}}, {{version: 1.0.0.2}}]
releases:
  - id: {name}
    package: 1.0.0.2
    audience: {window}
    when: [{{attribute: brand, in: [Xiaomi]}}]{release}
  - {{id: stable, package: 1.0.0.1, audience: everyone}}
"""
    return {
        "workspace.yaml": f"workspace: {WORKSPACE}\n"
        'cdn:\n  - {regions: ["*"], bases: ["https://cdn.example.com"]}\n',
        "apps/coffee.yaml": app,
        **record("1.0.0.1"),
        **record("1.0.0.2"),
    }


def push(workshop: Workshop, files: dict[str, str], **options: Any) -> Published:
    """Publish a plan as `push` does: with the windows frozen that are full or over."""
    plan = read_files(files, now=0).plan
    assert plan is not None
    known = workshop.live().tree["windows"] if workshop.mirror.pointer() else {}
    wanted = windows_of(plan.apps)
    frozen = carry_over(workshop.mirror, known, wanted, workshop.store.get_blob)
    return workshop.push(build_image(plan, [], frozen=frozen), **options)


def hash_of(device: str) -> int:
    """Hash a device's id."""
    return id_hash(device, SEED)


def sit(workshop: Workshop, device: str, *, dry_run: bool = False, takes: bool = True) -> int:
    """Run the script for one device, as a gateway would."""
    ask = Ask(COFFEE, (Place("first", 0, hash_of(device), takes),))
    client: Any = workshop.link
    return int(client.eval(SCRIPT, *arguments(Keys(WORKSPACE), ask, dry_run=dry_run)))


def crowd(workshop: Workshop, devices: Iterable[str]) -> set[str]:
    """Let devices arrive one after another; give those that sit."""
    return {device for device in devices if sit(workshop, device) == 1}


async def _ask(port: int, devices: Sequence[str], seated: set[str], brand: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for device in devices:
            request = {"device": device, "brand": brand, "apps": {COFFEE: None}}
            body = json.dumps(request).encode()
            writer.write(
                b"POST /v1/check HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            answer = await reader.readexactly(length)
            assert head.startswith(b"HTTP/1.1 200"), answer
            if json.loads(answer)["apps"][0]["release"] != "stable":
                seated.add(device)
    finally:
        writer.close()
        await writer.wait_closed()


def arrive(
    ports: Sequence[int], devices: Sequence[str], *, brand: str = "Xiaomi", streams: int = 16
) -> set[str]:
    """Let devices check at once, over several connections a gateway; give those that sit."""
    seated: set[str] = set()

    async def run() -> None:
        count = streams * len(ports)
        parts = [devices[at::count] for at in range(count)]
        await asyncio.gather(
            *(_ask(ports[at % len(ports)], part, seated, brand) for at, part in enumerate(parts))
        )

    asyncio.run(run())
    return seated
