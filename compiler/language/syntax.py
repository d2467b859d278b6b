"""The YAML parser's complaints, in sentences that say how to mend the plan.

The parser says where it stopped and what it was reading; the mistake is often where that began
(a quote never closed), so each complaint also chooses which of the two places to show.
"""

import yaml

from compiler.plan import Span

# Part of what the parser says, and our sentence; shown where the thing began.
_BEGAN = {
    "could not find expected ':'": (
        'A colon is missing after this key. Write "key: value", with a blank after the colon.'
    ),
    "found unexpected end of stream": "The quote that opens here is never closed. Close it.",
    "did not find expected comment or line break": (
        'Text that starts with > or | needs quotes. Write it as in ">=10.2.0".'
    ),
    "did not find expected alphabetic or numeric character": (
        'Text that starts with * or & needs quotes. Write it as in "*".'
    ),
}

# The same, shown where the parser stopped; {began} is the line where the thing began.
_STOPPED = {
    "mapping values are not allowed": (
        "A colon and a blank start a value here, where none can stand. Indent this line as the "
        "keys beside it, or put text that has a colon in quotes."
    ),
    "block sequence entries are not allowed": (
        'A list written with "- " cannot start here. Put it on lines of its own below the key, '
        "or write [a, b]; text that starts with - and a blank needs quotes."
    ),
    "found unknown escape character": (
        "Inside double quotes a backslash starts an escape, and this is none. Use single "
        "quotes, as in '^\\d+$', or write the backslash twice."
    ),
    "escape code": (
        "This escape names no character. Write four hexadecimal digits after \\u, or the "
        "character itself."
    ),
    "tab character where an indentation space": "A tab cannot indent YAML. Use blanks.",
    "found unexpected ':'": (
        'A blank is missing after this colon. Write "key: value", or put the text in quotes.'
    ),
    "did not find expected ',' or ']'": (
        "The list opened on line {began} lacks a comma before this, or its closing bracket. "
        "Add the missing one."
    ),
    "did not find expected ',' or '}'": (
        "The mapping opened on line {began} lacks a comma before this, or its closing brace. "
        "Add the missing one."
    ),
    "did not find expected node content": (
        "A value is missing here: a bracket or brace was never closed or never opened, or a "
        "comma is too many. Add the value, or delete what is too much."
    ),
    "did not find expected key": (
        "This fits neither the value before it nor the keys that start on line {began}. Indent "
        "it like those keys, or put the whole text in quotes."
    ),
    "did not find expected '-' indicator": (
        'The list that starts on line {began} goes on here without "- ". Add it, or indent '
        "this line like the key that it belongs to."
    ),
    "did not find expected <document start>": (
        "This line does not belong to what stands above it. Indent all keys of one mapping "
        'alike, and write "key: value" with a blank after the colon.'
    ),
}

_STARTERS = {
    "\t": "A tab cannot indent YAML. Use blanks.",
    "@": "Text that starts with @ needs quotes. Write it in quotes.",
    "`": "Text that starts with ` needs quotes. Write it in quotes.",
    "%": "Text that starts with % needs quotes. Write it in quotes.",
}


def syntax_fault(file: str, text: str, fault: yaml.YAMLError) -> tuple[Span, str]:
    """Give the place and the sentence of a fault that YAML's parser raised."""
    mark = getattr(fault, "problem_mark", None)
    if mark is None:
        return Span(file, 0, 0), f"This is no YAML ({fault}). Write the file anew."
    begun = getattr(fault, "context_mark", None) or mark
    problem = str(getattr(fault, "problem", ""))
    if "cannot start any token" in problem:
        char = text[mark.index : mark.index + 1]
        return _place(file, text, mark), _STARTERS.get(
            char, f"{char!r} cannot start here. Quote it."
        )
    for part, sentence in _BEGAN.items():
        if part in problem:
            return _place(file, text, begun), sentence
    for part, sentence in _STOPPED.items():
        if part in problem:
            return _place(file, text, mark), sentence.replace("{began}", str(begun.line + 1))
    return _place(file, text, mark), (
        f"YAML cannot be read from here on ({problem}). Check the indentation, quotes and "
        "brackets of this line and the one above."
    )


def _place(file: str, text: str, mark: yaml.Mark) -> Span:
    """Point at a mark; past the last line, where a file ends too early, at the last line's end."""
    lines = text.splitlines() or [""]
    line = min(mark.line, len(lines) - 1)
    column = mark.column if line == mark.line else len(lines[line])
    return Span(file, line + 1, column + 1)
