"""YAML to a tree: text stays text, every node knows its place, and what hides is refused."""

import pytest

from compiler.language.core_value import NoValueError, core_value
from compiler.language.faults import Faults
from compiler.language.plan_text import MOST_BYTES, decode
from compiler.language.tree import Mapping, Node, Scalar, Sequence, parse
from compiler.plan import JsonValue, Span


def tree(text: str) -> Node:
    """Parse a text that has no fault."""
    faults = Faults()
    node = parse("a.yaml", text, faults)
    assert faults.found == []
    assert node is not None
    return node


def refusals(text: str) -> list[str]:
    """Parse a text and give the place and the start of each fault."""
    faults = Faults()
    parse("a.yaml", text, faults)
    return [f"{one.line}:{one.column}+{one.length} {one.message[:24]}" for one in faults.found]


TEXTS = "on no off yes y 1.10 0012 1_000 0x1F 0o17 2021000000000001 ~ null Null true 1e3 .inf = "
TEXTS += "12:30:45 2026-11-29 2026-11-29T00:00:00+08:00 1.0.0.1 a!b https://a.example/x"


@pytest.mark.parametrize("text", TEXTS.split())
@pytest.mark.parametrize("where", ["key: {}", "[{}]", "- {}", "'{}'", '"{}"', "{{a: {}}}"])
def test_a_scalar_is_its_source_text(text: str, where: str) -> None:
    """No plain scalar becomes a number, a truth value, a date or null; quotes change nothing."""
    node = tree(where.format(text))
    while not isinstance(node, Scalar):
        node = node.items[0] if isinstance(node, Sequence) else node.entries[0][1]
    assert node.text == text
    assert node.quoted == (where[0] in "'\"")


def test_places() -> None:
    """Line and column count from 1, in characters, and lengths end with the node."""
    node = tree("é: 'ab'\nlist:\n  - {k: [x, yy]}\n")
    assert isinstance(node, Mapping)
    (first, quoted), (_, block) = node.entries
    assert first.span == Span("a.yaml", 1, 1, 1)
    assert quoted.span == Span("a.yaml", 1, 4, 4)
    assert isinstance(block, Sequence)
    flow = block.items[0]
    assert flow.span == Span("a.yaml", 3, 5, 12)
    assert isinstance(flow, Mapping)
    assert flow.entries[0][1].span == Span("a.yaml", 3, 9, 7)


def test_places_do_not_depend_on_the_line_ending() -> None:
    """A file written on Windows, with a byte order mark, has the same tree."""
    text = "a: 1\nb:\n  - c\n"
    assert tree("\ufeff" + text.replace("\n", "\r\n")) == tree(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "a: 1\na: 2\na: 3\n",
            ['2:1+1 The key "a" was already ', '3:1+1 The key "a" was already '],
        ),
        ("a: {b: 1, 'b': 2}\n", ['1:11+3 The key "b" was already ']),
        ("a: &x 1\nb: *x\n", ['1:4+2 "&x" is an anchor; a pla', '2:4+2 "*x" is an alias; a plan']),
        ("a: !!str 1\n", ["1:4+5 Text that starts with ! "]),
        ("a: ! b\n", ["1:4+1 Text that starts with ! "]),
        ("<<: {a: 1}\n", ["1:1+2 << is YAML's merge key; "]),
        ("a: 1\n--- \nb: 2\n", ["2:1+3 A second YAML document s"]),
        (
            "<<<<<<< a\nx: 1\n||||||| b\n=======\nx: 2\n>>>>>>> c\ny: 1\n<<<<<<< a\n",
            ["1:1+7 <<<<<<< is a merge-confl", "8:1+7 <<<<<<< is a merge-confl"],
        ),
        (
            "a: 1\x07\nb: \x1b[0m\n",
            ["1:5+1 The character U+0007 can", "2:4+1 The character U+001B can"],
        ),
        ("a: \ud800\n", ["1:4+1 The character U+D800 can"]),
    ],
)
def test_what_hides_is_refused(text: str, found: list[str]) -> None:
    """Each fault of a file is reported, where it stands."""
    cut = [one[: one.index(" ") + 25] for one in found]
    assert refusals(text) == cut


