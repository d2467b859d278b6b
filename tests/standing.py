"""What stands after an operator's commands, in words as plain as design.md's: the model of a law.

A world is what everybody knows: the live plan, what is laid over it, who sits in its windows, and
the past. A command tells what world comes of it, and its exit code. Nothing here is Tidegate's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from compiler.reference import seats_open
from drafts import NOW, STARTS, UNTIL, Draft, Offer, Place
from publishing import COFFEE

DONE, USAGE, REFUSED = 0, 2, 3
Overrides = Mapping[Place, str]
Subject = tuple[str, str]
"""A kind, `user` or `device`, and an id."""


@dataclass(frozen=True)
class Window:
    """Who sits; `lost` means that Redis has lost it, so that nobody does until it is reopened.

    `may_lose` means that what it was may be gone once the release, which the plan is without, is
    back: `gc` ran meanwhile, or Redis was emptied. `frozen`: the seats stand in the epoch.
    """

    seated: frozenset[Subject] = frozenset()
    lost: bool = False
    frozen: bool = False
    may_lose: bool = False

    def is_free(self, offer: Offer) -> bool:
        """Tell whether somebody else may sit down."""
        assert offer.first is not None
        until = UNTIL[offer.until]
        seats = seats_open(offer.first, STARTS if offer.linear else None, until, NOW)
        return not self.lost and len(self.seated) < seats


@dataclass(frozen=True)
class Past:
    """What is remembered of an epoch: its plan, and the versions that were withdrawn in it."""

    plan: Draft
    withdrawn: frozenset[str]


@dataclass(frozen=True)
class World:
    """All that stands."""

    plan: Draft
    overrides: Overrides
    stored: frozenset[str]
    """The list `vip` in the store; the plan has it as it was when it was pushed."""

    number: int = 0
    oldest: int = 1
    past: Mapping[int, Past] = field(default_factory=dict)
    windows: Mapping[str, Window] = field(default_factory=dict)

    def value(self, place: Place) -> str | tuple[str, ...] | None:
        """Tell what holds at a place."""
        own = self.plan.says(place)
        return own if own is None else self.overrides.get(place, own)

    def published(self, plan: Draft, overrides: Overrides) -> "World":
        """Give the world in which this is live, under the number that comes next."""
        return replace(self, plan=plan, overrides=dict(overrides))

    def differs(self, other: "World") -> bool:
        """Tell whether another plan is live, or other overrides are."""
        return (self.plan, self.overrides) != (other.plan, other.overrides)

    def numbered(self, number: int) -> "World":
        """Give the world whose live epoch has this number."""
        laid = {place[1] for place, value in self.overrides.items() if is_withdrawal(place, value)}
        past = Past(self.plan, self.plan.saying(self.overrides).withdrawn | laid)
        return replace(self, number=number, past={**self.past, number: past})


def is_withdrawal(place: Place, value: str) -> bool:
    """Tell whether an override withdraws a version."""
    return place[0] == "withdrawn" and value == "true"


@dataclass(frozen=True)
class Outcome:
    """What a command leads to."""

    world: World
    code: int = DONE


@dataclass(frozen=True)
class Lay:
    """Any command that sets one value, or (None) goes by the plan again."""

    line: str
    place: Place
    value: str | None

    def on(self, world: World) -> Outcome:
        """Say what comes of it."""
        what, name = self.place[0], self.place[-1]
        own, laid = world.plan.says(self.place), world.overrides.get(self.place)
        if what == "variant" and self.value is not None and (own is None or self.value == "junk"):
            return Outcome(world, USAGE)
        takes_back = what == "enabled" or self.value in (None, "live", "false")
        if own is None and (laid is None or not takes_back):
            return Outcome(world, USAGE)
        ended = what == "state" and world.value(self.place) == "ended" and self.value != "ended"
        if ended or (what == "percent" and self.value is not None and self._is_aimed(world, name)):
            return Outcome(world, REFUSED)
        if what == "withdrawn" and self.value == "false" and own == "true":
            return Outcome(world, REFUSED)
        overrides = dict(world.overrides)
        if laid is not None and laid == self.value and own is not None:
            return Outcome(world)
        overrides.pop(self.place, None)
        if own is not None and self.value not in (None, own):
            overrides[self.place] = self.value  # type: ignore[assignment]
        return Outcome(world.published(world.plan, overrides))

    def clashes(self, before: World, after: World) -> bool:
        """Tell whether somebody who was faster has changed the very same value."""
        return before.value(self.place) != after.value(self.place) or before.plan.says(
            self.place
        ) != after.plan.says(self.place)

    @staticmethod
    def _is_aimed(world: World, name: str) -> bool:
        """Tell whether a release has no percent, and is not for everyone."""
        offer = world.plan.offers[name]
        return offer.percent is None and bool(
            offer.lists or offer.not_lists or offer.first or offer.by
        )


def lay(line: str) -> Lay:
    """Read such a command."""
    verb, *words = line.split()
    if verb in _STATES:
        return Lay(line, ("state", words[1]), _STATES[verb])
    if verb == "percent":
        value = None if words[2] == "plan" else str(int(words[2]) * 100)
        return Lay(line, ("percent", words[1]), value)
    if verb in ("withdraw", "reinstate"):
        return Lay(line, ("withdrawn", words[1]), str(verb == "withdraw").lower())
    if verb == "check-after":
        return Lay(line, ("check_after",), words[0])
    assert verb == "switch"
    act, key, *variant = words
    if act == "set":
        value = None if variant == ["--as-planned"] else variant[0]
        return Lay(line, ("variant", key), value)
    return Lay(line, ("enabled", key), str(act == "enable").lower())


_STATES = {"pause": "paused", "resume": "live", "end": "ended"}


@dataclass(frozen=True)
class Enlist:
    """`allowlist add` or `remove`."""

    name: str
    ids: tuple[str, ...]
    on_it: bool

    @property
    def line(self) -> str:
        """The command."""
        verb = "add" if self.on_it else "remove --allow-shrink"
        return f"allowlist {verb} {self.name} {' '.join(self.ids)}"

    def on(self, world: World) -> Outcome:
        """Say what comes of it."""
        overrides, wanted = dict(world.overrides), str(self.on_it).lower()
        there = self.name in world.plan.lists
        lifted = False
        for text in self.ids:
            place = ("member", self.name, text)
            opposed = overrides.get(place, wanted) != wanted
            if there and world.plan.says(place) != wanted:
                overrides[place] = wanted
            elif opposed:
                del overrides[place]
                lifted = True
        if not there and not lifted:
            return Outcome(world, REFUSED)
        if self.name == "vip":
            ids = frozenset(self.ids)
            world = replace(world, stored=world.stored | ids if self.on_it else world.stored - ids)
        return Outcome(world.published(world.plan, overrides))

    def clashes(self, before: World, after: World) -> bool:
        """Tell whether somebody who was faster has changed one of these ids."""
        places = [("member", self.name, text) for text in self.ids]
        return any(before.value(each) != after.value(each) for each in places)


@dataclass(frozen=True)
class Push:
    """`push` of a plan, which takes the plan's value where `take` names an override.

    `base` is how far behind the live epoch the plan was made. `compiled` has the ids of the stored
    list from when the plan was compiled to a file.
    """

    plan: Draft
    take: tuple[str, ...] = ()
    stale: bool = False
    compiled: frozenset[str] | None = None

    @property
    def line(self) -> str:
        """The command, without the plan."""
        return " ".join(["push", *(f"--take-plan {each}" for each in self.take)])

    def on(self, world: World) -> Outcome:
        """Say what comes of it."""
        if self.stale:
            return Outcome(world, REFUSED)
        vip = world.stored if self.compiled is None else self.compiled
        plan = replace(self.plan, ids={**self.plan.ids, "vip": vip})
        kept, contested = {}, {}
        for place, value in world.overrides.items():
            own, before = plan.says(place), world.plan.says(place)
            if own == value:
                continue  # it ends: the plan says the same
            list_id = place[0] == "member"
            same = own is None or before is None or own == before or list_id
            (kept if same else contested)[place] = value
        taken = set[Place]()
        for name in self.take:  # the contested of a name if there are any, else the kept
            if not any(name in names(place) for place in world.overrides):
                return Outcome(world, REFUSED)
            meant = [place for place in contested if name in names(place)]
            taken.update(meant or [place for place in kept if name in names(place)])
        if contested.keys() - taken:
            return Outcome(world, REFUSED)
        left = {place: value for place, value in kept.items() if place not in taken}
        return Outcome(world.published(plan, left))

    def clashes(self, before: World, after: World) -> bool:
        """Tell whether somebody who was faster has pushed, or touched what this one takes."""
        return before.plan != after.plan or bool(self.take)


def names(place: Place) -> tuple[str, ...]:
    """Give the names by which `--take-plan` means an override."""
    what, *rest = place
    if what == "check_after":
        return ("check_after", "check-after")
    if what in ("enabled", "variant"):
        return (f"{rest[0]}/{what}",)
    if what == "member":
        return ("/".join(rest), rest[0])
    return (f"{COFFEE}/{rest[0]}", f"coffee/{rest[0]}")


@dataclass(frozen=True)
class Revert:
    """`revert`."""

    number: int

    @property
    def line(self) -> str:
        """The command."""
        return f"revert {self.number} --yes"

    def on(self, world: World) -> Outcome:
        """Say what comes of it: that plan, and the overrides of now."""
        if not world.oldest <= self.number < world.number:
            return Outcome(world, REFUSED)
        plan = world.past[self.number].plan
        overrides = dict(world.overrides)
        for version in plan.versions:
            last = next(_words(world, version, self.number), None)
            if last is not None and last:
                overrides["withdrawn", version] = "true"
        return Outcome(world.published(plan, overrides))

    def clashes(self, before: World, after: World) -> bool:
        """Tell that whoever is faster wins: it is made for what was live."""
        return True


def _words(world: World, version: str, since: int) -> Iterator[bool]:
    """Tell whether epochs withdraw a version, newest first, of those that say anything of it."""
    for number in range(world.number, since, -1):
        past = world.past[number]
        if version in past.withdrawn:
            yield True
        elif version in past.plan.versions:
            yield False


Command = Lay | Enlist | Push | Revert


def pulled(world: World) -> Draft:
    """Give the plan that `pull` writes: the live one with what is laid over it written in.

    Not what a plan cannot say: a variant for everybody where rows give several, ids on a list of
    expressions or in the store, a list without any, and whatever is of a thing that the plan does
    not have.
    """
    laid = {
        place: value
        for place, value in world.overrides.items()
        if not (place[0] == "variant" and isinstance(world.plan.says(place), tuple))
    }
    plan = world.plan.saying(laid)
    ids = dict(plan.ids)
    for (what, *rest), value in laid.items():
        if what == "member" and rest[0] in ("staff", "phones", "guests") and rest[0] in ids:
            one = frozenset(rest[1:])
            ids[rest[0]] = ids[rest[0]] | one if value == "true" else ids[rest[0]] - one
    empty = {name: world.plan.ids[name] for name, each in ids.items() if not each}
    return replace(plan, ids=ids | empty)
