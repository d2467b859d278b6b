"""The crowd as a file of ready requests, for wrk and its like: `python -m loadtest.replay --help`.

Where one Locust process cannot saturate a gateway, these are the same phones with the same bytes.
The file holds their requests as on the wire, one behind the other; `FILE.lua` lets wrk send them.
With --target wrk is run here, and meanwhile every hundredth phone asks on a connection of its own,
so that answers are judged under the load that is measured.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count, islice, takewhile
from pathlib import Path
from urllib.parse import urlsplit

from compiler.diagnostic import PlanError
from compiler.refusal import Refused
from gateway.errors import FormatError, StoreError
from loadtest.books import Books, open_books
from loadtest.phones import as_json, as_msgpack
from loadtest.population import MEMBERS, Population
from loadtest.sample import Tally, judge_sample
from loadtest.servers import Failed
from loadtest.target import is_loopback
from loadtest.tokens import NOBODY, Signer, open_signer
from loadtest.wrk import Found, load, write_file_script

STEP = 100
"""Every so manieth phone is one of the sample."""

LEAST_SAMPLE = 200
"""A sample has so many answers at least, should the load be over before."""

DRY_RUN = {"dry_run": True}


def write_requests(
    path: Path,
    population: Population,
    *,
    dry_run: bool = True,
    signer: Signer | None = None,
) -> None:
    """Write the requests of all phones in turn; without `dry_run` each counts as a real one.

    With a `signer` each has its phone's token, which counts for one to two hours.
    """
    more, now = DRY_RUN if dry_run else {}, time.time()
    with path.open("wb") as file:
        for number in range(population.size):
            phone = population.phone(number) | more
            fields = {} if signer is None else signer.headers(phone, now)
            written = as_msgpack if population.packed(number) else as_json
            file.write(written(phone, *(f"{name}: {value}" for name, value in fields.items())))


def load_and_judge(
    url: str,
    script: Path,
    books: Books,
    population: Population,
    *,
    connections: int,
    seconds: int,
    signer: Signer | None = None,
) -> tuple[Found, Tally]:
    """Load a gateway on loopback by wrk, and judge a sample of its answers meanwhile.

    Raises Failed when wrk gets no answer, and what Books.rules raises.
    """
    port = urlsplit(url).port
    if port is None:
        raise Failed(f"{url} names no port. Write it as http://127.0.0.1:8080.")
    over = threading.Event()

    def sample() -> Tally:
        numbers = _sampled(population.size)
        least = islice(numbers, LEAST_SAMPLE)
        meanwhile = takewhile(lambda _: not over.is_set(), numbers)
        return judge_sample(url, books.rules, population, chain(least, meanwhile), signer)

    with ThreadPoolExecutor(1) as aside:
        judging = aside.submit(sample)
        try:
            found = load(port, script, connections=connections, seconds=seconds, start=0)
        finally:
            over.set()
    return found, judging.result()


def _sampled(size: int) -> Iterator[int]:
    """Give every hundredth phone, and round again with the next ones, without end."""
    return ((at + at // size) % size for at in count(0, STEP))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file, and load if told.

    Gives 0 when all is right, 1 if not, 2 for usage, 3 when refused, 4 when something is away.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.target and not is_loopback(given.target):
        parser.error("--target is not on this machine; a load test sends to loopback only")
    try:
        books = open_books(given.store, given.workspace, given.redis, given.url_secret)
        rules = books.newest()
        population = Population(
            given.seed, given.count, rules.plan, rules.members(), member_share=given.members
        )
        signer = open_signer(given.token_key, rules.plan.workspace.identity)
        used = time.process_time()
        write_requests(given.out, population, signer=signer)
        each = 1e6 * (time.process_time() - used) / given.count
        script = Path(f"{given.out}.lua")
        write_file_script(script, given.out)
        print(
            f"{given.count:,} requests by the plan of epoch {rules.number} in {given.out}, "
            f"{each:.0f} µs of CPU to draw and write one"
        )
        if signer is None and rules.plan.workspace.identity is not None:
            print(NOBODY)
        if not given.target:
            print(f"wrk -t1 -c{given.connections} -d30s --latency -s {script} URL")
            return 0
        found, tally = load_and_judge(
            given.target,
            script,
            books,
            population,
            connections=given.connections,
            seconds=given.seconds,
            signer=signer,
        )
    except ValueError as fault:
        parser.error(str(fault))
    except (Refused, PlanError, FormatError, StoreError, Failed, OSError) as fault:
        print(f"{parser.prog}: {fault}", file=sys.stderr)
        return 3 if isinstance(fault, Refused | PlanError | FormatError) else 4
    return _report(found, tally)


def _report(found: Found, tally: Tally) -> int:
    print(
        f"{found.answers / found.seconds:,.0f} answers a second, "
        f"p50 {found.p50_ms:.2f} ms, p99 {found.p99_ms:.2f} ms, {found.broken:,} failed"
    )
    print(
        f"sample: {tally.right:,} right, {tally.unconfirmed:,} unconfirmed, {tally.wrong:,} wrong, "
        f"{tally.failed:,} failed; {1e6 * tally.cpu_seconds / max(1, tally.judged):,.0f} µs of CPU "
        "to judge one"
    )
    for case in tally.cases:
        print(f"phone {case.number}: {case.verdict.outcome}: {case.verdict.sentence}")
    return int(bool(found.broken or tally.failed or tally.wrong or tally.unconfirmed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.replay",
        description="Writes the crowd's checks as a file of requests, all of them dry runs. With "
        "--target also loads a gateway by wrk and judges a sample of the answers.",
        allow_abbrev=False,
    )
    add, told = parser.add_argument, os.environ.get
    add("--store", default=told("TIDEGATE_STORE", ""), metavar="STORE", help="TIDEGATE_STORE")
    add("--workspace", default=told("TIDEGATE_WORKSPACE", ""), help="TIDEGATE_WORKSPACE")
    add("--redis", default="", metavar="URL", help="asked for the newest epoch besides the store")
    add("--out", required=True, type=Path, metavar="FILE", help="where to; FILE.lua is for wrk")
    add("--count", type=int, default=20_000, metavar="N", help="phones, a request each (20,000)")
    add("--seed", type=int, default=1, metavar="S", help="another one is another crowd (1)")
    add("--members", type=float, default=MEMBERS, metavar="SHARE", help="of them on a list (0.01)")
    about = "private key (PEM) of one under the plan's `identity:`: each request has a token by it"
    add("--token-key", default="", metavar="FILE", help=about)
    add("--target", default="", metavar="URL", help="on this machine: http://127.0.0.1:8080")
    add("--connections", type=int, default=64, metavar="N", help="wrk's connections (64)")
    add("--seconds", type=int, default=10, metavar="N", help="how long wrk loads it (10)")
    parser.set_defaults(url_secret=told("TIDEGATE_URL_SECRET"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
