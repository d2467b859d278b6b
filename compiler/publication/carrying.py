"""What a push does with the live epoch's overrides: it is compiled under them.

So it is with time windows that are frozen, where it was compiled without a look at them.

No override is lifted silently: it stays, or ends because the plan says the same or the operator
takes what the plan says. A plan that has changed the very value overridden is refused.
"""

from collections import ChainMap
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from compiler.amendments import laid_ids, laid_lines
from compiler.carried_plan import read_plan
from compiler.diagnostic import PlanError
from compiler.image import Image, relay_image
from compiler.overrides import (
    Contested,
    Settlement,
    What,
    in_words,
    laid_line,
    named,
    names_of,
    place_of,
    said,
    settle,
)
from compiler.plan import Plan, percent_text
from compiler.publication.enrolled import enrolled
from compiler.publication.epoch import Publication, Reader
from compiler.refusal import Refused
from compiler.storage.spool import Spool
from compiler.windows import Frozen
from gateway.layout import Override


@dataclass(frozen=True, slots=True)
class Carried:
    """An image with the overrides laid over it that go on, and what became of each of them."""

    image: Image
    settlement: Settlement
    plan: Plan | None = None

    @property
    def lines(self) -> list[str]:
        """Say what was kept and what has ended, and why, a line each."""
        lines = []
        kept, on_lists = _apart(self.settlement.kept)
        for each in kept:
            own = said(self.plan, place_of(each)) if self.plan is not None else None
            lines.append(f"kept from before: {laid_line(each)} (the plan: {_own(each, own)})")
        lines += [f"kept from before: {line}" for line in laid_lines(on_lists)]
        lines += [
            f"no longer laid over: {line}; the plan says the same now"
            for line in laid_lines(self.settlement.agreed)
        ]
        taken, off_lists = _apart(self.settlement.taken)
        for each in taken:
            own = said(self.plan, place_of(each)) if self.plan is not None else None
            lines.append(f"taken from the plan: {named(each)} {in_words(each['what'], own)}")
        lines += [
            f"no longer laid over: {line}; the plan's list is taken"
            for line in laid_lines(off_lists)
        ]
        return lines


def _apart(overrides: Collection[Override]) -> tuple[list[Override], list[Override]]:
    """Tell overrides of what a plan says from those of ids on lists, of which it says nothing."""
    ids = [each for each in overrides if each["what"] == What.MEMBER]
    return [each for each in overrides if each["what"] != What.MEMBER], ids


def carry(
    image: Image,
    live: Publication | None,
    blob: Reader,
    take: Collection[str] = (),
    frozen: Mapping[str, Frozen] | None = None,
) -> Carried:
    """Lay the live epoch's overrides over an image that was compiled without them.

    `blob` reads the live epoch; `take` names overrides that are to end, as `--take-plan` does;
    `frozen` has the seats of the windows that are to be frozen, if the image does not say it.
    Contested overrides are laid over too. Raises Refused for a name in `take` that is overridden by
    nothing, PlanError and what `blob` raises.
    """
    overrides = live.tree["overrides"] if live is not None else []
    if live is None or not overrides:
        _refuse_unknown(take, overrides, None)
        return Carried(_relaid(image, (), frozen), Settlement())
    apps = {each["app"] for each in overrides if each["app"]}
    plan = read_plan(image.tree, image.blobs.__getitem__, apps)
    _refuse_unknown(take, overrides, plan)
    before: Plan | None = None
    with suppress(PlanError):  # of a plan that is too old to read, nothing tells what it said
        before = read_plan(live.tree, blob, apps)
    ids = {name: [*on, *off] for name, (on, off) in laid_ids(overrides).items()}
    members = enrolled(image.contents, plan, image.blobs.__getitem__, ids) if ids else ()
    settlement = settle(before, plan, overrides, take, members)
    kept = [*settlement.kept, *(each.override for each in settlement.contested)]
    return Carried(_relaid(image, kept, frozen), settlement, plan)


def _relaid(image: Image, kept: Sequence[Override], frozen: Mapping[str, Frozen] | None) -> Image:
    if not kept and not frozen:
        return image
    relaid = relay_image(
        image.contents, image.tree, image.blobs.__getitem__, kept, frozen, blobs=Spool()
    )
    return replace(relaid, blobs=ChainMap(relaid.blobs, image.blobs))


def contest(contested: Collection[Contested]) -> str:
    """Say which overridden values the plan has changed, and how each is settled."""
    return "\n".join(
        f"{laid_line(each.override)} by an override, and this plan changes what it is laid over "
        f"from {_value(each.override, each.before)} to {_value(each.override, each.after)}. "
        f"To take the plan's value, push with --take-plan {named(each.override)}; to keep the "
        f"override's, write {_value(each.override, each.override['value'])} into the plan "
        "(`tidegate pull` does)."
        for each in contested
    )


def same_plan(before: Publication, after: Publication) -> bool:
    """Tell whether two epochs publish one plan, under whatever overrides and frozen windows."""
    one, other = (
        {
            **each.tree,
            "overrides": [],
            "windows": {
                name: {**window, "state": "", "seats": b"", "count": 0}
                for name, window in each.tree["windows"].items()
            },
        }
        for each in (before, after)
    )
    return one == other


def _refuse_unknown(
    take: Collection[str], overrides: Collection[Override], plan: Plan | None
) -> None:
    names = {name for each in overrides if plan is not None for name in names_of(each, plan)}
    unknown = sorted(set(take) - names)
    if unknown:
        there = ", ".join(sorted({_shown_name(each) for each in overrides})) or "nothing"
        raise Refused(f"Nothing is overridden at {', '.join(unknown)}. Overridden now: {there}.")


def _shown_name(override: Override) -> str:
    return override["app"] if override["what"] == What.MEMBER else named(override)


def _own(override: Override, value: str | None) -> str:
    return "not there" if value is None else _value(override, value)


def _value(override: Override, value: str) -> str:
    if override["what"] == What.PERCENT:
        return f"{percent_text(int(value))} %" if value.isdecimal() else "a ramp"
    if override["what"] == What.WITHDRAWN:
        return f"withdrawn: {value}"
    return value