def test_a_quoted_merge_key_and_a_short_row_of_signs_are_text() -> None:
    """Only what Git and YAML mean by the signs is refused."""
    node = tree("'<<': 1\nb: |\n  =======\n  <<<<<<< x\nc: '=======x'\n")
    assert isinstance(node, Mapping)
    assert [key.text for key, _ in node.entries] == ["<<", "b", "c"]


def test_an_empty_file_is_an_empty_scalar() -> None:
    """Comments alone, or nothing, are no fault of YAML's."""
    for text in ("", "# nothing\n", "---\n", "\ufeff"):
        node = tree(text)
        assert isinstance(node, Scalar)
        assert node.is_empty


@pytest.mark.parametrize(
    ("data", "line", "column", "part"),
    [
        (b"a: 1\nb: caf\xe9\n", 2, 7, "not UTF-8: byte 0xe9 at offset 11."),
        (b"\xef\xbb\xbfa: \xc3\xa9\xff", 1, 5, "byte 0xff at offset 8."),
        ("a: 1".encode("utf-16"), 1, 1, "is UTF-16"),
        (b"a" * (MOST_BYTES + 1), 0, 0, "4,194,304"),
    ],
)
def test_bytes_that_are_no_utf8(data: bytes, line: int, column: int, part: str) -> None:
    """The byte, its offset, line and column are named."""
    faults = Faults()
    assert decode("a.yaml", data, faults) is None
    assert [(one.line, one.column) for one in faults.found] == [(line, column)]
    assert part in faults.found[0].message


def test_bytes_that_are_utf8() -> None:
    """A byte order mark is dropped; a file of the largest size is read."""
    assert decode("a.yaml", b"\xef\xbb\xbfa: 1", Faults()) == "a: 1"
    assert decode("a.yaml", b"a" * MOST_BYTES, Faults()) == "a" * MOST_BYTES


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("Null", None),
        ("nULL", "nULL"),
        ("true", True),
        ("TRUE", True),
        ("False", False),
        ("tRUE", "tRUE"),
        ("yes", "yes"),
        ("on", "on"),
        ("n", "n"),
        ("12", 12),
        ("-7", -7),
        ("+7", 7),
        ("0012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b1", "0b1"),
        ("1_000", "1_000"),
        ("2021000000000001", 2021000000000001),
        (str(-(2**63)), -(2**63)),
        (str(2**63 - 1), 2**63 - 1),
        ("1.10", 1.1),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1e3", -1000.0),
        (".", "."),
        ("1.0.0.1", "1.0.0.1"),
        ("2026-11-29", "2026-11-29"),
        ("12:30", "12:30"),
        ("١٢", "١٢"),
        ("'12'", "12"),
        ('"null"', "null"),
        ("''", ""),
        ("|\n  12\n", "12\n"),
        ("[1, a, [], {b: ~}]", [1, "a", [], {"b": None}]),
        ("{1: on, 0x1: 2}", {"1": "on", "0x1": 2}),
    ],
)
def test_core_values(text: str, value: JsonValue) -> None:
    """Under `info:` a plain scalar has YAML 1.2's core-schema value, a quoted one is text."""
    node = tree(f"v: {text}\n")
    assert isinstance(node, Mapping)
    found = core_value(node.entries[0][1], Faults())
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [".inf", "-.INF", ".nan", "1e999", str(2**63), str(-(2**63) - 1), "9" * 5000, "0x" + "f" * 17],
)
def test_numbers_that_json_cannot_hold(text: str) -> None:
    """Infinity, not-a-number and integers beyond 64 bits are refused where they stand."""
    node = tree(f"v: [{text}]\n")
    assert isinstance(node, Mapping)
    faults = Faults()
    core_value(node.entries[0][1], faults)
    assert [(one.line, one.column) for one in faults.found] == [(1, 5)]
    value = node.entries[0][1]
    assert isinstance(value, Sequence)
    with pytest.raises(NoValueError):
        core_value(value.items[0], Faults())
