"""Diagnostics: a place, a severity, and a sentence that says what is wrong and how to mend it.

The compiler collects them and goes on, so that one run shows every fault. Rendered:

    apps/coffee.yaml:7:5: error: there is no key "realeases" here. Write "releases".
      7 |     realeases:
        |     ^^^^^^^^^
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from compiler.plan import Span
from gateway.errors import TidegateError


class Severity(StrEnum):
    """An error stops a push; a warning is legal, but surely not meant."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One finding. `message` is whole sentences; the last one says what to write or type."""

    file: str
    line: int
    column: int
    length: int
    severity: Severity
    message: str


def error(span: Span, message: str) -> Diagnostic:
    """Make a diagnostic that stops a push."""
    return Diagnostic(span.file, span.line, span.column, span.length, Severity.ERROR, message)


def warning(span: Span, message: str) -> Diagnostic:
    """Make a diagnostic that does not stop a push."""
    return Diagnostic(span.file, span.line, span.column, span.length, Severity.WARNING, message)


class PlanError(TidegateError):
    """A plan that cannot be compiled; `diagnostics` holds every finding, `sources` the texts."""

    def __init__(
        self, diagnostics: Iterable[Diagnostic], sources: Mapping[str, str] | None = None
    ) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__(render(self.diagnostics, sources or {}))


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """Tell whether any of them stops a push."""
    return any(found.severity is Severity.ERROR for found in diagnostics)


def render(diagnostics: Iterable[Diagnostic], sources: Mapping[str, str]) -> str:
    """Show diagnostics in order of place; `sources` maps files to texts, for line and caret."""
    return "\n".join(_render_one(found, sources.get(found.file)) for found in sorted(diagnostics))


def _render_one(found: Diagnostic, text: str | None) -> str:
    place = f"{found.file}:{found.line}:{found.column}" if found.line else found.file
    head = f"{place}: {found.severity}: {found.message}"
    # By line feeds alone, as lines are counted: str.splitlines knows more ends than YAML does.
    lines = [] if text is None else [line.removesuffix("\r") for line in text.split("\n")]
    if not 0 < found.line <= len(lines):
        return head
    line = lines[found.line - 1]
    column = min(found.column, len(line) + 1)
    length = max(1, min(found.length, len(line) - column + 1))
    # A tab before the fault stays a tab, so that the caret stands below it in any terminal.
    indent = "".join("\t" if char == "\t" else " " for char in line[: column - 1])
    # What is in a file must not steer the terminal that shows it.
    line = "".join(
        char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in line
    )
    number = str(found.line)
    return f"{head}\n  {number} | {line}\n  {' ' * len(number)} | {indent}{'^' * length}"
