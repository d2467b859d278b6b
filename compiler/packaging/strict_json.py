"""JSON read strictly: what two readers may take differently is a fault."""

from typing import Any

from compiler.packaging.entry_names import shown


class RepeatedMemberError(ValueError):
    """An object has a member twice, of which one reader takes the first and another the last."""


def single_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members, as json's `object_pairs_hook`. Raises RepeatedMemberError."""
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RepeatedMemberError(f"the member {shown(twice)} is given twice")
    return value
