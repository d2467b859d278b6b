"""A sample of a crowd asks over one connection, and every answer is judged."""

import http.client
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgpack
import orjson

from loadtest.population import Population
from loadtest.referee import Outcome, Verdict, judge
from loadtest.rules import Rules
from loadtest.tokens import Signer

CHECK_PATH = "/v1/check"
JSON, MSGPACK = "application/json", "application/msgpack"
TIMEOUT_SECONDS = 30.0
"""Longer than a busy machine holds up an answer: what is late is not wrong."""

MOST_KEPT = 20
"""Answers that were not right of which everything is kept, so that they can be looked into."""


@dataclass(frozen=True, slots=True)
class Case:
    """An answer that was not right: which phone asked, what it asked and got, and what of it."""

    number: int
    phone: dict[str, Any]
    answer: Any
    verdict: Verdict


@dataclass(slots=True)
class Tally:
    """How many answers were what; `failed` are those that were no 200, or no answer at all.

    `cpu_seconds` is what judging took, apart from asking.
    """

    right: int = 0
    unconfirmed: int = 0
    wrong: int = 0
    failed: int = 0
    cpu_seconds: float = 0.0
    cases: list[Case] = field(default_factory=list)

    @property
    def judged(self) -> int:
        """How many were judged."""
        return self.right + self.unconfirmed + self.wrong

    def add(self, case: Case) -> None:
        """Count a judged answer, and keep the first ones that were not right."""
        outcome = case.verdict.outcome
        self.right += outcome is Outcome.RIGHT
        self.unconfirmed += outcome is Outcome.UNCONFIRMED
        self.wrong += outcome is Outcome.WRONG
        if outcome is not Outcome.RIGHT and len(self.cases) < MOST_KEPT:
            self.cases.append(case)


def body_of(phone: Mapping[str, Any], *, packed: bool) -> tuple[bytes, dict[str, str]]:
    """Write the body of a check, and the headers that say how it is written and to be answered."""
    if packed:
        return msgpack.packb(phone), {"Content-Type": MSGPACK, "Accept": MSGPACK}
    return orjson.dumps(phone), {"Content-Type": JSON}


def read_answer(body: bytes, content_type: str | None) -> Any:
    """Read the body of a 200 as its Content-Type says. Raises ValueError when it cannot be."""
    try:
        return msgpack.unpackb(body) if content_type == MSGPACK else orjson.loads(body)
    except (ValueError, msgpack.UnpackException) as fault:
        raise ValueError(f"the answer cannot be read: {fault}") from None


def judge_sample(
    url: str,
    rules_of: Callable[[int], Rules],
    population: Population,
    numbers: Iterable[int],
    signer: Signer | None = None,
) -> Tally:
    """Let these phones ask a gateway one after another, as dry runs, and judge what they get.

    With a `signer` they prove by a token who they are.

    `rules_of` gives the rules of an epoch by its number, as Books.rules does. An end of `numbers`
    ends the sample, so a generator may end it with the load that it goes with.
    """
    tally = Tally()
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=TIMEOUT_SECONDS)
    for number in numbers:
        phone = population.phone(number) | {"dry_run": True}
        body, headers = body_of(phone, packed=population.packed(number))
        began = time.time()
        token = {} if signer is None else signer.headers(phone, began)
        try:
            connection.request("POST", CHECK_PATH, body, headers | token)
            response = connection.getresponse()
            said, content_type = response.read(), response.getheader("Content-Type")
        except (OSError, http.client.HTTPException):
            connection.close()  # the next request opens it again
            tally.failed += 1
            continue
        ended = time.time()
        if response.status != http.HTTPStatus.OK:
            tally.failed += 1
            continue
        used = time.thread_time()
        answer, verdict = _judged(
            rules_of, phone, said, content_type, began, ended, vouched=bool(token)
        )
        tally.cpu_seconds += time.thread_time() - used
        tally.add(Case(number, phone, answer, verdict))
    connection.close()
    return tally


def _judged(
    rules_of: Callable[[int], Rules],
    phone: dict[str, Any],
    said: bytes,
    content_type: str | None,
    began: float,
    ended: float,
    *,
    vouched: bool,
) -> tuple[Any, Verdict]:
    try:
        answer = read_answer(said, content_type)
    except ValueError as fault:
        return said[:200], Verdict(Outcome.WRONG, str(fault))
    epoch = answer.get("epoch") if isinstance(answer, dict) else None
    if type(epoch) is not int:
        return answer, Verdict(Outcome.WRONG, "the answer names no epoch")
    return answer, judge(rules_of(epoch), phone, answer, began, ended, vouched=vouched)
