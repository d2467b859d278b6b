"""A plan as read, before its names are resolved: what language.py makes and checker.py checks.

Every name keeps its place, so that a fault points at the name and not at the release around it.
Parts that could not be read are absent; a draft with faults never becomes a Plan.
"""

from dataclasses import dataclass, field

from compiler.language.shapes import Located
from compiler.language.words import version_key
from compiler.packaging.package_key import PackageKey
from compiler.plan import (
    NOWHERE,
    CdnRule,
    Comparison,
    Condition,
    Halt,
    JsonValue,
    ListSource,
    PackageRecord,
    Recipient,
    Span,
    State,
    Step,
    Upgrade,
    Workspace,
)
from gateway.version import VersionKey

Name = Located[str]
Clients = dict[str, tuple[Comparison, ...]]


@dataclass(frozen=True, slots=True)
class AudienceDraft:
    """An audience; all empty for `everyone`; `percent` in basis points, or the steps of a ramp."""

    lists: tuple[Name, ...] = ()
    not_lists: tuple[Name, ...] = ()
    percent: Located[int | tuple[Step, ...]] | None = None
    by: Name | None = None
    first: Located[int] | None = None
    until: Located[int] | None = None
    pace: Name | None = None


@dataclass(frozen=True, slots=True)
class ReleaseDraft:
    """A release; `when` holds conditions and names of rules in the order of the file."""

    id: Name | None
    package: Name | None
    audience: AudienceDraft
    when: tuple[Condition | Name, ...]
    upgrade: Upgrade
    state: State
    starts: Located[int] | None
    ends: Located[int] | None
    span: Span
    halt: Halt | None = None


@dataclass(frozen=True, slots=True)
class PackageDraft:
    """A package of an app file, whose version could be read; `info` is wrapped, as null is one."""

    version: Name
    key: VersionKey
    clients: Located[Clients] | None
    download: str
    install: str
    info: Located[JsonValue] | None
    withdrawn: bool


@dataclass(frozen=True, slots=True)
class AppDraft:
    """One app file."""

    id: Name | None
    name: str | None
    file: str
    packages: tuple[PackageDraft, ...]
    releases: tuple[ReleaseDraft, ...]
    span: Span
    encryption: tuple[Located[Recipient], ...] = ()

    def offered(self, release: ReleaseDraft) -> PackageDraft | None:
        """Find the package that a release names; `1.0` names `1.0.0.0`."""
        key = version_key(release.package.value) if release.package else None
        return next((package for package in self.packages if package.key == key), None)

    def on_offer(self) -> set[VersionKey]:
        """Give the versions that releases offer, or will when they are resumed."""
        return {
            package.key
            for release in self.releases
            if release.state is not State.ENDED and (package := self.offered(release))
        }


@dataclass(frozen=True, slots=True)
class RuleDraft:
    """A named rule with those of its conditions that could be read."""

    name: Name
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class SameAsDraft:
    """Whose audience is meant: an app by its id or its file's name, and a release."""

    app: Name
    release: Name


@dataclass(frozen=True, slots=True)
class TargetingDraft:
    """A row of a switch: a variant or a split, weights in hundredths; `when` as in a release."""

    variant: Name | None
    split: Located[tuple[tuple[Name, int], ...]] | None
    audience: AudienceDraft
    same_as: SameAsDraft | None
    when: tuple[Condition | Name, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class SwitchDraft:
    """A switch with those of its variants and rows that could be read."""

    key: Name | None
    variants: dict[str, JsonValue]
    default: Name | None
    enabled: bool
    targeting: tuple[TargetingDraft, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class ListDraft:
    """A list, with the place of its file's name."""

    name: Name
    source: ListSource
    file: Name | None


@dataclass(frozen=True, slots=True)
class WorkspaceDraft:
    """workspace.yaml, with the places of `cdn` and of keys, which are ready to verify with."""

    workspace: Workspace
    cdn: Located[tuple[Located[CdnRule], ...]] | None
    keys: tuple[Located[PackageKey], ...] = ()


@dataclass(frozen=True, slots=True)
class RecordDraft:
    """packages/<app>/<version>.json, with the host-app range that was signed, if any.

    `code` is a MiniApp's version.code.
    """

    record: PackageRecord
    clients: Clients | None
    code: int | None = None
    file: str = ""
    app: str = ""
    version: str = ""
    key: VersionKey | None = None


@dataclass(slots=True)
class Draft:
    """A whole plan.

    `flawed` names the files in which something was refused; of those in `unread` nothing at all
    is known, so that a name that they may hold is not called unknown.
    """

    workspace: WorkspaceDraft | None = None
    apps: list[AppDraft] = field(default_factory=list)
    rules: list[RuleDraft] = field(default_factory=list)
    lists: list[ListDraft] = field(default_factory=list)
    switches: list[SwitchDraft] = field(default_factory=list)
    records: list[RecordDraft] = field(default_factory=list)
    flawed: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)


def file_span(file: str) -> Span:
    """Give the place of a fault that concerns a whole file."""
    return Span(file, NOWHERE.line, NOWHERE.column)
