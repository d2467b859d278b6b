"""How one condition is read: which operands an operator takes depends on the attribute's kind.

    kind      attributes                              in, not_in   ranges    matches
    text      platform, brand, …                      text         refused   pattern
    version   os_version, client_version, installed   versions     versions  pattern (as sent)
    custom    custom.NAME                             core schema  numbers   pattern

Two operands may stand for one (`in: WIFI`, `matches: Mi*`) where alternatives are expected.
"""

from dataclasses import dataclass
from typing import Any

from compiler.language.core_value import NoValueError, core_value
from compiler.language.faults import Faults, listed, nearest, quote
from compiler.language.records import Fields, Key, Record
from compiler.language.shapes import Many, Raw, RefusalError, Schema, Shape, Word
from compiler.language.tree import Node, Scalar, Sequence
from compiler.language.words import ANY_SCALAR, OPERAND, PATTERN, VERSION, version_key
from compiler.plan import Condition, Operand, Operator
from gateway.attribute import BUILT_IN, CUSTOM, TEXT, VALUE_CHARS, VERSIONS

_RANGES = (Operator.BETWEEN, Operator.NOT_BETWEEN, Operator.AT_LEAST, Operator.BELOW)
_PAIRS = (Operator.BETWEEN, Operator.NOT_BETWEEN)
_OPERATORS = {str(operator): operator for operator in Operator}
_BOUNDS = 2
_MOST_NAME_CHARS = 64


def _attribute(text: str) -> str:
    custom = text.removeprefix(CUSTOM)
    if text in BUILT_IN:
        return text
    if text.startswith(CUSTOM) and 0 < len(custom) <= _MOST_NAME_CHARS and custom.isprintable():
        return text
    if text.startswith(CUSTOM):
        raise RefusalError(
            f"An attribute of your own has 1 to {_MOST_NAME_CHARS} printable characters after "
            f'"{CUSTOM}". Write {CUSTOM}tier, for example.'
        )
    near = nearest(text, BUILT_IN)
    own = f"{quote(CUSTOM + text)} for one of your own"
    mend = f"{quote(near)}, or {own}" if near else f"{own}, or one of {listed(BUILT_IN)}"
    raise RefusalError(f"There is no attribute {quote(text)}. Write {mend}.")


_ATTRIBUTE = Word(
    "an attribute such as brand",
    _attribute,
    {"anyOf": [{"enum": list(BUILT_IN)}, {"type": "string", "pattern": "^custom\\..{1,64}$"}]},
)


@dataclass(frozen=True, slots=True)
class _CustomOperand:
    """One operand of a custom attribute: text, true/false or a number, by the core schema."""

    number: bool = False

    def read(self, node: Node, faults: Faults) -> Operand | None:
        """Read one value that a client could send."""
        if not isinstance(node, Scalar):
            OPERAND.read(node, faults)  # says which shape is wrong
            return None
        try:
            value = core_value(node, faults)
        except NoValueError:
            return None
        if value is None:
            faults.error(
                node.span,
                "Null counts as not sent, so nothing equals it. Delete it, or put it in quotes "
                "if it is text.",
            )
            return None
        if self.number and (isinstance(value, bool) or not isinstance(value, int | float)):
            faults.error(
                node.span,
                f"{quote(node.text)} is no number, and ranges of custom attributes compare "
                "numbers. Write a number without quotes, or use in or matches.",
            )
            return None
        if isinstance(value, str):
            return OPERAND.read(node, faults)
        assert isinstance(value, bool | int | float)
        return value

    def schema(self) -> Schema:
        """Describe a scalar."""
        return {"type": "number"} if self.number else ANY_SCALAR


def _operand_shape(attribute: str, operator: Operator) -> Shape[Any]:
    if operator is Operator.MATCHES:
        return PATTERN
    if attribute in VERSIONS:
        return VERSION
    if attribute in TEXT:
        return OPERAND
    return _CustomOperand(number=operator in _RANGES)


