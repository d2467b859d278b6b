"""A law of what operators find: whatever they do, and in whatever order, what stands is what holds.

Random operators work on a real Redis and a real store with the commands themselves; standing.py
says in plain words what should come of each. After every step gateways answer a crowd as
reference.py does over the plan and the overrides that should stand: nothing is lifted silently;
what is refused changes nothing; seats stay, and are never too many; the history says who it was.
TIDEGATE_SOAK asks for many long days instead of a few short ones.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import drafts
from compiler.publication.restore import restore
from compiler.reference import Seats, evaluate, real_id
from compiler.switch_reference import evaluate_switch
from gateway.hashing import id_hash, id_seed
from interruption import Steps
from local_gateway import LocalGateway
from office import CONTROLLER, OPERATORS, Office, Ran
from processes import RedisServer
from publishing import COFFEE, WORKSPACE, record
from races import Race
from standing import (
    DONE,
    REFUSED,
    Command,
    Enlist,
    Push,
    Revert,
    Window,
    World,
    lay,
    names,
    pulled,
)

SOAK = "TIDEGATE_SOAK" in os.environ
DAYS, STEPS = (60, 50) if SOAK else (5, 14)
PHONES = 50
APART = 1 if SOAK else 3
"""Of how many phones one is asked after each step: the others after the next ones."""

REDIS_STEPS = 120
"""What a command asks of Redis in steps, one before and one after each call, at most or so."""

FIRST = drafts.first_draft()
WINDOWS = [name for name, offer in FIRST.offers.items() if offer.first]
USERS = ("u-1", "u-2", "u-3", "u-4", "u-5", "q-1", "q-2")
DEVICES = tuple(f"d-{at}" for at in range(1, 13))

_releases = st.sampled_from([*FIRST.offers, "ramp", "rush", "rush", "late", "even", "nobody"])
_flags = st.sampled_from(["home", "theme"])
_lines = st.one_of(
    st.builds("{} coffee {}".format, st.sampled_from(["pause", "resume", "end"]), _releases),
    st.builds(
        "percent coffee {} {}".format, _releases, st.sampled_from(["0", "40", "100", "plan"])
    ),
    st.builds("withdraw coffee {} --yes".format, st.sampled_from("12349")),
    st.builds("reinstate coffee {}".format, st.sampled_from("12344")),
    st.builds("check-after {}".format, st.sampled_from([60, 1800])),
    st.builds("switch set {} {}".format, _flags, st.sampled_from(["on", "off", "--as-planned"])),
    st.builds("switch {} {}".format, st.sampled_from(["enable", "disable"]), _flags),
    st.builds(
        "allowlist {} {}".format,
        st.sampled_from(["add", "remove"]),
        st.sampled_from(["staff u-1", "staff u-4", "staff u-4 u-1", "phones d-1", "phones d-9"])
        | st.sampled_from(["vip u-4", "vip u-1 u-3", "qa q-1", "qa u-2"])
        | st.sampled_from(["guests u-5", "guests u-1", "nolist u-1"]),
    ),
    st.builds("revert -{}".format, st.integers(0, 12)),
)
_edits = st.one_of(
    st.builds(
        "{} percent {}".format,
        st.sampled_from(["ramp", "slow", "stable", "beta", "rush"]),
        st.sampled_from(["0", "2000", "4000", "10000", "rising", "falling", "none"]),
    ),
    st.builds("{} state {}".format, _releases, st.sampled_from(["live", "paused", "ended"])),
    st.builds("{} first {}".format, st.sampled_from(WINDOWS), st.sampled_from([1, 2, 3, 5, 9])),
    st.builds("{} until {}".format, st.sampled_from(WINDOWS), st.sampled_from(["open", "over"])),
    st.builds("{} when {}".format, _releases, st.sampled_from(["android", "new", "no-ios"])),
    st.builds(
        "{} package {}".format, st.sampled_from(["ramp", "rush", "late"]), st.sampled_from("23")
    ),
    st.builds(
        "{} {}".format,
        st.sampled_from(["drop", "bring"]),
        st.sampled_from(["slow", "listed", "rush", "even", "late", "beta", "guest", "theme"]),
    ),
    st.builds("{} {}".format, st.sampled_from(["withdraw", "keep"]), st.sampled_from("1234")),
    st.builds("check_after {}".format, st.sampled_from([60, 600, 1800])),
    st.builds("staff {} {}".format, st.sampled_from("+-"), st.sampled_from(["u-1", "u-4"])),
    st.builds("phones {} {}".format, st.sampled_from("+-"), st.sampled_from(["d-1", "d-9"])),
    st.builds("{} default {}".format, _flags, st.sampled_from(["on", "off"])),
    st.builds("{} enabled {}".format, _flags, st.sampled_from(["true", "false"])),
    st.builds("{} rows {}".format, _flags, st.sampled_from(["none", "same", "some", "mine"])),
)
_phones = st.lists(st.integers(0, PHONES - 1), min_size=1, max_size=12, unique=True)


def crowd() -> list[dict[str, Any]]:
    """Make up phones: of users and devices in every combination, of hosts, with versions."""
    random, found = Random(3), []
    for _ in range(PHONES):
        phone: dict[str, Any] = {
            "user": random.choice((None, "unknown", *USERS)),
            "device": random.choice((None, *DEVICES)),
            "platform": random.choice(("android", "android", "ios", "web")),
            "client_version": random.choice(("9", "10", "11")),
            "apps": {COFFEE: random.choice((None, None, "1", "2", "3", "4"))},
            "switches": True,
        }
        found.append({key: value for key, value in phone.items() if value is not None})
    return found


CROWD = crowd()


class OperatorsDay(RuleBasedStateMachine):
    """A day in the office. The steps of a failure can be read, and done again, by hand."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        """Push the first plan, in a new folder."""
        super().__init__()
        self.home = Path(tempfile.mkdtemp(dir=folder))
        self.office = Office(self.home, redis_url)
        self.turn = 0
        self.draft = FIRST
        """What lies in the operators' folder."""

        self.world = World(FIRST, {}, FIRST.ids["vip"])
        self.office.plan.mkdir()
        self._upload()
        self._import("u-3", "u-4")
        self.gateway = LocalGateway(self.office.workshop.link, WORKSPACE, self.office.trusted)
        self._write(FIRST)
        assert self.office.run("ann", "push", str(self.office.plan)).code == DONE
        self._follow(self.world)
        self._look()

    def teardown(self) -> None:
        """Leave."""
        self.office.close()
        shutil.rmtree(self.home)

    @initialize(lines=st.lists(_lines, max_size=6))
    def morning(self, lines: list[str]) -> None:
        """Lay a few overrides before anything else."""
        for line in lines:
            self._obey(self._read(line), look=False)
        self._look()

    # What operators do.

    @rule(line=_lines)
    def command(self, line: str) -> None:
        """Change one value, or several ids of a list, or go back."""
        self._obey(self._read(line))

    @rule(edits=st.lists(_edits, min_size=1, max_size=3), take=st.booleans())
    def push(self, edits: list[str], *, take: bool) -> None:
        """Edit the plan and push it; `take` the plan's values where they contest an override."""
        draft = self.draft
        for edit in edits:
            draft = drafts.edited(draft, edit)
        wish = Push(draft)
        if take and wish.on(self.world).code == REFUSED:
            wish = replace(wish, take=tuple(self._contested(wish)))
        self._obey(wish)

    @rule(edits=st.lists(_edits, max_size=2), at=st.integers(0, 3))
    def push_and_take_the_plan(self, edits: list[str], at: int) -> None:
        """Take the plan's value in the place of one override, contested or not, or of none."""
        draft = self.draft
        for edit in edits:
            draft = drafts.edited(draft, edit)
        laid = sorted(names(place)[-1] for place in self.world.overrides)
        self._obey(Push(draft, (laid[at % len(laid)] if laid else "coffee/ramp",)))

    @rule(edit=_edits, line=_lines)
    def push_a_file_that_was_compiled_before(self, edit: str, line: str) -> None:
        """Compile, let somebody lay an override, then push the file."""
        wish = Push(drafts.edited(self.draft, edit), compiled=self.world.stored)
        self._write(wish.plan)
        file = self.office.folder / "plan.tgf"
        ran = self.office.run("ann", "compile", str(self.office.plan), "--out", str(file))
        assert ran.code == DONE, ran
        self._obey(self._read(line))
        self._obey(wish, file=file)

    @rule()
    def pull_and_push(self) -> None:
        """Push what `pull` has written: no answer changes, and what was written is laid no more."""
        before = self.world
        self.draft = pulled(before)
        shutil.rmtree(self.office.plan)
        self.office.plan.mkdir()
        ran = self.office.run("ann", "pull", str(self.office.plan))
        assert ran.code == DONE, ran
        self._obey(Push(self.draft), write=False)
        for place in before.overrides:  # the stored list may be another one by now
            stored = place[:2] == ("member", "vip")
            assert stored or self.world.value(place) == before.value(place), place
        for place, value in self.world.overrides.items():
            assert self.draft.says(place) != value
            assert "and not written into it" in ran.said, (place, value)

    @rule(
        line=st.sampled_from(["gc 1", "gc 2", "gc 9", "freeze", "freeze", "stale push"])
        | st.sampled_from(["import u-4", "import u-1 u-3 q-1"])
        | st.builds("reopen {}".format, st.sampled_from(WINDOWS))
    )
    def keep_house(self, line: str) -> None:
        """Do what neither the plan nor an override is about."""
        verb, *words = line.split()
        if verb == "gc":
            self._collect(int(words[0]))
        elif verb == "freeze":
            self._freeze()
        elif verb == "reopen":
            self._reopen(words[0])
        elif verb == "import":  # the next push has it
            self._import(*words)
            self.world = replace(self.world, stored=frozenset(words))
        else:
            self._obey(Push(drafts.edited(self.draft, "drop theme"), stale=True))
        self._look()

    def _collect(self, keep: int) -> None:
        """Run gc, when everything is old."""
        self.office.workshop.age_store()
        ran = self.office.run("ann", "gc", "--keep", str(keep))
        assert ran.code == DONE, ran
        oldest = max(self.world.oldest, self.world.number - keep + 1)
        windows = {
            name: replace(each, may_lose=each.may_lose or each.frozen or not self._is_there(name))
            for name, each in self.world.windows.items()
        }
        self.world = replace(self.world, oldest=oldest, windows=windows)

    @rule(at=_phones)
    def phones_ask(self, at: list[int]) -> None:
        """Let phones ask for real: who is offered a window's package is seated."""
        for each in at:
            self.world = self._visited(self.world, CROWD[each])
        self._look()

    def _freeze(self) -> None:
        """Freeze what is full or over, as the controller does."""
        frozen = self.office.freeze()
        if frozen:
            self._follow(self.world, CONTROLLER, "full or over")
        for name in self._windows():
            window, offer = self.world.windows[name], self.world.plan.offers[name]
            assert window.frozen or window.lost or window.is_free(offer) or offer.linear, name

    @rule(line=_lines, refill=st.sampled_from(["restore", "controller"]))
    def redis_is_emptied(self, line: str, refill: str) -> None:
        """Empty Redis: no command goes until it is filled from the store; then all is as before."""
        before = self.office.live()
        self.office.workshop.link.flushall()
        ran = self.office.run("ann", *self._read(line).line.split())
        assert ran.code == REFUSED, ran
        assert self.office.workshop.link.keys() == []
        if refill == "restore":
            assert self.office.run("ann", "restore").code == DONE
        else:
            shop = self.office.workshop
            restore(store=shop.store, link=shop.link, workspace=WORKSPACE)
        assert self.office.live().pointer == before.pointer
        windows = {
            name: replace(each, may_lose=True)
            if each.frozen or not self._is_there(name)
            else Window(lost=True)
            for name, each in self.world.windows.items()
        }
        self.world = replace(self.world, windows=windows)
        self._look()

    def _reopen(self, name: str) -> None:
        """Reopen a window; refused unless Redis has lost it."""
        window = self.world.windows.get(name)
        lost = self._is_there(name) and window is not None and window.lost
        before = self.office.everything()
        ran = self.office.run("bob", "window", "reopen", "coffee", name, "--yes")
        assert ran.code == (DONE if lost else REFUSED), ran
        if lost:
            self.world = replace(self.world, windows={**self.world.windows, name: Window()})
        else:
            assert self.office.everything() == before

    @rule(line=_lines, at=_phones)
    def gateway_lags(self, line: str, at: list[int]) -> None:
        """Let a gateway that has not heard yet ask for seats: the newest word counts."""
        self._obey(self._read(line), look=False)
        for each in at:
            self.gateway.ask(CROWD[each], drafts.NOW, dry_run=False)
            self._seat(CROWD[each], (self.world,))
        self._look()

    @rule(
        first=_lines | st.builds("push {}".format, _edits),
        second=_lines
        | st.builds("push {}".format, _edits)
        | st.builds("phone {}".format, st.integers(0, PHONES - 1)),
        step=st.integers(1, REDIS_STEPS),
    )
    def race(self, first: str, second: str, step: int) -> None:
        """Let `second` happen whole in the midst of `first`, at a step of its talk to Redis."""
        before, slower, notes = self.world, self._read(first), self._notes(2)
        told: list[Ran] = []

        def interrupt() -> None:
            if second.startswith("phone"):
                self.gateway.ask(CROWD[int(second.split()[1])], drafts.NOW, dry_run=False)
            else:
                told.append(self._run(self._read(second), "bob", notes[1], folder="other"))

        steps = Steps(step, interrupt)
        told.insert(0, self._run(slower, "ann", notes[0], steps=steps))
        if not steps.reached:
            interrupt()
        if second.startswith("phone"):
            self._follow_one_and_a_phone(slower, told[0], notes[0], CROWD[int(second.split()[1])])
        else:
            quicker = self._read(second)
            self._follow_two(before, (slower, quicker), told, notes)
        self._look()

    # What should have come of it.

    def _read(self, line: str) -> Command:
        verb, *words = line.split()
        if verb == "revert":
            return Revert(max(self.world.number + int(words[0]), 0))
        if verb == "push":
            return Push(drafts.edited(self.draft, " ".join(words)))
        if verb == "allowlist":
            return Enlist(words[1], tuple(words[2:]), words[0] == "add")
        return lay(line)

    def _notes(self, count: int) -> list[str]:
        self.turn += count
        return [f"step {self.turn - each}" for each in range(count)]

    def _run(
        self,
        command: Command,
        who: str,
        note: str,
        *,
        folder: str = "plan",
        file: Path | None = None,
        write: bool = True,
        steps: Steps | None = None,
    ) -> Ran:
        arguments = [*command.line.split(), "-m", note]
        if isinstance(command, Push):
            place = file or self.office.folder / folder
            if file is None and write:
                self._write(command.plan, folder)
            base = self.world.number - command.stale
            arguments += [str(place), "--base", str(base), "--allow-shrink"]
        return self.office.run(who, *arguments, steps=steps)

    def _obey(self, command: Command, *, look: bool = True, **options: Any) -> None:
        """Run a command, and hold it to what the model says."""
        outcome, [note] = command.on(self.world), self._notes(1)
        who = OPERATORS[self.turn % 2]
        before = self.office.everything() if outcome.code != DONE else None
        ran = self._run(command, who, note, **options)
        assert ran.code == outcome.code, (command.line, ran)
        if before is not None:
            assert self.office.everything() == before, (command.line, ran)
            return
        if isinstance(command, Push):
            self.draft = command.plan
        self._follow(outcome.world, who, note)
        if look:
            self._look()

    def _follow(self, world: World, who: str = "ann", note: str = "") -> None:
        """Take over what should stand, under the number that it got; the history must say it."""
        before, number = self.world, self.office.live().number
        assert number == before.number + 1 or (
            number == before.number and not world.differs(before)
        )
        if number > before.number:
            entry = self.office.newest(1)[0]
            assert (entry.number, entry.author) == (number, who)
            assert entry.note.startswith(note)
            world = world.numbered(number)
        there = before.plan.offers if before.number else {}
        self.world = self._seats_taken_over(world, set(there))

    def _seats_taken_over(self, world: World, there: set[str]) -> World:
        """Whoever sat sits, where the release was `there`, or its seats could not have gone."""
        windows = dict(world.windows)
        for name, found in self.office.seated().items():
            window = windows.get(name, Window())
            if name not in there:
                if window.may_lose:
                    held = found.hashes or ()
                    seated = frozenset(each for each in window.seated if _hash(each) in held)
                    window = Window(seated, lost=found.hashes is None)
                elif window.lost:
                    window = Window()
            lose = window.may_lose and found.frozen
            windows[name] = replace(window, frozen=found.frozen, may_lose=lose)
        return replace(world, windows=windows)

    def _follow_one_and_a_phone(
        self, command: Command, ran: Ran, note: str, phone: dict[str, Any]
    ) -> None:
        """Follow a command during which a phone may have been seated, or even have stopped it."""
        outcome, before = command.on(self.world), self.world
        if ran.code == DONE == outcome.code:
            if isinstance(command, Push):
                self.draft = command.plan
            self._follow(outcome.world, "ann", note)
        else:
            busy = isinstance(command, Push | Revert) and "other seats meanwhile" in ran.said
            assert ran.code == outcome.code or (ran.code == REFUSED and busy), (command.line, ran)
        self._seat(phone, (before, self.world))

    def _seat(self, phone: dict[str, Any], worlds: tuple[World, ...]) -> None:
        """Take over where a gateway has seated a phone: where one of these worlds lets it sit."""
        windows = dict(self.world.windows)
        for name, found in self.office.seated().items():
            subject, window = self._subject(name, phone), windows[name]
            if subject in window.seated or not found.hashes:
                continue
            if subject is not None and _hash(subject) in found.hashes:
                assert any(
                    world.value(("state", name)) == "live"
                    and window.is_free(world.plan.offers[name])
                    for world in worlds
                ), (name, window)
                windows[name] = replace(window, seated=window.seated | {subject})
        self.world = replace(self.world, windows=windows)

    def _follow_two(
        self, before: World, commands: tuple[Command, Command], told: list[Ran], notes: list[str]
    ) -> None:
        """Find the order in which two commands happened, of those that can be; follow them."""
        live = self.office.live()
        entries = self.office.newest(live.number - before.number or 1)
        numbers = {each.note: each.number for each in entries if each.number > before.number}
        authors = {each.note: each.author for each in entries if each.note in notes}
        assert authors.items() <= dict(zip(notes, OPERATORS, strict=True)).items()
        laid = self.office.overrides()
        race = Race(before, commands, told, [numbers.get(each) for each in notes])
        for order in race.orders():
            world = order[-1][1]
            if world.number == live.number and world.overrides == laid:
                break
        else:
            raise AssertionError(f"no order of the two explains it: {told}, {numbers}, {laid}")
        for at, _ in order:
            command = commands[at]
            if isinstance(command, Push) and told[at].code == DONE:
                self.draft = command.plan
        there = set(before.plan.offers).intersection(*(each.plan.offers for _, each in order))
        self.world = self._seats_taken_over(world, there)

    def _contested(self, wish: Push) -> Iterator[str]:
        for place in self.world.overrides:
            name = names(place)[0]
            alone = World(self.world.plan, {place: self.world.overrides[place]}, self.world.stored)
            if replace(wish, take=()).on(alone).code == REFUSED:
                yield name

    def _windows(self) -> list[str]:
        return [name for name in WINDOWS if self._is_there(name)]

    def _is_there(self, name: str) -> bool:
        return name in self.world.plan.offers

    # What is.

    def _look(self) -> None:
        """Hold overrides, seats and answers, of old gateways and new, to what should be."""
        assert self.office.overrides() == self.world.overrides
        seated = self.office.seated()
        assert seated.keys() == set(self._windows())
        for name, found in seated.items():
            window = self.world.windows[name]
            wanted = None if window.lost else {_hash(each) for each in window.seated}
            assert found.hashes == wanted, (name, window)
            assert found.frozen == window.frozen
            assert not (window.frozen and window.is_free(self.world.plan.offers[name]))
        fresh = LocalGateway(self.office.workshop.link, WORKSPACE, self.office.trusted)
        for gateway in (self.gateway, fresh):
            assert gateway.load() == self.world.number
        for at in range(self.turn % APART, PHONES, APART):
            self._judge((self.gateway, fresh)[at // APART % 2], CROWD[at], drafts.LATER[at % 3])

    def _judge(
        self, gateway: LocalGateway, phone: dict[str, Any], second: int, *, dry_run: bool = True
    ) -> str | None:
        """Hold an answer to the reference's; give the release that is offered, if any."""
        world = self.world
        plan = drafts.meant(world.plan, world.overrides)
        members = drafts.members(world.plan, world.overrides, plan, phone)
        verdict = evaluate(plan, phone, COFFEE, second, members, self._seats(phone))
        said = gateway.ask(phone, second, dry_run=dry_run)
        got = said["apps"][0]
        wanted: dict[str, Any] = {"status": verdict.status}
        if verdict.status in ("update", "rollback"):
            wanted |= {"version": verdict.version, "release": verdict.release}
            wanted |= {"upgrade": verdict.upgrade}
        found = {key: got.get(key) for key in wanted}
        assert found == wanted, (phone, second)
        for key in world.plan.flags:
            judged = evaluate_switch(plan, phone, second, key, members)
            assert judged is not None
            assert said["switches"][key]["variant"] == judged.variant, (key, phone, second)
        assert said["switches"].keys() == world.plan.flags.keys()
        assert (
            abs(said["check_after"] - plan.workspace.check_after) <= plan.workspace.check_after // 5
        )
        return verdict.release if verdict.status in ("update", "rollback") else None

    def _seats(self, phone: dict[str, Any]) -> Seats:
        seated, free = set(), set()
        for name in self._windows():
            window, subject = self.world.windows[name], self._subject(name, phone)
            if subject is not None and subject in window.seated:
                seated.add((COFFEE, name))
            elif subject is not None and window.is_free(self.world.plan.offers[name]):
                free.add((COFFEE, name))
        return Seats(frozenset(seated), frozenset(free))

    def _subject(self, name: str, phone: dict[str, Any]) -> tuple[str, str] | None:
        workspace = drafts.meant(self.world.plan, {}).workspace
        kinds = ("user",) if self.world.plan.offers[name].by == "user" else ("device", "user")
        found = ((kind, real_id(workspace, phone, kind)) for kind in kinds)
        return next(((kind, text) for kind, text in found if text is not None), None)

    def _visited(self, world: World, phone: dict[str, Any]) -> World:
        """Let a phone ask for real; it sits where it is offered a window's package."""
        release = self._judge(self.gateway, phone, drafts.NOW, dry_run=False)
        if release not in WINDOWS:
            return world
        subject, window = self._subject(release, phone), world.windows[release]
        assert subject is not None
        window = replace(window, seated=window.seated | {subject})
        return replace(world, windows={**world.windows, release: window})

    # Files.

    def _write(self, plan: drafts.Draft, folder: str = "plan") -> None:
        for name, text in drafts.files(plan).items():
            path = self.office.folder / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def _import(self, *ids: str) -> None:
        file = self.office.folder / "vip.txt"
        file.write_text("".join(f"{each}\n" for each in ids))
        line = ("allowlist", "import", "vip", str(file), "--of", "user", "--allow-shrink")
        assert self.office.run("ann", *line).code == DONE

    def _upload(self) -> None:
        for version in "1234":
            for text in record(version).values():
                path = json.loads(text)["forms"][0]["path"]
                self.office.workshop.store.put_named(path, b"nine byte")


def _hash(subject: tuple[str, str]) -> int:
    kind, text = subject
    return id_hash(text, id_seed(WORKSPACE, kind))


def test_what_stands_holds(server: RedisServer, tmp_path: Path) -> None:
    """Whatever operators do, in whatever order, gateways answer by what should stand then."""
    run_state_machine_as_test(
        lambda: OperatorsDay(tmp_path, server.url),
        settings=settings(
            max_examples=DAYS,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=not SOAK,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )


def test_a_day_that_touches_everything(server: RedisServer, tmp_path: Path) -> None:
    """A day in which each kind of step comes, in an order in which each would break the next."""
    day = OperatorsDay(tmp_path, server.url)
    try:
        for line in (
            "pause coffee ramp",
            "percent coffee slow 40",
            "withdraw coffee 4 --yes",
            "check-after 60",
            "switch set theme on",
            "switch disable home",
            "allowlist add staff u-4",
            "allowlist remove phones d-1",
            "allowlist add vip u-1",
            "allowlist add qa u-2",
        ):
            day.command(line)
        day.redis_is_emptied("resume coffee ramp", "restore")
        day.keep_house("reopen rush")
        day.keep_house("reopen rush")
        day.keep_house("reopen even")
        day.phones_ask(list(range(20)))
        day.push(["slow percent 2000"], take=False)
        day.push(["drop beta", "ramp state paused", "home default on"], take=False)
        day.push(["slow percent 2000"], take=True)
        day.command("revert -3")
        day.command("resume coffee ramp")
        day.command("allowlist remove staff u-4")
        day.phones_ask(list(range(PHONES)))
        day.keep_house("freeze")
        day.push(["rush first 5", "ramp percent 10000"], take=False)
        day.gateway_lags("pause coffee rush", list(range(PHONES)))
        day.gateway_lags("resume coffee rush", [0, 1, 2])
        day.phones_ask(list(range(PHONES)))
        day.push(["drop rush", "withdraw 3"], take=False)
        day.push(["bring rush", "rush first 2"], take=False)
        day.command("end coffee listed")
        day.command("resume coffee listed")
        day.command("revert -4")
        for step in (3, 9, 15, 21):
            day.race(f"percent coffee ramp {step}", f"check-after {step}", step)
        day.race("push stable percent 4000", "pause coffee ramp", 30)
        day.push_a_file_that_was_compiled_before("phones + d-9", "percent coffee ramp plan")
        day.command("allowlist remove guests u-5")
        day.pull_and_push()
        day.keep_house("gc 1")
        day.keep_house("stale push")
        day.redis_is_emptied("check-after 9", "controller")
        day.push_and_take_the_plan(["staff - u-1"], 0)
    finally:
        day.teardown()
