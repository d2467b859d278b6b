"""YAML text to a tree of nodes with places, read without guessing.

PyYAML's parser gives events; the tree is built here, because a plain scalar must stay its source
text (`on`, `no`, `1.10`, `0012` mean what they look like) and every node must know its place.
What YAML has and a plan must not hide behind (anchors, tags, merge keys, a key given twice,
several documents) is a fault. Nothing here touches a file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from compiler.language.faults import Faults, quote
from compiler.language.plan_text import check_text
from compiler.language.syntax import syntax_fault
from compiler.plan import Span

MOST_LEVELS = 64
"""Deeper nesting is refused; no plan needs more than a dozen levels."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as text. `quoted` tells quotes (or `|`, `>`) from a plain scalar."""

    text: str
    quoted: bool
    span: Span

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was written: `key:` alone, not `key: ""`."""
        return not self.text and not self.quoted


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple["Node", ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys with values, in the order of the file; no key stands twice."""

    entries: tuple[tuple[Scalar, "Node"], ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Broken:
    """A node whose fault has been reported, so that nobody reports it again."""

    span: Span


Node = Scalar | Sequence | Mapping | Broken


def parse(file: str, text: str, faults: Faults) -> Node | None:
    """Read one file's text; None when its faults leave no tree. An empty file is an empty scalar.

    Every raw-line fault (merge-conflict markers, control characters) is reported at once; a
    syntax fault ends the reading of this file, as what follows it cannot be trusted.
    """
    text = text.removeprefix("\ufeff")
    before = faults.errors
    check_text(file, text, faults)
    if faults.errors > before:
        return None
    try:
        return _Builder(file, text, faults).build()
    except yaml.YAMLError as fault:
        place, sentence = syntax_fault(file, text, fault)
        faults.error(place, sentence)
        return None


@dataclass(slots=True)
class _Open:
    """A mapping or sequence that has begun: a mapping's keys and values stand in turn."""

    is_mapping: bool
    span: Span
    in_flow: bool
    nodes: list[Node]


class _Builder:
    """Builds one tree from events, without recursion."""

    def __init__(self, file: str, text: str, faults: Faults) -> None:
        self._file = file
        self._text = text
        self._faults = faults

    def build(self) -> Node | None:
        documents = 0
        stack: list[_Open] = []
        root: Node | None = None
        for event in self._events():
            node: Node
            if isinstance(event, yaml.ScalarEvent):
                self._refuse_marks(event)
                node = Scalar(event.value, bool(event.style), self._span(event))
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._refuse_marks(event)
                span = self._span(event)
                if len(stack) == MOST_LEVELS:
                    self._faults.error(
                        span, f"This is nested more than {MOST_LEVELS} levels deep. Flatten it."
                    )
                    return None
                mapping = isinstance(event, yaml.MappingStartEvent)
                stack.append(_Open(mapping, span, bool(event.flow_style), []))
                continue
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                node = self._close(stack.pop(), event)
            elif isinstance(event, yaml.AliasEvent):
                node = self._alias(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._faults.error(
                        self._span(event),
                        "A second YAML document starts here. Write one document a file: delete "
                        "this line, or move what follows into a file of its own.",
                    )
                    return None
                continue
            else:
                continue
            if stack:
                stack[-1].nodes.append(node)
            else:
                root = node
        return root if documents else Scalar("", quoted=False, span=Span(self._file, 1, 1))

    def _events(self) -> Iterator[yaml.Event]:
        events: Iterator[yaml.Event] = yaml.parse(self._text, Loader=yaml.CSafeLoader)
        return events

    def _span(self, event: yaml.Event) -> Span:
        start, end = _marks(event)
        length = end.column - start.column if end.line == start.line else 1
        return Span(self._file, start.line + 1, start.column + 1, max(1, length))

    def _refuse_marks(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        """Report an anchor or a tag; what they stand before is read as if they were absent."""
        if event.anchor is None and event.tag is None:
            return
        start, _ = _marks(event)
        word = re.match(r"\S*", self._text[start.index : start.index + 100])
        assert word is not None
        span = Span(self._file, start.line + 1, start.column + 1, len(word[0]))
        if event.anchor is not None:
            self._faults.error(
                span,
                f"{quote('&' + event.anchor)} is an anchor; a plan has none. Delete it and write "
                "each value where it is used, or name a rule in rules.yaml. Text that starts "
                "with & needs quotes.",
            )
        else:
            self._faults.error(
                span,
                "Text that starts with ! is a YAML tag; a plan has none. Delete the tag, or put "
                "the text in quotes.",
            )

    def _alias(self, event: yaml.AliasEvent) -> Broken:
        span = self._span(event)
        self._faults.error(
            span,
            f"{quote('*' + str(event.anchor))} is an alias; a plan has none. Write the value here. "
            'Text that starts with * needs quotes, such as "*".',
        )
        return Broken(span)

    def _close(self, opened: _Open, end: yaml.Event) -> Node:
        span = opened.span
        _, last = _marks(end)
        if opened.in_flow and last.line + 1 == span.line:
            length = last.column + 1 - span.column
            span = Span(self._file, span.line, span.column, length)
        if not opened.is_mapping:
            return Sequence(tuple(opened.nodes), span)
        entries: dict[str, tuple[Scalar, Node]] = {}
        pairs = iter(opened.nodes)
        for key, value in zip(pairs, pairs, strict=True):
            if isinstance(key, Scalar) and self._accept_key(key, entries):
                entries[key.text] = (key, value)
            elif isinstance(key, Mapping | Sequence):
                self._faults.error(
                    key.span,
                    "A key must be one word, not a mapping or a list. Write a name, or put text "
                    "with braces or brackets in quotes.",
                )
        if not opened.in_flow and isinstance(opened.nodes[0], Scalar):
            span = opened.nodes[0].span
        return Mapping(tuple(entries.values()), span)

    def _accept_key(self, key: Scalar, entries: dict[str, tuple[Scalar, Node]]) -> bool:
        if key.text == "<<" and not key.quoted:
            self._faults.error(
                key.span,
                "<< is YAML's merge key; a plan has none. Write the keys here, or name a rule in "
                "rules.yaml.",
            )
            return False
        if key.text in entries:
            first = entries[key.text][0].span.line
            self._faults.error(
                key.span,
                f"The key {quote(key.text)} was already given on line {first}. "
                f"Delete one of the two.",
            )
            return False
        return True


def _marks(event: yaml.Event) -> tuple[Any, Any]:
    """Give where an event starts and ends; the C parser always says."""
    assert event.start_mark is not None
    assert event.end_mark is not None
    return event.start_mark, event.end_mark


def shape_of(node: Node) -> str:
    """Name a node's shape for a sentence that starts with "This is"."""
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    return "one value"
