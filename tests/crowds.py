"""What a load test's crowd asks in tests: a plan that uses most of the language, and its rules."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

import snapshots
from compiler.image import Image, build_image
from compiler.language.reading import read_files
from compiler.plan import Plan
from compiler.windows import Frozen, freeze, window_name
from gateway import bucket_layout, layout
from gateway.hashing import id_hash, id_seed
from gateway.request import parse_body
from gateway.snapshot import Snapshot, build
from loadtest.rules import Ids, Rules, SeatHashes

COFFEE, TEA, CAKE, PLAIN = "2021000000000001", "tea", "cake", "plain"
STARTS = 1_800_000_000
IDS = {
    "staff": [f"s-{number:03}" for number in range(200)],
    "phones": [f"p-{number:03}" for number in range(200)],
}
SIZES = {"identity": 9_000, "gzip": 4_000, "zstd": 3_500}
VERSIONS = {
    COFFEE: ("1.0.0.1", "1.0.0.2", "1.0.0.3", "1.0.0.4"),
    TEA: ("1.0", "1.1"),
    CAKE: ("2.0", "2.1"),
    PLAIN: ("1",),
}
FILES = {
    "workspace.yaml": """
workspace: demo
check_after: 600
cdn:
  - {regions: [CN-ZJ, "CN-S?"], bases: ["https://east.example.com", "https://cdn.example.com"]}
  - {regions: ["*"], bases: ["https://cdn.example.com"]}
""",
    "lists.yaml": """
lists:
  - {list: staff, of: user, file: lists/staff.txt}
  - {list: phones, of: device, file: lists/phones.txt}
  - {list: testers, of: user, regex: ["^s-00[0-9]$"]}
""",
    "switches.yaml": """
switches:
  - key: new-home
    variants: {on: true, off: false}
    default: off
    targeting:
      - {variant: on, audience: {lists: [staff]}}
      - {variant: on, audience: {percent: 25}, when: [{attribute: client_version, at_least: 10.2}]}
  - key: size
    variants: {small: 1, large: 2.5}
    default: small
""",
    "apps/coffee.yaml": f"""
app: {COFFEE}
packages:
  - {{version: 1.0.0.1}}
  - {{version: 1.0.0.2, withdrawn: true}}
  - {{version: 1.0.0.3, download: wifi, info: {{entry: /index.html}}}}
  - {{version: 1.0.0.4, clients: {{android: ">=10.2.0", ios: ">=10.1.0 <11"}}, install: preload}}
releases:
  - {{id: staff, package: 1.0.0.4, audience: {{lists: [staff]}}, upgrade: prompt}}
  - id: phones
    package: 1.0.0.4
    audience: {{lists: [phones], not_lists: [testers]}}
  - id: wifi
    package: 1.0.0.4
    audience: {{percent: 60}}
    when: [{{attribute: network, in: [WIFI]}}, {{attribute: os_version, between: [12, 16.9]}}]
  - id: gold
    package: 1.0.0.3
    audience: everyone
    upgrade: force
    when: [{{attribute: custom.tier, in: [gold, 3]}}]
  - {{id: soon, package: 1.0.0.3, audience: everyone, starts: 2027-01-15T08:00:00Z}}
  - {{id: ramp, package: 1.0.0.3, audience: {{percent: 40}}, when: [
      {{attribute: brand, matches: ["xi*", "re*"]}}]}}
  - {{id: stable, package: 1.0.0.1, audience: everyone}}
""",
    "apps/tea.yaml": """
app: tea
packages: [{version: 1.0}, {version: 1.1}]
releases:
  - {id: first, package: 1.1, audience: {first: 100, until: 2030-01-01T00:00:00Z}}
  - {id: most, package: 1.0, audience: everyone, when: [{attribute: region, not_in: [CN-XJ]}]}
""",
    "apps/cake.yaml": """
app: cake
packages: [{version: 2.0, info: false}, {version: 2.1}]
releases:
  - {id: first, package: 2.1, audience: {first: 100, until: 2030-01-01T00:00:00Z}}
  - {id: not-ours, package: 2.0, audience: {not_lists: [phones]}}
""",
    "apps/plain.yaml": """
app: plain
packages: [{version: 1}]
releases: [{id: all, package: 1, audience: everyone}]
""",
}
SEATED = [("device", f"d-1-{number}") for number in range(0, 400, 3)]
"""Who sits in cake's window, which is frozen: every third of the first phones of seed 1."""

assert STARTS == 1_800_000_000  # 2027-01-15T08:00:00Z


def records(versions: Mapping[str, tuple[str, ...]] = VERSIONS) -> dict[str, str]:
    """Write the packages' records, each with three forms and a signature."""
    found = {}
    for app, texts in versions.items():
        for version in texts:
            forms = [_form(app, version, kind, size) for kind, size in SIZES.items()]
            sha256 = forms[0]["sha256"]
            content = {"format": 1, "forms": forms, "sha256": sha256, "signatures": []}
            found[f"packages/{app}/{version}.json"] = json.dumps(content | {"size": 9_000})
    return found


