"""Two commands at once: in which orders they can have happened, by what they said and made.

Each publishes at one instant or not at all, so it is one after the other, in one order or the
other; or the one that began first was refused, for a reason that the other one is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from office import Ran
from standing import REFUSED, Command, Enlist, Push, World

Order = list[tuple[int, World]]
"""Whose turn it was, and the world after it."""


@dataclass(frozen=True)
class Race:
    """Two commands, the second of which happened as a whole while the first was under way.

    `told` is what they said, `numbers` those of the epochs that they made, if any.
    """

    before: World
    commands: tuple[Command, Command]
    told: Sequence[Ran]
    numbers: Sequence[int | None]

    def orders(self) -> Iterator[Order]:
        """Give every order that explains what they said and made."""
        slower, quicker = self.commands
        yield from self._played((0, slower), (1, quicker))
        yield from self._played((1, quicker), (0, slower))
        if isinstance(slower, Push):  # it had read the stored list before
            read = replace(slower, compiled=self.before.stored)
            yield from self._played((1, quicker), (0, read))
        if isinstance(slower, Enlist):
            yield from self._played_around(slower, quicker)
        if self.told[1].code == REFUSED and self._is_stale(1):
            yield from self._played((0, slower))
        if self.told[0].code == REFUSED:
            for order in self._played((1, quicker)):
                if self._is_stale(0) or slower.clashes(self.before, order[-1][1]):
                    yield order

    def _played(self, *turns: tuple[int, Command]) -> Iterator[Order]:
        """Play commands in this order, if what comes of it is what they said."""
        world, order = self.before, Order()
        for at, command in turns:
            after = self._turn(at, command, world)
            if after is None:
                return
            world = after
            order.append((at, world))
        yield order

    def _played_around(self, slower: Enlist, quicker: Command) -> Iterator[Order]:
        """Play one that changes the stored list, too: that comes after it is live."""
        first = self._turn(0, slower, self.before)
        if first is None:
            return
        first = replace(first, stored=self.before.stored)
        second = self._turn(1, quicker, first)
        if second is not None:
            last = replace(second, stored=slower.on(second).world.stored)
            yield [(0, first), (1, last)]

    def _turn(self, at: int, command: Command, world: World) -> World | None:
        """Give the world after a command, None if that is not what happened."""
        outcome, number = command.on(world), self.numbers[at]
        if outcome.code != self.told[at].code:
            return None
        if number is None:
            return None if outcome.world.differs(world) else outcome.world
        return outcome.world.numbered(number) if number > world.number else None

    def _is_stale(self, at: int) -> bool:
        """Tell whether a push was refused for its base."""
        is_push = isinstance(self.commands[at], Push)
        return is_push and "was made for epoch" in self.told[at].said
