"""A fleet of reference clients: `python -m loadtest.fleet --help`.

Each phone is a whole client with a folder of its own: it asks, downloads, verifies, installs and
reports. So this shows what a release costs CDN and phones, while wrk shows what checks cost the
gateway. A second run over the same folder starts from what the first one installed.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from loadtest.client import Client, Result, Trust, read_identities, read_keys
from loadtest.client.fault import UnusableError
from loadtest.target import is_loopback

MOST_PHONES = 10_000
GOOD = ("installed", "rolled_back", "latest", "none", "withdrawn", "waiting")


@dataclass(frozen=True, slots=True)
class Fleet:
    """So many phones of one kind, asking one gateway about the same apps."""

    gateway: str
    root: Path
    apps: Sequence[str]
    phone: dict[str, str]
    trust: Trust

    def round(self, phones: int, at_once: int) -> Counter[tuple[str, str, str]]:
        """Let every phone do one round; count what came of it by app, outcome and version."""
        found: Counter[tuple[str, str, str]] = Counter()
        with ThreadPoolExecutor(at_once) as pool:
            for results in pool.map(self._one, range(phones)):
                found.update((each.app, str(each.outcome), each.version or "-") for each in results)
        return found

    def _one(self, number: int) -> list[Result]:
        who = {"device": f"phone-{number}", **self.phone}
        root = self.root / f"{number:05d}"
        return Client(root, self.gateway, who, self.apps, self.trust).update()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one round; 0 when every phone ended as the gateway wants it, 1 if not, 2 for usage."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if not is_loopback(given.gateway):
        parser.error("--gateway is not on this machine; a load test sends to loopback only")
    if not 0 < given.phones <= MOST_PHONES or given.at_once < 1:
        parser.error(f"--phones is 1 to {MOST_PHONES:,}, and --at-once 1 or more")
    members = dict(pair.partition("=")[::2] for pair in given.phone)
    try:
        keys = {id_: key for each in given.key for id_, key in read_keys(each).items()}
        secrets = [each for file in given.identity for each in read_identities(file)]
        fleet = Fleet(given.gateway, given.root, given.app, members, Trust(keys, secrets))
        given.root.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        found = fleet.round(given.phones, given.at_once)
    except (UnusableError, OSError) as fault:
        parser.error(str(fault))
    took = time.monotonic() - began
    for (app, outcome, version), count in sorted(found.items()):
        print(f"{app}  {outcome:<12} {version:<16} {count:>7,}")
    print(f"{given.phones:,} phones in {took:.1f} s, {given.phones / took:,.0f} a second")
    return int(any(outcome not in GOOD for _, outcome, _ in found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.fleet",
        description="Many reference clients, each with a folder of its own, do one round. They "
        "count as real phones do: give them a workspace for rehearsals.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--gateway", required=True, metavar="URL", help="on this machine: http://127.0.0.1:8080")
    add("--root", required=True, type=Path, metavar="DIR", help="the folder of all phones")
    add("--app", required=True, action="append", metavar="APP", help="an app's id; again for more")
    add("--phones", type=int, default=100, metavar="N", help="how many (100)")
    add("--at-once", type=int, default=8, metavar="N", help="phones at the same time (8)")
    add("--phone", action="append", default=[], metavar="K=V", help="a member of each check")
    add("--key", action="append", default=[], metavar="FILE", help="a trusted key, as the client's")
    add(
        "--identity", action="append", default=[], type=Path, metavar="FILE", help="an age identity"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
