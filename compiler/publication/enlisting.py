"""Ids are put on lists of the live epoch at once, or taken off: overrides like all others.

See emergency.py; here one wish is of many ids, and what the plan says of an id its lists tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from compiler.amendments import MOST_IDS, of_id
from compiler.image import Image, relay_image
from compiler.overrides import What, in_order, place_of
from compiler.plan import Plan
from compiler.publication.enrolled import enrolled
from compiler.publication.epoch import Publication, Reader
from compiler.refusal import Refused


@dataclass(frozen=True, slots=True)
class Enlistment:
    """The ids that an operator wants on a list, or (not `on`) off it."""

    name: str
    ids: tuple[str, ...]
    on: bool


@dataclass(frozen=True, slots=True)
class Enlisted:
    """What an enlistment does: the image in which it holds, or None where it does already.

    `held` tells of each id whether it was on the list before.
    """

    image: Image | None
    held: Mapping[str, bool]

    def changed(self, *, on: bool) -> int:
        """Count the ids that were not so before."""
        return sum(there is not on for there in self.held.values())


def enlist(live: Publication, plan: Plan, blob: Reader, wish: Enlistment) -> Enlisted:
    """Make the image in which the wish holds; publish it with `onto=live`.

    `plan` is the live one as it is written; `blob` reads the live epoch. Over a list that the plan
    has lost nothing new is laid: what lies there ends by its opposite, and `held` tells of no more.
    Raises Refused when more ids would lie over the plan than MOST_IDS, and what `blob` raises.
    """
    there = any(source.name == wish.name for source in plan.lists)
    own = enrolled(live.contents, plan, blob, {wish.name: wish.ids})
    laid = {place_of(each): each for each in live.tree["overrides"]}
    held = {}
    for text in wish.ids:
        override = of_id(wish.name, text, on=wish.on)
        place = place_of(override)
        before = laid.get(place)
        opposed = before is not None and before["value"] != override["value"]
        if before is None and there:
            held[text] = place in own
        else:
            held[text] = wish.on is not opposed
        if there and (place in own) is not wish.on:
            laid[place] = override
        elif opposed:
            del laid[place]
    overrides = in_order(laid.values())
    if overrides == live.tree["overrides"]:
        return Enlisted(None, held)
    many = sum(each["what"] == What.MEMBER for each in overrides)
    if many > MOST_IDS:
        raise Refused(
            f"{many:,} ids would lie over the lists of the plan; the most is {MOST_IDS:,}. Write "
            "them into the list itself and push: that ends those that the list then says."
        )
    return Enlisted(relay_image(live.contents, live.tree, blob, overrides), held)
