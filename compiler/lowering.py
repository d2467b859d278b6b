"""Plan to program: releases ranked by precedence, conditions turned into tables of bitmaps.

For every attribute the values fall into classes that no condition tells apart (a named text, a
version bound, the gap between two bounds, …). Each class gets the bitmap of the releases that
accept it, by set algebra on bitmaps; reference.py says independently what a condition means.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from compiler.plan import App, Comparison, Condition, Operator, Package, Release, State
from compiler.windows import list_name, window_name
from gateway import layout
from gateway.attribute import CUSTOM, VERSIONS
from gateway.hashing import PERCENT_BUCKETS, percent_key
from gateway.layout import encode_bits
from gateway.program import glob_matcher
from gateway.version import VersionKey, parse_version

Ranked = Sequence[Release]
_INT64 = 2**63


def offered(app: App) -> list[Release]:
    """Give the releases that can ever win, strongest first ("Which release wins").

    Higher package version first, then the stronger upgrade, then the smaller id.
    """
    packages = {package.version: package for package in app.packages}
    live = [
        release
        for release in app.releases
        if release.state is State.LIVE and not packages[release.package].withdrawn
    ]
    live.sort(key=lambda release: release.id)
    live.sort(key=lambda release: (packages[release.package].key, release.upgrade), reverse=True)
    return live


def ramp_rows(release: Release) -> Iterator[Release]:
    """Give a ramp's steps as releases that take over from one another; else the release itself.

    All have the release's id, and with it its order of the percent buckets and its time window, so
    that a step that reaches more keeps everybody. Before the first step there is none.
    """
    ramp = release.audience.ramp
    if not ramp:
        yield release
        return
    for step, over in zip(ramp, [*(step.at for step in ramp[1:]), None], strict=True):
        starts = step.at if release.starts is None else max(step.at, release.starts)
        ends = min((bound for bound in (over, release.ends) if bound is not None), default=None)
        audience = replace(release.audience, ramp=(), basis_points=step.basis_points)
        if ends is None or starts < ends:
            yield replace(release, audience=audience, starts=starts, ends=ends)


def lower_app(
    app: App, patches: Mapping[str, list[layout.PatchEntry]], frozen: Collection[str] = ()
) -> layout.Program:
    """Compile one app. The plan must have been checked, its offered packages have records.

    `patches` are those that lead to a version; `frozen` names the releases whose windows are
    lists.
    """
    ranked = [row for release in offered(app) for row in ramp_rows(release)]
    by_version = {package.version: package for package in app.packages}
    versions = list(dict.fromkeys(release.package for release in ranked))
    return {
        "app": app.id,
        "packages": [
            _package(by_version[version], patches.get(version, [])) for version in versions
        ],
        "versions": sorted(package.version for package in app.packages),
        "known_releases": sorted(release.id for release in app.releases),
        "halts": sorted({release.id for release in ranked if release.halt is not None}),
        "withdrawn": sorted(package.version for package in app.packages if package.withdrawn),
        "releases": [
            {
                "id": release.id,
                "package": versions.index(release.package),
                "upgrade": release.upgrade.name.lower(),
            }
            for release in ranked
        ],
        **lower_tables(
            ranked,
            _hosts([by_version[release.package] for release in ranked]),
            [(app.id, release.id) for release in ranked],
            frozen,
        ),
        "windows": [
            {"rank": rank, "by_user": release.audience.by_user}
            for rank, release in enumerate(ranked)
            if release.audience.window is not None and release.id not in frozen
        ],
    }


def lower_tables(
    ranked: Ranked,
    hosts: layout.Hosts,
    draws: Sequence[tuple[str, str]],
    frozen: Collection[str] = (),
) -> layout.Tables:
    """Compile what accepts a client: schedule, conditions and audiences, by rank.

    `draws` says for each rank whose order of the percent buckets is drawn: (app, release id). The
    windows of the `frozen` releases are lists.
    """
    return {
        "schedule": _schedule(ranked),
        "hosts": hosts,
        "attributes": _attributes(ranked),
        "lists": [*_lists(ranked), *_frozen_windows(ranked, draws, frozen)],
        "percents": [
            {
                "rank": rank,
                "basis_points": release.audience.basis_points,
                "by_user": release.audience.by_user,
                "key": percent_key(*draws[rank]),
            }
            for rank, release in enumerate(ranked)
            # All of 100 % holds without a subject too, so it is no test at all.
            if release.audience.basis_points is not None
            and release.audience.basis_points < PERCENT_BUCKETS
        ],
    }


def _package(package: Package, patches: list[layout.PatchEntry]) -> layout.PackageEntry:
    record = package.record
    assert record is not None
    secret = record.encryption
    return {
        "version": package.version,
        "download": package.download,
        "install": package.install,
        "info": orjson.dumps(package.info) if package.has_info else None,
        "size": record.size,
        "sha256": record.sha256,
        "forms": [
            {
                "compression": form.compression,
                "size": form.size,
                "sha256": form.sha256,
                "path": form.path,
            }
            for form in record.forms
        ],
        "encryption": {"format": secret.format, "key_id": secret.key_id} if secret else None,
        "patches": patches,
        "signatures": list(record.signatures),
    }


def _bits(flags: Iterable[bool]) -> int:
    return sum(1 << rank for rank, flag in enumerate(flags) if flag)


def _schedule(ranked: Ranked) -> layout.Schedule:
    bounds = sorted(
        {
            second
            for release in ranked
            for second in (release.starts, release.ends)
            if second is not None
        }
    )

    def active(second: float) -> bytes:
        return encode_bits(
            _bits(
                (release.starts is None or release.starts <= second)
                and (release.ends is None or second < release.ends)
                for release in ranked
            )
        )

    return {"bounds": bounds, "cells": [active(second) for second in (float("-inf"), *bounds)]}


# A part of a line: from `low` to `high`, each with a flag whether the bound belongs to it.
# None as a bound means that there is none on that side.
_Part = tuple[Any, bool, Any, bool]


def _cells(bounds: Sequence[Any], parts: Sequence[_Part]) -> list[bool]:
    """Tell for each cell of a line table whether the union of the parts covers it."""
    covered = [False] * (2 * len(bounds) + 1)
    places = {bound: 2 * at + 1 for at, bound in enumerate(bounds)}
    for low, with_low, high, with_high in parts:
        first = 0 if low is None else places[low] + (not with_low)
        last = 2 * len(bounds) if high is None else places[high] - (not with_high)
        for cell in range(first, last + 1):
            covered[cell] = True
    return covered


def _hosts(packages: Sequence[Package]) -> layout.Hosts:
    anywhere = _bits(package.clients is None for package in packages)
    platforms = sorted({name for package in packages for name in package.clients or ()})
    return {
        "any": encode_bits(anywhere),
        "platforms": {
            platform: _host_line([_range(package, platform) for package in packages], anywhere)
            for platform in platforms
        },
    }


def _range(package: Package, platform: str) -> tuple[Comparison, ...] | None:
    """Give what client_version must satisfy, or None where no comparison can help."""
    return None if package.clients is None else package.clients.get(platform)


_PARTS: dict[str, Callable[[Any], _Part]] = {
    ">=": lambda bound: (bound, True, None, True),
    ">": lambda bound: (bound, False, None, True),
    "<=": lambda bound: (None, True, bound, True),
    "<": lambda bound: (None, True, bound, False),
    "=": lambda bound: (bound, True, bound, True),
}


def _host_line(ranges: Sequence[tuple[Comparison, ...] | None], anywhere: int) -> layout.Line:
    texts = [each.version for comparisons in ranges for each in comparisons or ()]
    keys, bounds = _version_bounds(texts)
    cells = [anywhere] * (2 * len(keys) + 1)
    for rank, comparisons in enumerate(ranges):
        if comparisons is None:
            continue
        fits = [True] * len(cells)
        for each in comparisons:
            covered = _cells(keys, [_PARTS[each.sign](_key(each.version))])
            fits = [a and b for a, b in zip(fits, covered, strict=True)]
        for cell, fit in enumerate(fits):
            cells[cell] |= fit << rank
    return {"bounds": bounds, "cells": [encode_bits(cell) for cell in cells]}


def _version_bounds(texts: Iterable[str]) -> tuple[list[VersionKey], list[int | float] | list[str]]:
    """Sort versions, and choose one text for equal ones, whatever the order they came in."""
    by_key: dict[VersionKey, str] = {}
    for text in sorted(texts):
        by_key.setdefault(_key(text), text)
    keys = sorted(by_key)
    return keys, [by_key[key] for key in keys]


def _key(version: str) -> VersionKey:
    key = parse_version(version)
    assert key is not None
    return key


def _attributes(ranked: Ranked) -> dict[str, layout.Attribute]:
    asked: dict[str, list[tuple[int, Condition]]] = {}
    for rank, release in enumerate(ranked):
        for condition in release.conditions:
            asked.setdefault(condition.attribute, []).append((rank, condition))
    everyone = (1 << len(ranked)) - 1
    return {
        name: _attribute(name, everyone & ~_or(1 << rank for rank, _ in pairs), pairs)
        for name, pairs in asked.items()
    }


def _or(bits: Iterable[int]) -> int:
    found = 0
    for each in bits:
        found |= each
    return found


Pairs = Sequence[tuple[int, Condition]]


def _attribute(name: str, absent: int, pairs: Pairs) -> layout.Attribute:
    everyone = absent | _or(1 << rank for rank, _ in pairs)
    table: layout.Attribute = {
        "absent": encode_bits(absent),
        "text": None,
        "versions": None,
        "numbers": None,
        "bools": None,
    }
    if name in VERSIONS:
        on_line = [pair for pair in pairs if pair[1].operator is not Operator.MATCHES]
        on_text = [pair for pair in pairs if pair[1].operator is Operator.MATCHES]
        table["versions"] = _line(everyone, on_line, _key, _version_bounds)
        table["text"] = _text(everyone, on_text) if on_text else None
        return table
    if not name.startswith(CUSTOM):
        table["text"] = _text(everyone, pairs)
        return table
    # A value of a kind that a condition has no operand of counts as not sent for that condition.
    for kind in (str, float, bool):
        fitting = [pair for pair in pairs if kind in _kinds(pair[1])]
        if not fitting:
            continue
        deaf = _or(1 << rank for rank, condition in pairs if kind not in _kinds(condition))
        able = everyone & ~deaf
        only = [(rank, _of_kind(condition, kind)) for rank, condition in fitting]
        if kind is str:
            table["text"] = _text(able, only)
        elif kind is float:
            table["numbers"] = _line(able, only, lambda number: number, _number_bounds)
        else:
            table["bools"] = [encode_bits(_bool(able, only, value)) for value in (False, True)]
    return table


def _kind(operand: Any) -> type:
    if isinstance(operand, bool):
        return bool
    return str if isinstance(operand, str) else float


def _kinds(condition: Condition) -> set[type]:
    return {_kind(operand) for operand in condition.operands}


def _of_kind(condition: Condition, kind: type) -> Condition:
    operands = tuple(each for each in condition.operands if _kind(each) is kind)
    return Condition(condition.attribute, condition.operator, operands)


def _number_bounds(numbers: Iterable[Any]) -> tuple[list[Any], list[int | float] | list[str]]:
    # 1 and 1.0 are equal: write the integer, so that the order of lines changes no byte.
    bounds = sorted({int(n) if abs(n) < _INT64 and n == int(n) else n for n in numbers})
    return bounds, bounds


def _line(
    everyone: int, pairs: Pairs, key: Callable[[Any], Any], sort: Callable[[Any], Any]
) -> layout.Line:
    keys, bounds = sort([operand for _, condition in pairs for operand in condition.operands])
    cells = [everyone] * (2 * len(keys) + 1)
    for rank, condition in pairs:
        operands = [key(operand) for operand in condition.operands]
        covered = _cells(keys, _parts(condition.operator, operands))
        wanted = condition.operator not in (Operator.NOT_IN, Operator.NOT_BETWEEN)
        for cell, inside in enumerate(covered):
            if inside is not wanted:
                cells[cell] &= ~(1 << rank)
    return {"bounds": bounds, "cells": [encode_bits(cell) for cell in cells]}


def _parts(operator: Operator, operands: Sequence[Any]) -> list[_Part]:
    if operator in (Operator.BETWEEN, Operator.NOT_BETWEEN):
        return [(operands[0], True, operands[1], True)]
    if operator is Operator.AT_LEAST:
        return [(operands[0], True, None, True)]
    if operator is Operator.BELOW:
        return [(None, True, operands[0], False)]
    return [(operand, True, operand, True) for operand in operands]


def _text(everyone: int, pairs: Pairs) -> layout.Text:
    """Make the table of texts; all operands are texts, of in, not_in or matches."""
    folded = [
        (
            rank,
            condition.operator,
            tuple(sorted({str(each).casefold() for each in condition.operands})),
        )
        for rank, condition in pairs
    ]
    values = sorted(
        {each for _, op, texts in folded if op is not Operator.MATCHES for each in texts}
    )
    matchers = {texts: glob_matcher(texts) for _, op, texts in folded if op is Operator.MATCHES}

    def refused(value: str) -> int:
        return _or(
            1 << rank
            for rank, operator, texts in folded
            if not (
                matchers[texts](value)
                if operator is Operator.MATCHES
                else (value in texts) is (operator is Operator.IN)
            )
        )

    globs: dict[tuple[str, ...], int] = {}
    for rank, operator, texts in folded:
        if operator is Operator.MATCHES:
            globs[texts] = globs.get(texts, 0) | 1 << rank
    strangers = _or(1 << rank for rank, operator, _ in folded if operator is Operator.IN)
    return {
        "exact": {value: encode_bits(everyone & ~refused(value)) for value in values},
        "other": encode_bits(everyone & ~strangers),
        "globs": [
            {"patterns": list(texts), "bits": encode_bits(bits)}
            for texts, bits in sorted(globs.items())
        ],
    }


def _bool(everyone: int, pairs: Pairs, value: bool) -> int:
    return everyone & ~_or(
        1 << rank
        for rank, condition in pairs
        if (value in condition.operands) is not (condition.operator is Operator.IN)
    )


def _lists(ranked: Ranked) -> list[layout.ListNeed]:
    needs: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
    for rank, release in enumerate(ranked):
        wanted = tuple(sorted(set(release.audience.lists)))
        unwanted = tuple(sorted(set(release.audience.not_lists)))
        if wanted or unwanted:
            needs[wanted, unwanted] = needs.get((wanted, unwanted), 0) | 1 << rank
    return [
        {"lists": list(wanted), "not_lists": list(unwanted), "bits": encode_bits(bits)}
        for (wanted, unwanted), bits in sorted(needs.items())
    ]


def _frozen_windows(
    ranked: Ranked, draws: Sequence[tuple[str, str]], frozen: Collection[str]
) -> list[layout.ListNeed]:
    needs: dict[tuple[str, str], int] = {}
    for rank, release in enumerate(ranked):
        if release.audience.window is not None and release.id in frozen:
            needs[draws[rank]] = needs.get(draws[rank], 0) | 1 << rank
    return [
        {
            "lists": [list_name(window_name(*draw))],
            "not_lists": [],
            "bits": encode_bits(bits),
        }
        for draw, bits in needs.items()
    ]
