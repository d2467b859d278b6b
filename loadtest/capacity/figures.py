"""What a check costs on one machine, as `make bench` measured it and left it in a file.

The file is JSON: `format`, `name`, `measured` (a time), `machine` (a sentence) and `rows`, each
with its name in the bench (loadtest/rows.py), the CPU time of gateway and Redis a check in µs, and
the bytes of a request and of an answer with their heads.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gateway.errors import TidegateError
from loadtest.rows import AGAIN, FIRST, NEW, ONE, STRANGER, TWENTY

FORMAT = 1
PLACE = Path(".tidegate/figures.json")
"""Where the bench leaves its figures, and capacity looks for them."""

NEEDED = (ONE, TWENTY, STRANGER, FIRST, AGAIN, NEW)
_APPS = 20


class FiguresError(TidegateError):
    """A file of figures cannot be used; the text names it, and says why and what to do."""


class Cost(NamedTuple):
    """What one row's check takes: CPU µs of gateway and Redis, bytes of request and answer."""

    cpu_us: float
    redis_us: float
    request_bytes: float
    answer_bytes: float


@dataclass(frozen=True, slots=True)
class Figures:
    """The costs of NEEDED's rows; `source` is a sentence that says where and when measured."""

    source: str
    rows: Mapping[str, Cost]

    @property
    def first_app_us(self) -> float:
        """CPU of a check of one app by a phone on no list, on a connection that is there."""
        return self.rows[ONE].cpu_us

    @property
    def further_app_us(self) -> float:
        """CPU of each app more in a check."""
        return _more(self.rows[TWENTY].cpu_us, self.first_app_us) / (_APPS - 1)

    @property
    def stranger_us(self) -> float:
        """CPU more where lists are live, for who is on none."""
        return _more(self.rows[STRANGER].cpu_us, self.first_app_us)

    @property
    def asked_us(self) -> float:
        """CPU more for a member whom the gateway looks up in Redis."""
        return _more(self.rows[FIRST].cpu_us, self.first_app_us)

    @property
    def remembered_us(self) -> float:
        """CPU more for a member whom the gateway remembers."""
        return _more(self.rows[AGAIN].cpu_us, self.first_app_us)

    @property
    def connection_us(self) -> float:
        """CPU more for a check that opens a connection (of TCP, without TLS)."""
        return _more(self.rows[NEW].cpu_us, self.first_app_us)

    @property
    def redis_us(self) -> float:
        """CPU of Redis for one look-up."""
        return self.rows[FIRST].redis_us

    def request_bytes(self, apps: float) -> float:
        """Give the bytes of a request about so many apps."""
        return self._line(apps, lambda cost: cost.request_bytes)

    def answer_bytes(self, apps: float) -> float:
        """Give the bytes of an answer about so many apps, each with an update."""
        return self._line(apps, lambda cost: cost.answer_bytes)

    def _line(self, apps: float, figure: Any) -> float:
        one, twenty = figure(self.rows[ONE]), figure(self.rows[TWENTY])
        return float(one + (apps - 1) * (twenty - one) / (_APPS - 1))


def _more(cost: float, than: float) -> float:
    """Subtract; a difference that the noise has turned round is none."""
    return max(0.0, cost - than)


README = Figures(
    "README.md's table of `make bench`, measured on two shared cores of another machine than yours",
    {
        ONE: Cost(10.1, 0.0, 356, 541),
        TWENTY: Cost(32.2, 0.0, 907, 7_187),
        STRANGER: Cost(10.7, 0.0, 356, 541),
        FIRST: Cost(23.1, 5.4, 356, 541),
        AGAIN: Cost(12.8, 0.0, 356, 541),
        NEW: Cost(31.7, 0.0, 375, 560),
    },
)


def read(path: Path) -> Figures:
    """Read a file that the bench left. Raises FiguresError."""
    again = "Type: make bench"
    try:
        said = json.loads(path.read_text())
        if said["format"] != FORMAT:
            raise FiguresError(f"{path} has format {said['format']}, not {FORMAT}. {again}")
        there = {
            row["row"]: Cost(**{name: float(row[name]) for name in Cost._fields})
            for row in said["rows"]
            if row["row"] in NEEDED
        }
        source = f"{said['name']}, {said['measured']}, on {said['machine']}"
    except OSError as fault:
        raise FiguresError(f"{path} cannot be read: {fault.strerror}. {again}") from None
    except (ValueError, KeyError, TypeError) as fault:
        raise FiguresError(f"{path} holds no figures of the bench ({fault!r}). {again}") from None
    missing = [name for name in NEEDED if name not in there]
    if missing:
        raise FiguresError(f"{path} lacks the row `{missing[0]}`. {again}, without --only")
    bad = [name for name, cost in there.items() if not cost.cpu_us > 0]
    if bad:
        raise FiguresError(f"{path}: the row `{bad[0]}` took no CPU time. {again}")
    return Figures(source, there)


def as_file(found: Mapping[str, Any], *, name: str, measured: str, machine: str) -> str | None:
    """Write the bench's JSON as a file of figures; None when a row that is needed is missing."""
    rows = [row for row in found["rows"] if row["row"] in NEEDED]
    if len(rows) < len(NEEDED) or any(row["wrong"] for row in rows):
        return None
    kept = [{"row": row["row"]} | {field: row[field] for field in Cost._fields} for row in rows]
    said = {"format": FORMAT, "name": name, "measured": measured, "machine": machine, "rows": kept}
    return json.dumps(said, indent=1) + "\n"
