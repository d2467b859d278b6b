"""A chart over time as SVG: lines or stacked areas, axes with units, labelled marks. Pure.

Colours are Okabe and Ito's, which people who see colours differently tell apart; lines differ in
their dashes, too, and all text is dark on white.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW, BLACK = "#56B4E9", "#CC79A7", "#F0E442", "#222222"

_WIDTH, _PLOT_HEIGHT = 1000, 220
_LEFT, _RIGHT, _LANE, _FOOT = 78, 18, 17, 46
_MOST_LANES = 6
_CHAR = 6.4
"""The width of a letter of a label, about: so that labels can be kept apart."""


_HALO = 'font-weight="600" paint-order="stroke" stroke="#fff" stroke-width="3"'
"""Of a label: where a line must cross it, it stays readable."""


@dataclass(frozen=True, slots=True)
class Series:
    """A value for each moment, None where there is none; `dash` as in SVG."""

    name: str
    colour: str
    values: Sequence[float | None]
    dash: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """What happened at a moment; a `fault` is drawn otherwise than what was intended."""

    at: float
    text: str
    fault: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Series over the same moments (Unix seconds, evenly apart).

    `stacked` draws areas on each other; `log` is a scale for values that span magnitudes; `limit`
    is a level, drawn across.
    """

    title: str
    unit: str
    moments: Sequence[int]
    series: Sequence[Series]
    marks: Sequence[Mark] = ()
    stacked: bool = False
    log: bool = False
    limit: tuple[float, str] | None = None

    def svg(self) -> str:
        """Draw it."""
        return _Drawing(self).svg()


class _Drawing:
    """One chart being drawn: where moments and values are on the paper."""

    def __init__(self, chart: Chart) -> None:
        self._chart = chart
        self._step = chart.moments[1] - chart.moments[0] if len(chart.moments) > 1 else 1
        self._first, self._after = chart.moments[0], chart.moments[-1] + self._step
        self._lanes = _lanes([(self._x(mark.at), mark) for mark in chart.marks])
        self._top = 12 + _LANE * max(lane + 1 for _, _, lane in [*self._lanes, (0, None, -1)])
        self._bottom = self._top + _PLOT_HEIGHT
        self._areas = _stacked(chart.series) if chart.stacked else []
        self._ticks = _log_ticks(self._values()) if chart.log else _ticks(max(self._values()))

    def svg(self) -> str:
        height = self._bottom + _FOOT
        label = escape(f"{self._chart.title}, {self._chart.unit}")
        opening = (
            f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}" '
            'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12" '
            f'fill="{BLACK}">'
        )
        parts = [
            opening,
            *self._grid(),
            *(self._filled() if self._chart.stacked else self._lines()),
            *self._limit(),
            *self._marks(),
            "</svg>",
        ]
        return "\n".join(parts)

    def _values(self) -> list[float]:
        rows = self._areas or [series.values for series in self._chart.series]
        limit = [self._chart.limit[0]] if self._chart.limit else []
        found = [value for row in rows for value in row if value is not None]
        return [*found, *limit] or [1.0]

    def _x(self, moment: float) -> float:
        share = (moment - self._first) / (self._after - self._first)
        return _LEFT + min(1.0, max(0.0, share)) * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        low, high = self._ticks[0], self._ticks[-1]
        if self._chart.log:
            value, low, high = (math.log(max(each, low)) for each in (value, low, high))
        return self._bottom - (value - low) / (high - low) * _PLOT_HEIGHT

    def _grid(self) -> list[str]:
        parts = []
        for tick in self._ticks:
            y = self._y(tick)
            parts.append(_line(_LEFT, y, _WIDTH - _RIGHT, y, "#d9d9d9"))
            parts.append(_text(_LEFT - 7, y + 4, f"{tick:,.10g}", "end"))
        middle = (self._top + self._bottom) / 2
        turn = f'transform="rotate(-90 16 {middle})"'
        parts.append(_text(16, middle, self._chart.unit, "middle", turn))
        every = _nice_seconds((self._after - self._first) / 10)
        for offset in range(0, self._after - self._first + 1, every):
            x = self._x(self._first + offset)
            parts.append(_line(x, self._bottom, x, self._bottom + 5, BLACK))
            parts.append(_text(x, self._bottom + 18, _clock(offset)))
        parts.append(_line(_LEFT, self._bottom, _WIDTH - _RIGHT, self._bottom, BLACK))
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self._first))
        unit = f"time since {began} UTC, min:s"
        parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, self._bottom + 36, unit))
        return parts

    def _lines(self) -> list[str]:
        parts = []
        for series in self._chart.series:
            path, pen = [], "M"
            for moment, value in zip(self._chart.moments, series.values, strict=True):
                if value is not None:
                    path.append(f"{pen}{self._middle(moment):.1f} {self._y(value):.1f}")
                # A lone second between two without values is still to be seen, as a dot.
                pen = "M" if value is None else "L"
            dash = f' stroke-dasharray="{series.dash}"' if series.dash else ""
            parts.append(
                f'<path d="{" ".join(path)}" fill="none" stroke="{series.colour}" '
                f'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"{dash}/>'
            )
        return parts

    def _middle(self, moment: int) -> float:
        return self._x(moment + self._step / 2)

    def _filled(self) -> list[str]:
        parts = []
        below: Sequence[float] = [0.0] * len(self._chart.moments)
        for series, above in zip(self._chart.series, self._areas, strict=True):
            there = [(self._middle(at), value) for at, value in self._pairs(above)]
            back = [(self._middle(at), value) for at, value in self._pairs(below)][::-1]
            points = " ".join(f"{x:.1f},{self._y(y):.1f}" for x, y in [*there, *back])
            parts.append(
                f'<polygon points="{points}" fill="{series.colour}" '
                f'stroke="{BLACK}" stroke-width="0.4"/>'
            )
            below = above
        return parts

    def _pairs(self, values: Sequence[float]) -> list[tuple[int, float]]:
        return list(zip(self._chart.moments, values, strict=True))

    def _limit(self) -> list[str]:
        if self._chart.limit is None:
            return []
        value, name = self._chart.limit
        y = self._y(value)
        return [
            _line(_LEFT, y, _WIDTH - _RIGHT, y, BLACK, "7 4", 1.2),
            _text(_WIDTH - _RIGHT - 4, y - 5, name, "end", _HALO),
        ]

    def _marks(self) -> list[str]:
        lines, labels = [], []
        for x, mark, lane in self._lanes:
            colour, dash = (RED, "4 3") if mark.fault else (BLACK, "")
            y = self._top - 8 - lane * _LANE
            lines.append(_line(x, y - 4, x, self._bottom, colour, dash, 1.4))
            if lane < _MOST_LANES:
                anchor, shift = ("end", -4) if _to_the_left(x, mark) else ("start", 4)
                labels.append(_text(x + shift, y + 4, _shown(mark), anchor, _HALO))
        return lines + labels


