"""Holding decoded values to their shapes: types made of TypedDict, list, dict, unions, scalars.

hold(value, layout.Program)
"""

import types
from collections.abc import Callable
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from gateway.errors import FormatError

Check = Callable[[Any], None]


class _Misfit(Exception):  # noqa: N818 - it never leaves this module
    """A value is not of its shape; `place` is where in the value, and grows on the way out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.place = ""


def hold(value: Any, shape: type) -> None:
    """Raise FormatError, which says where, unless the value is exactly of this shape."""
    try:
        _checker(shape)(value)
    except _Misfit as fault:
        raise FormatError(f"{shape.__name__}{fault.place} must {fault}") from None


@cache
def _checker(shape: Any) -> Check:
    """Make the check of a type made of TypedDict, list, dict, unions and scalars.

    Made once, as a program is checked when a client first asks for its app, in the event loop.
    """
    if is_typeddict(shape):
        return _map_checker(shape)
    origin, inners = get_origin(shape), get_args(shape)
    if origin is None:
        return _scalar_checker(shape)
    if origin is list:
        return _list_checker(inners[0])
    if origin is dict:
        return _dict_checker(*inners)
    assert origin in (Union, types.UnionType)
    return _union_checker(inners)


def _scalar_checker(shape: type) -> Check:
    def check(value: Any) -> None:
        if type(value) is not shape:  # exact: True is no int here
            raise _Misfit(f"be {shape.__name__}, not {type(value).__name__}")

    return check


def _map_checker(shape: type) -> Check:
    fields = get_type_hints(shape)
    names = fields.keys()
    checks = [(name, inner, _checker(inner)) for name, inner in fields.items()]

    def check(value: Any) -> None:
        if type(value) is not dict or value.keys() != names:
            raise _Misfit(f"have exactly the fields {sorted(names)}")
        for name, inner, check_field in checks:
            field = value[name]
            if type(field) is inner:  # a scalar: most fields are, and this spares a call
                continue
            try:
                check_field(field)
            except _Misfit as fault:
                fault.place = f".{name}{fault.place}"
                raise

    return check


def _list_checker(inner: Any) -> Check:
    check_list, check_item = _scalar_checker(list), _checker(inner)
    every = {inner}

    def check(value: Any) -> None:
        check_list(value)
        if set(map(type, value)) <= every:  # all are scalars of this type
            return
        for item in value:
            check_item(item)

    return check


def _dict_checker(key: Any, inner: Any) -> Check:
    check_dict, check_keys, check_items = _scalar_checker(dict), *map(_list_checker, (key, inner))

    def check(value: Any) -> None:
        check_dict(value)
        check_keys(list(value))
        check_items(list(value.values()))

    return check


def _union_checker(shapes: tuple[Any, ...]) -> Check:
    *checks, last = map(_checker, shapes)

    def check(value: Any) -> None:
        if type(value) in shapes:  # None, mostly, or another scalar
            return
        for check_one in checks:
            try:
                check_one(value)
            except _Misfit:
                continue
            return
        last(value)

    return check
