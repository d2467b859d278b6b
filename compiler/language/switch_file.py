"""switches.yaml: the switches of a plan, and what is made of them."""

import re
from decimal import Decimal
from typing import Any

import orjson

from compiler.language.app_file import AUDIENCE_KEYS, EVERYONE, WHEN
from compiler.language.draft import AudienceDraft, Name, SameAsDraft, SwitchDraft, TargetingDraft
from compiler.language.elsewhere import IN_SWITCH_AUDIENCE
from compiler.language.faults import Faults, nearest, quote
from compiler.language.records import Fields, Key, Record
from compiler.language.shapes import (
    Either,
    Free,
    Located,
    Many,
    Placed,
    RefusalError,
    Row,
    Table,
    Word,
)
from compiler.language.words import TRUTH, name_word
from compiler.plan import JsonValue

MOST_SWITCHES = 1_000
MOST_ROWS = 100
MOST_VARIANTS = 100
MOST_VARIANT_BYTES = 65_536
MOST_BYTES = 1_048_576
"""Of all switches' variants together: an answer may carry one of each."""

_VARIANT = Placed(name_word("a variant's name such as on"))
_WEIGHT = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,2})?\Z")


def _weight(text: str) -> int:
    if not _WEIGHT.match(text):
        raise RefusalError(
            f"{quote(text)} is no weight. Write a number from 0 to 9999999 with at most two "
            "decimals, such as 50."
        )
    return int(Decimal(text) * 100)


WEIGHT = Word("a weight such as 50", _weight, {"type": ["number", "string"], "minimum": 0})


# Whom a row is for


def _same_as(fields: Fields, faults: Faults) -> SameAsDraft | None:  # noqa: ARG001
    app, release = fields.get("app"), fields.get("release")
    return SameAsDraft(app, release) if app and release else None


_SAME_AS = Record(
    "same_as",
    {
        "app": Key(
            Placed(name_word("an app's id, or its file's name")),
            "The app's id, or its file's name.",
            "app: coffee",
        ),
        "release": Key(
            Placed(name_word("a release's id")), "A release of that app.", "release: ramp"
        ),
    },
    _same_as,
)

_Audience = tuple[AudienceDraft, SameAsDraft | None]


def _audience(fields: Fields, faults: Faults) -> _Audience:
    if "same_as" in fields.spans and len(fields.spans) > 1:
        faults.error(
            fields.spans["same_as"],
            "same_as is a whole audience: that of the release. Delete the keys beside it.",
        )
    if not fields.spans and not fields.refused:
        faults.error(fields.span, "This audience names nobody. Write everyone, lists or percent.")
    found = AudienceDraft(
        fields.get("lists", ()),
        fields.get("not_lists", ()),
        fields.get("percent"),
        fields.get("by"),
    )
    return found, fields.get("same_as")


def _everyone(text: str) -> _Audience:
    return EVERYONE.parse(text), None


AUDIENCE = Either(
    Word(EVERYONE.what, _everyone, EVERYONE.json),
    Record(
        "An audience",
        {
            **AUDIENCE_KEYS,
            "same_as": Key(_SAME_AS, "The audience of a release: the same subjects get both."),
        },
        _audience,
        IN_SWITCH_AUDIENCE,
        {"minProperties": 1},
    ),
)


# Rows

_Weights = Located[tuple[Row[int], ...]]


def _split(found: _Weights | None, faults: Faults) -> Located[tuple[tuple[Name, int], ...]] | None:
    if found is None:
        return None
    read = tuple((row.key, row.value) for row in found.value if row.value is not None)
    if len(read) == len(found.value) and not any(weight for _, weight in read):
        faults.error(
            found.span, "This split gives nobody a variant. Write weights, as in {a: 50, b: 50}."
        )
    return Located(read, found.span)


def _row(fields: Fields, faults: Faults) -> TargetingDraft:
    given = [name for name in ("variant", "split") if name in fields.spans]
    if len(given) != 1:
        faults.error(
            fields.spans["split"] if given else fields.span,
            "A row gives one variant, or splits over several. Write one of variant: on and "
            "split: {on: 50, off: 50}.",
        )
    audience, same_as = fields.get("audience", (AudienceDraft(), None))
    if audience.by is not None and audience.percent is None and "split" not in fields.spans:
        faults.warning(
            audience.by.span,
            'Without percent or split, by changes nothing. Add one, or delete "by".',
        )
    return TargetingDraft(
        fields.get("variant"),
        _split(fields.get("split"), faults),
        audience,
        same_as,
        fields.get("when", ()),
        fields.span,
    )


