"""Mappings with known keys: the shape of a package, a release, a whole file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from compiler.language import tree
from compiler.language.faults import Faults, listed, nearest, quote
from compiler.language.shapes import Schema, Shape
from compiler.language.tree import Broken, Node, Scalar, Sequence, shape_of
from compiler.plan import Span

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a record: its shape, its meaning for editors, and an example if required."""

    shape: Shape[Any]
    meaning: str
    required: str = ""


@dataclass(frozen=True, slots=True)
class Fields:
    """What a record's keys held; a key that could not be read is absent from `values`.

    `spans` has every known key that was given; `refused` tells that there were others.
    """

    span: Span
    values: Mapping[str, Any]
    spans: Mapping[str, Span]
    refused: bool

    def get(self, name: str, default: Any = None) -> Any:
        """Give what the key held, or the default when it was left out or could not be read."""
        return self.values.get(name, default)


@dataclass(frozen=True, slots=True)
class Record(Generic[T]):
    """A mapping with known keys. `what` names it; `build` makes its value of what could be read.

    `later` maps keys that a later version will know to the sentence that refuses them. `extra`
    is added to the JSON Schema. `mend` replaces the usual mends where nobody writes by hand.
    """

    what: str
    keys: Mapping[str, Key]
    build: Callable[[Fields, Faults], T | None]
    later: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    mend: str = ""

    def read(self, node: Node, faults: Faults) -> T | None:
        """Read every key, report those unknown or missing, and build with the rest."""
        if not isinstance(node, tree.Mapping):
            if not isinstance(node, Broken):
                self._refuse_shape(node, faults)
            return None
        values: dict[str, Any] = {}
        spans: dict[str, Span] = {}
        refused: set[str] = set()
        for written, item in node.entries:
            key = self.keys.get(written.text)
            if key is None:
                self._refuse_key(written, refused, faults)
                continue
            spans[written.text] = written.span
            if isinstance(item, Scalar) and item.is_empty:
                # Nothing can be underlined where nothing was written: the key is.
                item = Scalar("", quoted=False, span=written.span)  # noqa: PLW2901
            value = key.shape.read(item, faults)
            if value is not None:
                values[written.text] = value
        for name, key in self.keys.items():
            if key.required and name not in spans:
                mend = self.mend or f"Add {quote(key.required)}."
                faults.error(node.span, f'{self.what} needs the key "{name}". {mend}')
        refused_any = len(spans) < len(node.entries)
        return self.build(Fields(node.span, values, spans, refused_any), faults)

    def _refuse_shape(self, node: Scalar | Sequence, faults: Faults) -> None:
        example = next((key.required for key in self.keys.values() if key.required), "")
        example = example or f"{next(iter(self.keys))}: …"
        if isinstance(node, Scalar) and node.is_empty:
            faults.error(node.span, f"Nothing stands here. Write {quote(example)} first.")
            return
        what = self.what[0].lower() + self.what[1:]
        mend = self.mend or f"Write {quote(example)}, with a blank after the colon."
        faults.error(node.span, f"This is {shape_of(node)}, where {what} is a mapping. {mend}")

    def _refuse_key(self, written: Scalar, refused: set[str], faults: Faults) -> None:
        name = written.text
        if name in self.later:
            sentence = self.later[name]
            if sentence not in refused:  # `first` and `until` are one thing not yet known
                refused.add(sentence)
                faults.error(written.span, sentence)
            return
        near = nearest(name, self.keys)
        head = name.split(":", 1)[0]
        if self.mend:
            mend = self.mend
        elif ":" in name and head in self.keys:
            mend = f"Write a blank after the colon: {quote(head + ': …')}."
        elif near:
            mend = f"Write {quote(near)}."
        else:
            mend = f"Write one of {listed(self.keys)}, or delete it."
        faults.error(written.span, f"{self.what} has no key {quote(name)}. {mend}")

    def schema(self) -> Schema:
        """Describe an object with these keys and no others."""
        properties = {
            name: {"description": key.meaning, **key.shape.schema()}
            for name, key in self.keys.items()
        }
        required = [name for name, key in self.keys.items() if key.required]
        found: Schema = {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
            **self.extra,
        }
        return {**found, "required": required} if required else found