def _operands(
    attribute: str, operator: Operator, node: Node, faults: Faults
) -> tuple[Operand, ...] | None:
    """Read an operator's operands; None after a fault."""
    item = _operand_shape(attribute, operator)
    before = faults.errors
    found: tuple[Operand, ...] | None
    if operator not in _RANGES:
        found = Many(item, "values", least=1, alone=True).read(node, faults)
    elif operator not in _PAIRS:
        value = item.read(node, faults)
        found = None if value is None else (value,)
    elif isinstance(node, Sequence) and len(node.items) == _BOUNDS:
        found = Many(item, "bounds").read(node, faults)
    else:
        faults.error(
            node.span,
            f'"{operator}" takes the lowest and the highest value. Write {operator}: [low, high], '
            "or use at_least or below.",
        )
        return None
    if faults.errors > before or found is None:
        return None
    if operator in _PAIRS and _order(found[0]) > _order(found[1]):
        faults.error(
            node.span,
            f"The range from {found[0]} to {found[1]} is upside down: nothing lies in it. Write "
            f"{operator}: [{found[1]}, {found[0]}].",
        )
        return None
    return found


def _order(operand: Operand) -> Any:
    """Give what a range's bound compares by: a version's key or the number itself."""
    return version_key(operand) if isinstance(operand, str) else operand


def folded(condition: Condition) -> tuple[tuple[str, Any], ...]:
    """Give the operands as they compare: equal pairs of kind and value accept the same clients."""
    as_version = condition.attribute in VERSIONS and condition.operator is not Operator.MATCHES
    return tuple(_folded(operand, as_version=as_version) for operand in condition.operands)


def _folded(operand: Operand, *, as_version: bool) -> tuple[str, Any]:
    if isinstance(operand, bool):
        return "truth", operand
    if isinstance(operand, int | float):
        return "number", operand
    return ("version", version_key(operand)) if as_version else ("text", operand.casefold())


def _condition(fields: Fields, faults: Faults) -> Condition | None:
    given = [_OPERATORS[name] for name in fields.spans if name in _OPERATORS]
    attribute = fields.get("attribute")
    if len(given) != 1:
        for operator in given[1:]:
            faults.error(
                fields.spans[operator],
                f'This condition already has "{given[0]}". Write a second condition for '
                f'"{operator}": both must then hold.',
            )
        if not given:
            faults.error(
                fields.span,
                f"This condition tests nothing. Add one of {listed(Operator)}.",
            )
        return None
    operator = given[0]
    if attribute in TEXT and operator in _RANGES:
        faults.error(
            fields.spans[operator],
            f'"{attribute}" is text, which has no order. Use in, not_in or matches; ranges are '
            f"for {listed(VERSIONS, 'and')} and for numbers in custom attributes.",
        )
        return None
    node = fields.get(operator)
    if attribute is None or node is None:
        return None
    operands = _operands(attribute, operator, node, faults)
    if operands is None:
        return None
    return Condition(attribute, operator, operands, fields.span)


def _alternatives() -> Schema:
    return {"anyOf": [ANY_SCALAR, {"type": "array", "items": ANY_SCALAR, "minItems": 1}]}


_RAW_PAIR = Raw({"type": "array", "items": ANY_SCALAR, "minItems": _BOUNDS, "maxItems": _BOUNDS})
_RAW_MANY = Raw(_alternatives())
_RAW_ONE = Raw(ANY_SCALAR)

CONDITION = Record(
    "A condition",
    {
        "attribute": Key(
            _ATTRIBUTE,
            "What the client says of itself; custom.NAME for one of your own.",
            "attribute: brand",
        ),
        "in": Key(_RAW_MANY, "Holds for any of these values; case does not matter."),
        "not_in": Key(_RAW_MANY, "Holds for a value that was sent and is none of these."),
        "between": Key(_RAW_PAIR, "[lowest, highest], both included; versions or numbers."),
        "not_between": Key(_RAW_PAIR, "Holds below the first and above the second value."),
        "at_least": Key(_RAW_ONE, "This version or number, or a higher one."),
        "below": Key(_RAW_ONE, "A lower version or number than this."),
        "matches": Key(
            _RAW_MANY,
            f"Patterns over the whole value: * any characters, ? one; at most {VALUE_CHARS} long.",
        ),
    },
    _condition,
    extra={"oneOf": [{"required": [str(operator)]} for operator in Operator]},
)
