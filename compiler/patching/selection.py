"""Which patches are wanted: from the versions that phones have to those that they are offered.

A target is a package that a live release offers and that is not withdrawn. Phones come to it from
every lower version, and from withdrawn ones above it, which roll back. Of these versions the most
frequent are taken until they cover a share of the phones that would come to the target, or until
they are so many; without a census, and where it has no phone that would come, the newest. It
follows from the plan and the census alone, so that many machines agree on it without a word.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from compiler.plan import App, Encryption, Package, State
from gateway.version import VersionKey

MOST_UNCOUNTED = 10
"""Without a census, so many versions a target."""

WORTH_PERCENT = 60
"""A patch is worth it if it has at most this share of the smallest form of the full package."""


@dataclass(frozen=True, slots=True)
class Source:
    """One version's installed file: `path` in the store, `size` in bytes, `sha256` in hex.

    With `encryption` the object at `path` is an age file, of `stored` bytes.
    """

    version: str
    path: str
    size: int
    sha256: str
    encryption: Encryption | None = None
    stored: int | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A patch that is wanted, in every format: `most` bytes at most, else it is not worth it.

    `phones` would take it, as the census says; None without one.
    """

    app: str
    old: Source
    new: Source
    most: int
    phones: int | None

    def part_of(self, parts: int) -> int:
        """Say whose work it is, 0 to `parts` - 1: by its content, so that order plays no part."""
        name = f"{self.app} {self.old.sha256} {self.new.sha256}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % parts


@dataclass(frozen=True, slots=True)
class Target:
    """A version that phones are led to, and the pairs wanted for it.

    `phones` would come to it, and `covered` of them find a patch if all are worth it; None without
    a census, 0 if that has none with a version that could be patched.
    """

    app: str
    version: str
    pairs: tuple[Pair, ...]
    phones: int | None
    covered: int | None


@dataclass(frozen=True, slots=True)
class Choice:
    """How much is wanted: `cover` in percent of the phones; at most `most` versions a target."""

    cover: float
    most: int | None


def targets_of(
    app: App, counts: Mapping[VersionKey, int] | None, choice: Choice, now: int
) -> list[Target]:
    """Select an app's patches, the highest target first; `now` is in Unix seconds."""
    offered = {
        release.package
        for release in app.releases
        if release.state is State.LIVE and (release.ends is None or release.ends > now)
    }
    packages = sorted(app.packages, key=lambda package: package.key, reverse=True)
    return [
        _target(app.id, package, packages, counts, choice)
        for package in packages
        if package.version in offered and not package.withdrawn and package.record is not None
    ]


def in_order(targets: list[Target]) -> list[Pair]:
    """Give all pairs by traffic; of equal ones those stay first that were selected first."""
    pairs = [pair for target in targets for pair in target.pairs]
    return sorted(pairs, key=lambda pair: -(pair.phones or 0))


def _target(
    app: str,
    package: Package,
    packages: list[Package],
    counts: Mapping[VersionKey, int] | None,
    choice: Choice,
) -> Target:
    lead_here = [
        old
        for old in packages
        if old.record is not None
        and (old.key < package.key or (old.withdrawn and old.key > package.key))
    ]
    if counts is None or not any(counts.get(old.key) for old in lead_here):
        most = MOST_UNCOUNTED if choice.most is None else choice.most
        pairs = tuple(_pair(app, old, package, None) for old in lead_here[:most])
        none = None if counts is None else 0
        return Target(app, package.version, pairs, none, none)
    withdrawn = {old.key for old in packages if old.withdrawn}  # never the target itself
    phones = sum(count for key, count in counts.items() if key < package.key or key in withdrawn)
    covered, taken = 0, list[Pair]()
    for old in sorted(lead_here, key=lambda old: -counts.get(old.key, 0)):
        enough = covered * 100 >= choice.cover * phones or len(taken) == choice.most
        if enough or not counts.get(old.key):
            break
        covered += counts[old.key]
        taken.append(_pair(app, old, package, counts[old.key]))
    return Target(app, package.version, tuple(taken), phones, covered)


def _pair(app: str, old: Package, new: Package, phones: int | None) -> Pair:
    assert new.record is not None
    smallest = min(form.size for form in new.record.forms)
    most = smallest * WORTH_PERCENT // 100
    return Pair(app, _source(old), _source(new), most, phones)


def _source(package: Package) -> Source:
    record = package.record
    assert record is not None
    whole = next(form for form in record.forms if form.compression == "identity")
    return Source(
        package.version, whole.path, record.size, record.sha256, record.encryption, whole.size
    )
