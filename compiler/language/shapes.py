"""The kinds of things that a plan file is made of, from which both readers derive.

A shape reads a node of the tree into a value, reporting what does not fit, and describes itself
as JSON Schema for editors. So what `validate` accepts and what an editor suggests are written
down once. `None` from `read` means that nothing could be read and that the fault is reported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from compiler.language import tree
from compiler.language.core_value import NoValueError, core_value
from compiler.language.faults import Faults, quote
from compiler.language.tree import Broken, Node, Scalar, Sequence, shape_of
from compiler.plan import JsonValue, Span

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Schema = dict[str, Any]


class RefusalError(ValueError):
    """A scalar that does not fit; `str()` is the sentence to show."""


class Shape(Protocol[T_co]):
    """A kind of thing: how it is read, and how editors are told of it."""

    def read(self, node: Node, faults: Faults) -> T_co | None:
        """Read a node, or report why not and give None."""

    def schema(self) -> Schema:
        """Describe the shape as JSON Schema (draft 7)."""


@dataclass(frozen=True, slots=True)
class Located(Generic[T]):
    """A value and where it was written."""

    value: T
    span: Span


@dataclass(frozen=True, slots=True)
class Word(Generic[T]):
    """One scalar. `what` completes "Write …"; `parse` raises RefusalError with its own sentence.

    `other_shape` replaces the mend where a list or mapping stands instead.
    """

    what: str
    parse: Callable[[str], T]
    json: Schema
    other_shape: str = ""

    def read(self, node: Node, faults: Faults) -> T | None:
        """Read a scalar's text, quoted or not."""
        if isinstance(node, Scalar):
            if node.is_empty:
                faults.error(node.span, f"A value is missing here. Write {self.what}.")
                return None
            try:
                return self.parse(node.text)
            except RefusalError as refusal:
                faults.error(node.span, str(refusal))
        elif not isinstance(node, Broken):
            mend = self.other_shape or f"Write {self.what}."
            faults.error(node.span, f"This is {shape_of(node)}. {mend}")
        return None

    def schema(self) -> Schema:
        """Give the scalar's schema as it was written down."""
        return self.json


@dataclass(frozen=True, slots=True)
class Placed(Generic[T]):
    """What another shape reads, with its place."""

    shape: Shape[T]

    def read(self, node: Node, faults: Faults) -> Located[T] | None:
        """Read by the other shape and add the node's place."""
        value = self.shape.read(node, faults)
        return None if value is None else Located(value, node.span)

    def schema(self) -> Schema:
        """Give the other shape's schema."""
        return self.shape.schema()


@dataclass(frozen=True, slots=True)
class Many(Generic[T]):
    """A list of at least `least` and at most `most` items; with `alone`, one may stand for many.

    `what` completes "Write a list of …".
    """

    item: Shape[T]
    what: str
    least: int = 0
    most: int | None = None
    alone: bool = False

    def read(self, node: Node, faults: Faults) -> tuple[T, ...] | None:
        """Read every item; those that cannot be read are reported and left out."""
        if isinstance(node, Scalar) and node.is_empty:
            node = Sequence((), node.span)
        if not isinstance(node, Sequence):
            if self.alone:
                value = self.item.read(node, faults)
                return None if value is None else (value,)
            if not isinstance(node, Broken):
                mend = f'Write a list of {self.what}, each after "- ".'
                faults.error(node.span, f"This is {shape_of(node)}. {mend}")
            return None
        if len(node.items) < self.least:
            faults.error(node.span, f"This list is empty. Write {self.what}, or delete the key.")
            return None
        if self.most is not None and len(node.items) > self.most:
            faults.error(
                node.span,
                f"This list has {len(node.items)} items; at most {self.most} may stand here. "
                "Delete some.",
            )
        values = (self.item.read(item, faults) for item in node.items)
        return tuple(value for value in values if value is not None)

    def schema(self) -> Schema:
        """Describe an array, or an array or one item."""
        array: Schema = {"type": "array", "items": self.item.schema()}
        if self.least:
            array["minItems"] = self.least
        if self.most is not None:
            array["maxItems"] = self.most
        return {"anyOf": [array, self.item.schema()]} if self.alone else array


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """One key of a table with its value, None when that could not be read."""

    key: Located[str]
    value: T | None


@dataclass(frozen=True, slots=True)
class Table(Generic[T]):
    """A mapping whose keys are the operator's own names. `what` completes "Write …"."""

    key: Word[str]
    item: Shape[T]
    what: str

    def read(self, node: Node, faults: Faults) -> tuple[Row[T], ...] | None:
        """Read the rows in the order of the file; keys that become equal are reported."""
        if isinstance(node, Scalar) and node.is_empty:
            return ()
        if not isinstance(node, tree.Mapping):
            if not isinstance(node, Broken):
                faults.error(node.span, f"This is {shape_of(node)}. Write {self.what}.")
            return None
        rows: dict[str, Row[T]] = {}
        for written, item in node.entries:
            name = self.key.read(written, faults)
            value = self.item.read(item, faults)
            if name is None:
                continue
            if name in rows:
                line = rows[name].key.span.line
                faults.error(
                    written.span,
                    f"{quote(written.text)} was already given on line {line}. "
                    "Delete one of the two.",
                )
                continue
            rows[name] = Row(Located(name, written.span), value)
        return tuple(rows.values())

    def schema(self) -> Schema:
        """Describe an object with free keys."""
        return {"type": "object", "additionalProperties": self.item.schema()}


@dataclass(frozen=True, slots=True)
class Either(Generic[T]):
    """A word or a record, told apart by what is written."""

    word: Shape[T]
    record: Shape[T]

    def read(self, node: Node, faults: Faults) -> T | None:
        """Read a mapping as the record and all else as the word."""
        shape = self.record if isinstance(node, tree.Mapping) else self.word
        return shape.read(node, faults)

    def schema(self) -> Schema:
        """Describe either."""
        return {"anyOf": [self.word.schema(), self.record.schema()]}


@dataclass(frozen=True, slots=True)
class Raw:
    """Any node, as it is: what it means depends on another key. `json` describes it."""

    json: Schema

    def read(self, node: Node, faults: Faults) -> Node | None:  # noqa: ARG002
        """Give the node itself."""
        return None if isinstance(node, Broken) else node

    def schema(self) -> Schema:
        """Give the schema as it was written down."""
        return self.json


@dataclass(frozen=True, slots=True)
class Free:
    """Any JSON value, by YAML 1.2's core schema; wrapped, as null is a value."""

    def read(self, node: Node, faults: Faults) -> Located[JsonValue] | None:
        """Read the value with its place."""
        try:
            return Located(core_value(node, faults), node.span)
        except NoValueError:
            return None

    def schema(self) -> Schema:
        """Describe anything."""
        return {}
