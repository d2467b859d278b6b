"""Ids that overrides put on lists, or take off them: for the image, and for the eye.

A list's ids are in its buckets, which are not touched: what is laid over them goes beside, by its
hash, and gateways know it by heart. So it takes as long with ten million ids as with ten.
"""

from collections.abc import Iterable, Iterator

from compiler.overrides import What, laid_line
from compiler.plan import Plan
from gateway.hashing import id_hash, id_seed
from gateway.layout import Amended, Override

MOST_IDS = 10_000
"""Ids laid over all lists together: every gateway, and every command, reads them all."""

_SHOWN = 3
_ON = "true"


def of_id(name: str, text: str, *, on: bool) -> Override:
    """Write the override that puts an id on a list, or takes it off."""
    return {"what": What.MEMBER.value, "app": name, "name": text, "value": str(on).lower()}


def laid_ids(overrides: Iterable[Override]) -> dict[str, tuple[list[str], list[str]]]:
    """Give by list the ids that are put on it and those that are taken off, in the order given."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for each in overrides:
        if each["what"] == What.MEMBER:
            on, off = found.setdefault(each["app"], ([], []))
            (on if each["value"] == _ON else off).append(each["name"])
    return found


def amended(plan: Plan, overrides: Iterable[Override]) -> dict[str, Amended]:
    """Hash what lies over the plan's lists; ids of lists that it does not have are left out."""
    workspace = plan.workspace.name
    seeds = {source.name: id_seed(workspace, source.of) for source in plan.lists}
    return {
        name: {"added": _hashes(on, seeds[name]), "removed": _hashes(off, seeds[name])}
        for name, (on, off) in laid_ids(overrides).items()
        if name in seeds
    }


def laid_lines(overrides: Iterable[Override]) -> list[str]:
    """Say each override in a line; of many ids of one list the first few, and how many more."""
    lines: list[str] = []
    ids: dict[tuple[str, str], list[Override]] = {}
    for each in overrides:
        if each["what"] == What.MEMBER:
            ids.setdefault((each["app"], each["value"]), []).append(each)
        else:
            lines.append(laid_line(each))
    for (name, value), some in ids.items():
        lines += map(laid_line, some[:_SHOWN])
        if len(some) > _SHOWN:
            said = "on the list" if value == _ON else "not on the list"
            lines.append(f"{name}: and {len(some) - _SHOWN:,} more ids are {said}")
    return lines


def changed_ids(
    old: Iterable[Override], new: Iterable[Override]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Tell by list which ids are laid over it anew, and which no more, each in a phrase."""
    before, after = laid_ids(old), laid_ids(new)
    for name in sorted({*before, *after}):
        was, now = before.get(name, ([], [])), after.get(name, ([], []))
        gone = (set(was[0]) - set(now[0])) | (set(was[1]) - set(now[1]))
        changes = (
            ("with", set(now[0]) - set(was[0])),
            ("without", set(now[1]) - set(was[1])),
            ("by the plan again:", gone - {*now[0], *now[1]}),
        )
        phrases = tuple(f"{word} {few(ids)}" for word, ids in changes if ids)
        if phrases:
            yield name, phrases


def few(ids: Iterable[str]) -> str:
    """Name the first few ids, and how many more there are."""
    some = sorted(ids)
    more = f" and {len(some) - _SHOWN:,} more" if len(some) > _SHOWN else ""
    return ", ".join(some[:_SHOWN]) + more


def _hashes(ids: Iterable[str], seed: int) -> bytes:
    return b"".join(sorted(id_hash(text, seed).to_bytes(8, "big") for text in ids))
