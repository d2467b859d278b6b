"""The script that seats subjects, held to a slow and obvious model of what a window is."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from compiler.publication.seat_records import SeatRecords
from compiler.reference import seats_open
from gateway.keys import Keys
from gateway.seating import LOST, NO_SEAT, SCRIPT, Ask, Place, arguments, closed_in, seat_of
from publishing import WORKSPACE, Workshop

RELEASES = ("a", "b", "c")
STATES = ("open",) * 6 + ("frozen", "thawed", "paused", "ended", "lost", "dropped")
ASKS = 60
MASK = 2**64 - 1
NOW = 1_800_000_000
CLOCK = "redis.call('TIME')[1]"
assert CLOCK in SCRIPT
PLANS = 60


@dataclass(slots=True)
class Model:
    """A window as the design's text has it."""

    state: str
    first: int
    until: int
    starts: int | None
    seated: set[int] = field(default_factory=set)

    def asked(self, hashed: int, mode: str, now: int) -> bool:
        """Tell whether a subject has a seat now."""
        if self.state in ("paused", "ended", "lost", "dropped"):
            return False
        if hashed in self.seated:
            return True
        free = len(self.seated) < seats_open(self.first, self.starts, self.until, now)
        if mode == "look" or self.state != "open" or not free:
            return False
        if mode == "take":
            self.seated.add(hashed)
        return True

    @property
    def missing(self) -> bool:
        """Tell whether Redis has lost what it would need to answer."""
        return self.state in ("lost", "dropped")

    def is_closed(self, now: int) -> bool:
        """Tell whether nobody else can be seated, so that all may be told."""
        if self.state not in ("open", "frozen"):
            return False
        return self.state == "frozen" or len(self.seated) >= self.first or now >= self.until


def test_the_script_is_the_model(workshop: Workshop) -> None:
    """Three windows asked together, in every state, at a pace or not, by look, try and take."""
    random, records = Random(11), SeatRecords(workshop.mirror)
    seen: dict[str, int] = {}
    for number in range(PLANS):
        app = f"app-{number}"
        models = {each: _window(records, app, each, random) for each in RELEASES}
        subjects = [random.randint(0, MASK) for _ in range(20)]
        for _ in range(ASKS):
            _ask(workshop, app, models, subjects, random, seen)
        for name, model in models.items():
            _compare(records, app, name, model)
    assert min(seen[each] for each in ("seat", "none", "lost", "told")) > 100, seen


def _window(records: SeatRecords, app: str, name: str, random: Random) -> Model:
    starts = random.choice((None, None, NOW - random.randint(-50, 50)))
    least = 0 if starts is None else starts + 1
    until = max(least, NOW + random.choice((-40, 0, 40, 4_000, 2_000_000_000)))
    model = Model(random.choice(STATES), random.choice((1, 2, 5, 600, 100_000)), until, starts)
    window: Any = {"first": model.first, "until": until, "starts": starts, "by_user": False}
    if model.state != "lost":
        assert records.make(app, name, window, model.state.replace("dropped", "open"), 0)
    if model.state == "dropped":
        records.change(app, name, {"shards": 0})
    return model


def _ask(
    workshop: Workshop,
    app: str,
    models: dict[str, Model],
    subjects: list[int],
    random: Random,
    seen: dict[str, int],
) -> None:
    chosen = sorted(random.sample(RELEASES, random.randint(1, 3)))
    hashed, dry_run = random.choice(subjects), random.random() < 0.2
    takes = [random.random() < 0.9 for _ in chosen]
    pairs = enumerate(zip(chosen, takes, strict=True))
    ask = Ask(app, tuple(Place(name, rank, hashed, take) for rank, (name, take) in pairs))
    told = random.choice((0, 50_000))
    rest = arguments(Keys(WORKSPACE), ask, dry_run=dry_run, told=told)
    client: Any = workshop.link
    now = NOW + random.randint(-60, 60)
    number, closed = closed_in(client.eval(SCRIPT.replace(CLOCK, str(now)), *rest))
    wanted, missed, expected = NO_SEAT, False, []
    for at, (name, take) in enumerate(zip(chosen, takes, strict=True), 1):
        model = models[name]
        missed = missed or model.missing
        if told and model.is_closed(now):
            expected.append((at, model))
        mode = "look" if not take else "try" if dry_run else "take"
        if model.asked(hashed, mode, now):
            wanted = at
            break
    assert number == (LOST if missed and not wanted else wanted)
    assert [each[0] for each in closed] == [at for at, _ in expected]
    for (_, shards, *seats), (_, model) in zip(closed, expected, strict=True):
        there = {seat_of(each) for each in model.seated}
        assert set(seats) <= there
        assert shards > 1 or set(seats) == there
    kind = "seat" if wanted else "lost" if missed else "none"
    for each in (kind, *(["told"] if closed else [])):
        seen[each] = seen.get(each, 0) + 1


def _compare(records: SeatRecords, app: str, name: str, model: Model) -> None:
    record = records.read(app, name)
    assert (record is None) is (model.state == "lost")
    if record is not None:
        seats = set(records.seats(app, name, record).tolist())
        assert (record.seated, seats) == (len(model.seated), model.seated)
        assert len(model.seated) <= model.first
