"""The rows of `make bench`: who is asked what."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from loadtest import plans
from loadtest.phones import Phone, anybody, as_json, as_last, as_msgpack, member, phone

REQUESTS = 500
"""Different requests of a row, sent in turn."""

NGINX = "nginx, a constant"
NGINX_NEW = "nginx, new connection each time"
AIOHTTP = "aiohttp, doing nothing"
UVICORN = "uvicorn + httptools, doing nothing"
GRANIAN = "granian (RSGI), doing nothing"
OBVIOUS = "obvious gateway, no list"
OBVIOUS_LISTS = "obvious gateway, stranger to 200 lists"
ONE = "tidegate, no list"
PLAIN_PYTHON = "tidegate, no list, plain Python"
STRANGER = "tidegate, stranger to 200 lists"
FIRST = "tidegate, members, first time asked"
AGAIN = "tidegate, members, asked again"
TWENTY = "tidegate, 20 apps"
RELEASES_10 = "tidegate, app of 10 releases"
RELEASES_1000 = "tidegate, app of 1,000 releases"
MSGPACK = "tidegate, MessagePack"
NEW = "tidegate, new connection each time"


@dataclass(frozen=True, slots=True)
class Row:
    """A server, by its name in lineup.py, and what it is asked; see phones.py.

    With `members`, the phones are `anybody`, and wrk puts one member after another into the
    requests, of so many. `again`: each request is asked once before every round.
    """

    name: str
    server: str
    phones: Sequence[Phone]
    write: Callable[[Phone], bytes] = as_json
    members: int = 0
    again: bool = False

    def requests(self) -> list[bytes]:
        """Write the requests."""
        return [self.write(each) for each in self.phones]


def all_rows(ids: int) -> list[Row]:
    """Give every row, for lists of so many ids."""
    usual = [phone(number) for number in range(REQUESTS)]
    spread = [member(number * 7_919 % ids) for number in range(REQUESTS)]

    def about(*apps: str) -> list[Phone]:
        return [phone(number, apps) for number in range(REQUESTS)]

    return [
        Row(NGINX, "nginx", usual),
        Row(NGINX_NEW, "nginx", usual, as_last),
        Row(AIOHTTP, "aiohttp", usual),
        Row(UVICORN, "uvicorn", usual),
        Row(GRANIAN, "granian", usual),
        Row(OBVIOUS, "obvious", usual),
        Row(OBVIOUS_LISTS, "obvious-listed", usual),
        Row(ONE, "tidegate", usual),
        Row(PLAIN_PYTHON, "tidegate-python", usual),
        Row(STRANGER, "tidegate-listed", usual),
        Row(FIRST, "tidegate-listed", [anybody(n) for n in range(REQUESTS)], members=ids),
        Row(AGAIN, "tidegate-listed", spread, again=True),
        Row(TWENTY, "tidegate", about(plans.COFFEE, *plans.MORE)),
        Row(RELEASES_10, "tidegate", about(plans.TEN)),
        Row(RELEASES_1000, "tidegate", about(plans.THOUSAND)),
        Row(MSGPACK, "tidegate", usual, as_msgpack),
        Row(NEW, "tidegate", usual, as_last),
    ]


def chosen(rows: Sequence[Row], patterns: Sequence[str]) -> list[Row]:
    """Give the rows that a pattern (`*` and `?`, anywhere in the name) fits; all without any."""
    return [
        row
        for row in rows
        if not patterns or any(fnmatchcase(row.name, f"*{each}*") for each in patterns)
    ]