ROW = Record(
    "A row of targeting",
    {
        "variant": Key(_VARIANT, "What those get for whom this row holds."),
        "split": Key(
            Placed(Table(name_word("a variant's name"), WEIGHT, "weights, as {a: 50, b: 50}")),
            "Variants with weights: which one depends on the subject. Add new ones at the end.",
        ),
        "audience": Key(AUDIENCE, "Whom this row is for; absent: everyone."),
        "when": WHEN,
    },
    _row,
    extra={"oneOf": [{"required": ["variant"]}, {"required": ["split"]}]},
)


# A switch


def _kind(value: JsonValue) -> str:
    kinds = {bool: "true or false", str: "a text", dict: "an object", list: "an object"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _variants(fields: Fields, faults: Faults) -> dict[str, JsonValue]:
    """Hold the variants to one type and their limits."""
    rows: tuple[Row[Located[JsonValue]], ...] = fields.get("variants", ())
    place = fields.spans.get("variants", fields.span)
    if "variants" in fields.values and not rows:
        faults.error(place, "A switch needs variants. Write them, as in {on: true, off: false}.")
    if len(rows) > MOST_VARIANTS:
        faults.error(
            place, f"This switch has {len(rows)} variants; at most {MOST_VARIANTS} may stand here."
        )
    read = [(row.key, row.value) for row in rows if row.value is not None]
    for key, value in read:
        kind, first = _kind(value.value), _kind(read[0][1].value)
        if value.value is None:
            faults.error(
                value.span,
                "Null is no value of a switch: a client would take its own default. Write a value.",
            )
        elif kind != first and read[0][1].value is not None:
            faults.error(
                value.span,
                f"{quote(key.value)} is {kind} and {quote(read[0][0].value)} is {first}; all "
                "variants are of one type. Write the same type; text that looks like another "
                "needs quotes.",
            )
    found = {key.value: value.value for key, value in read}
    if len(orjson.dumps(found)) > MOST_VARIANT_BYTES:
        faults.error(
            place,
            f"These variants have more than {MOST_VARIANT_BYTES:,} bytes as JSON. Shorten them, "
            "or let them name a file that the client fetches.",
        )
    return found


def _known(name: Name | None, names: dict[str, Any], faults: Faults) -> None:
    if name is not None and names and name.value not in names:
        near = nearest(name.value, names)
        mend = f"Write {quote(near)}, or add it" if near else "Add it"
        faults.error(
            name.span, f"This switch has no variant {quote(name.value)}. {mend} to variants."
        )


def _switch(fields: Fields, faults: Faults) -> SwitchDraft:
    before = faults.errors
    variants = _variants(fields, faults)
    rows: tuple[TargetingDraft, ...] = fields.get("targeting", ())
    if faults.errors == before and "variants" in fields.values:
        names: dict[str, Any] = {row.key.value: row for row in fields.get("variants")}
        _known(fields.get("default"), names, faults)
        for row in rows:
            _known(row.variant, names, faults)
            for name, _ in row.split.value if row.split else ():
                _known(name, names, faults)
    return SwitchDraft(
        fields.get("key"),
        variants,
        fields.get("default"),
        fields.get("enabled", True),
        rows,
        fields.span,
    )


SWITCH = Record(
    "A switch",
    {
        "key": Key(
            Placed(name_word("a key such as new-home")), "Its name in apps.", "key: new-home"
        ),
        "variants": Key(
            Table(name_word("a variant's name such as on"), Free(), "values by name"),
            "Values by name, all of one type: true or false, text, number or object.",
            "variants: {on: true, off: false}",
        ),
        "default": Key(_VARIANT, "The variant where no row holds.", "default: off"),
        "enabled": Key(TRUTH, "false: everybody gets the default."),
        "targeting": Key(
            Many(ROW, "rows with variant or split", most=MOST_ROWS),
            "Who gets which variant: the first row that holds.",
        ),
    },
    _switch,
)


def _switches(fields: Fields, faults: Faults) -> tuple[SwitchDraft, ...]:
    found: tuple[SwitchDraft, ...] = fields.get("switches", ())
    if sum(len(orjson.dumps(switch.variants)) for switch in found) > MOST_BYTES:
        faults.error(
            fields.spans["switches"],
            f"The variants of all switches have more than {MOST_BYTES:,} bytes as JSON, and an "
            "answer may carry one of each. Shorten them.",
        )
    return found


SWITCHES = Record(
    "switches.yaml",
    {
        "switches": Key(
            Many(SWITCH, "switches", most=MOST_SWITCHES),
            "Values that clients ask for by key.",
            "switches: []",
        )
    },
    _switches,
)