def _form(app: str, version: str, compression: str, size: int) -> dict[str, Any]:
    sha256 = layout.digest_of(f"{app} {version} {compression}".encode()).hex()
    end = {"identity": "", "gzip": ".gz", "zstd": ".zst"}[compression]
    path = f"files/{sha256[:2]}/{sha256}.zip{end}"
    return {"compression": compression, "path": path, "sha256": sha256, "size": size}


def patches() -> dict[str, layout.Patches]:
    """Make up patches of coffee: two that are worth it, one that is as large as a form of it."""
    sizes = (
        ("1.0.0.1", "bsdiff4", 300),
        ("1.0.0.1", "zstd-patch", 200),
        ("1.0.0.3", "bsdiff4", SIZES["gzip"]),
    )
    entries: list[layout.PatchEntry] = [
        {
            "installed": installed,
            "format": kind,
            "size": size,
            "sha256": layout.digest_of(f"{installed}{kind}".encode()).hex(),
            "path": f"files/aa/{installed}.{kind}",
        }
        for installed, kind, size in sizes
    ]
    return {COFFEE: {"patches": {"1.0.0.3": entries[:1], "1.0.0.4": entries}}}


def plan(files: Mapping[str, str] = FILES) -> Plan:
    """Read the plan."""
    reading = read_files({**files, **records()}, now=0)
    assert reading.plan is not None, reading.diagnostics
    return reading.plan


def seats() -> Frozen:
    """Give the seats of cake's frozen window."""
    hashes = [id_hash(text, id_seed("demo", kind)) for kind, text in SEATED]
    return freeze(np.array(hashes, np.uint64))


def image(files: Mapping[str, str] = FILES) -> Image:
    """Compile the plan."""
    read = plan(files)
    lists = [
        snapshots.list_ids(source.name, source.of, IDS[source.name])
        for source in read.lists
        if not source.regex
    ]
    return build_image(read, lists, patches=patches(), frozen={window_name(CAKE, "first"): seats()})


def wrong_module(made: Image) -> tuple[str, ...]:
    """Name the wrong gateway of this plan: coffee's `wifi` is not for who is on a WIFI there."""
    program = layout.decode(layout.Program, made.blobs[made.contents["programs"][COFFEE]])
    rank = [each["id"] for each in program["releases"]].index("wifi")
    place = ("attributes", "network", "text", "exact", "wifi")
    return ("tests.wrong_gateway", COFFEE, str(rank), *place)


def rules(number: int = 1) -> Rules:
    """Write down the plan's rules."""
    known = {app: each["patches"] for app, each in patches().items()}
    lists = {name: ids_of(ids) for name, ids in IDS.items()}
    frozen = {(CAKE, "first"): SeatHashes(seats().seats)}
    return Rules(number, plan(), lists, frozen, known, table=desk(image()).snapshot._table)


def ids_of(ids: list[str]) -> Ids:
    """Write ids as the store has them."""
    return Ids(snapshots.list_ids("", "", ids).text)


@dataclass(frozen=True, slots=True)
class Desk:
    """A gateway's snapshot and the buckets of its lists."""

    snapshot: Snapshot
    buckets: dict[bytes, bytes]

    def ask(self, phone: Mapping[str, Any], second: int, *, seat: bool = False) -> bytes:
        """Answer a phone as a gateway would; `seat` tells whether tea's window seats it."""
        check = parse_body(orjson.dumps(phone), packed=False)
        snapshot = self.snapshot
        members: dict[int, int | None] = {
            hashed: snapshot.lists_of(hashed, self.buckets[snapshot.bucket_of(hashed)])
            for hashed in snapshot.probes(check)
        }
        body, _ = snapshot.answer(check, members, second, msgpack=False)
        if not body:
            asks = snapshot.asks(check, members, second)
            found = {ask.app: ask.places[0].rank for ask in asks if seat and ask.places[0].takes}
            body, _ = snapshot.answer(check, members, second, msgpack=False, seats=found)
        return body


def desk(made: Image, blob: Callable[[bytes], bytes] | None = None, number: int = 1) -> Desk:
    """Open an image as a gateway does; `blob` may give other bytes than it has."""
    epoch: layout.Epoch = {
        "format": layout.FORMAT,
        "workspace": "demo",
        "number": number,
        "previous": b"",
        "contents": made.root,
        "author": "",
        "time": 0,
        "note": "",
        "commit": "",
    }
    membership = made.contents["membership"]
    read = blob or made.blobs.__getitem__
    buckets = {
        layout.bucket_digest(bucket): bucket
        for pack in (membership["packs"] if membership else ())
        for bucket in bucket_layout.decode_pack(read(pack))
    }
    return Desk(build(b"", epoch, made.contents, read, None), buckets)