def legend(series: Sequence[Series], *, filled: bool) -> str:
    """Write a chart's legend as HTML; nothing in it is told by colour alone."""
    keys = []
    for each in series:
        dash = f' stroke-dasharray="{each.dash}"' if each.dash else ""
        key = (
            f'<rect y="2" width="22" height="11" fill="{each.colour}" stroke="{BLACK}" '
            'stroke-width="0.5"/>'
            if filled
            else f'<path d="M1 7H33" stroke="{each.colour}" stroke-width="3"{dash}/>'
        )
        keys.append(f'<span><svg width="34" height="14">{key}</svg> {escape(each.name)}</span>')
    return f'<p class="legend">{" ".join(keys)}</p>'


def _shown(mark: Mark) -> str:
    return mark.text if len(mark.text) <= 60 else mark.text[:59] + "…"


def _to_the_left(x: float, mark: Mark) -> bool:
    return x + len(_shown(mark)) * _CHAR + 6 > _WIDTH


def _lanes(marks: Sequence[tuple[float, Mark]]) -> list[tuple[float, Mark, int]]:
    """Give each mark the lowest lane in which its label touches no other's label or line."""
    ends: list[list[tuple[float, float]]] = []
    found = []
    for x, mark in sorted(marks, key=lambda each: each[0], reverse=True):
        width = len(_shown(mark)) * _CHAR + 10
        low, high = (x - width, x) if _to_the_left(x, mark) else (x, x + width)
        lane = 0
        while lane < len(ends) and any(low < end and start < high for start, end in ends[lane]):
            lane += 1
        if lane == len(ends) and lane < _MOST_LANES:
            ends.append([])
        if lane < _MOST_LANES:
            for each in range(lane):  # its line goes down through these
                ends[each].append((x - 3, x + 3))
            ends[lane].append((low, high))
        found.append((x, mark, lane))
    return found


def _stacked(series: Sequence[Series]) -> list[list[float]]:
    found: list[list[float]] = []
    for each in series:
        below = found[-1] if found else [0.0] * len(each.values)
        found.append([low + (value or 0.0) for low, value in zip(below, each.values, strict=True)])
    return found


def _ticks(most: float) -> list[float]:
    """Give round values from 0 to at least `most`."""
    step = 10.0 ** math.floor(math.log10(max(most, 1e-9)))
    step = next(step * part for part in (0.1, 0.2, 0.5, 1, 2) if most / (step * part) <= 6)
    return [step * each for each in range(math.ceil(max(most, step) / step) + 1)]


def _log_ticks(values: Sequence[float]) -> list[float]:
    """Give 1, 2, 5, 10 … around all values."""
    low, high = max(min(values), 0.01), max(values)
    steps = [part * 10.0**power for power in range(-2, 7) for part in (1, 2, 5)]
    first = max(at for at, step in enumerate(steps) if step <= low)
    last = next((at for at, step in enumerate(steps) if step >= high), len(steps) - 1)
    return steps[first : max(last, first + 1) + 1]


def _nice_seconds(wanted: float) -> int:
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
    return next((each for each in steps if each >= wanted), steps[-1])


def _clock(seconds: int) -> str:
    return f"{seconds // 60}:{seconds % 60:02}"


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, dash: str = "", width: float = 1.0
) -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"{dashes}/>'
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'
