"""Values by YAML 1.2's core schema, held to what JSON can say.

Only what stands under `info:` and the operands of conditions on custom attributes are read so;
everything else in a plan is text to which the schema gives its type.
"""

import math
import re

from compiler.language.faults import Faults, quote
from compiler.language.tree import Broken, Node, Scalar, Sequence
from compiler.plan import JsonValue

INTEGER_BITS = 63
"""Integers lie within ±2^63, so that every JSON and MessagePack reader can hold them."""

_NULL = re.compile(r"(?:null|Null|NULL|~|)\Z")
_TRUE = re.compile(r"(?:true|True|TRUE)\Z")
_FALSE = re.compile(r"(?:false|False|FALSE)\Z")
_DECIMAL = re.compile(r"[-+]?[0-9]+\Z")
_OCTAL = re.compile(r"0o[0-7]+\Z")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NO_JSON = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_MOST_DIGITS = 400  # more are outside every limit below; int() would take quadratic time


class NoValueError(ValueError):
    """A node that has no value here; the fault has been reported."""


def core_value(node: Node, faults: Faults) -> JsonValue:
    """Give a node's value. Raises NoValueError after it has reported why there is none.

    Inside a list or mapping a reported fault leaves None in its place; the plan is void anyway.
    """
    if isinstance(node, Scalar):
        return node.text if node.quoted else _plain_value(node, faults)
    if isinstance(node, Broken):
        raise NoValueError
    if isinstance(node, Sequence):
        return [_or_none(item, faults) for item in node.items]
    return {key.text: _or_none(item, faults) for key, item in node.entries}


def _or_none(node: Node, faults: Faults) -> JsonValue:
    """Go on after a fault, so that all faults of a collection are found."""
    try:
        return core_value(node, faults)
    except NoValueError:
        return None


def _plain_value(node: Scalar, faults: Faults) -> JsonValue:
    text = node.text
    if _NULL.match(text):
        return None
    if _TRUE.match(text):
        return True
    if _FALSE.match(text):
        return False
    if _NO_JSON.match(text):
        faults.error(
            node.span,
            f"{quote(text)} is a number that JSON does not have. Write a finite number, or put "
            "the text in quotes.",
        )
        raise NoValueError
    if len(text) <= _MOST_DIGITS:
        for pattern, base in ((_DECIMAL, 10), (_OCTAL, 8), (_HEXADECIMAL, 16)):
            if pattern.match(text):
                return _within(node, int(text, base), faults)
    if _DECIMAL.match(text) or _FLOAT.match(text):
        return _within(node, float(text), faults)
    return text


def _within(node: Scalar, number: float, faults: Faults) -> int | float:
    limit = 1 << INTEGER_BITS
    if isinstance(number, int) and -limit <= number < limit:
        return number
    if isinstance(number, float) and math.isfinite(number):
        return number
    faults.error(
        node.span,
        f"The number {quote(node.text)} is too large. Integers lie within ±2^63 and other numbers "
        "within ±1.8e308; put an id in quotes.",
    )
    raise NoValueError
