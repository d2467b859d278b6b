"""Marks on a run's pictures: epochs from answers, faults as somebody wrote them down. Pure."""

import json

from loadtest.chart import Mark
from loadtest.timeline import Timeline


def epoch_marks(timeline: Timeline) -> list[Mark]:
    """Mark the moments when epochs were first seen in answers, but for the one at the start."""
    later = sorted(timeline.epochs.items())[1:]
    return [Mark(moment, f"epoch {number}") for number, moment in later]


def read_marks(text: str) -> list[Mark]:
    """Read faults, a JSON object a line: {"at": UNIX SECONDS, "text": "Redis killed"}.

    Raises ValueError with the line's number.
    """
    marks = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
            marks.append(Mark(float(said["at"]), str(said["text"]), fault=True))
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f'line {number}: {line[:60]!r} is no mark. Write: {{"at": 1764000000.5, '
                '"text": "Redis killed"}'
            ) from None
    return marks
