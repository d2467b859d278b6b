"""The plan as data: frozen types for the whole plan language.

A `Plan` has been read and checked: every reference resolves, every version parses.
language/reading.py makes it from files, reference.py gives it its meaning, lowering.py compiles
it. Spans say where a thing was written; they take no part in equality.
"""

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from gateway.version import VersionKey

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
Operand = str | bool | int | float


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a plan file: `line` and `column` count from 1, `length` in characters."""

    file: str
    line: int
    column: int
    length: int = 1


NOWHERE = Span("", 0, 0)


class Operator(StrEnum):
    """The tests of a condition."""

    IN = "in"
    NOT_IN = "not_in"
    BETWEEN = "between"
    NOT_BETWEEN = "not_between"
    AT_LEAST = "at_least"
    BELOW = "below"
    MATCHES = "matches"


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of one attribute.

    `operands` are alternatives for in, not_in and matches; exactly two bounds (low, high) for
    between and not_between; one for at_least and below. For built-in attributes they are the
    source text; for custom ones they follow YAML 1.2's core schema (text, number, true/false).
    """

    attribute: str
    operator: Operator
    operands: tuple[Operand, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


class Upgrade(IntEnum):
    """How strongly a client is asked to upgrade; a larger one is stronger."""

    SILENT = 0
    PROMPT = 1
    FORCE = 2


class State(StrEnum):
    """What the operator wants of a release; only live ones are offered."""

    LIVE = "live"
    PAUSED = "paused"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a ramp: from the second `at` on the percentage is `basis_points`."""

    at: int
    basis_points: int


@dataclass(frozen=True, slots=True)
class Window:
    """The first `first` subjects that come before `until` (Unix seconds, not included) get a seat.

    `linear` opens the seats evenly from the release's `starts`, which is then given, to `until`.
    """

    first: int
    until: int
    linear: bool = False


@dataclass(frozen=True, slots=True)
class Audience:
    """Who may get a release; all that is given must hold; nothing given means everyone.

    `basis_points` is the percentage in hundredths of a percent, 0 to 10,000, or None; or `ramp`
    gives it by time, its steps strictly rising in time, and 0 before the first.
    `by_user` counts the user id only, instead of the device id or else the user id, for the
    percentage and for the window.
    """

    lists: tuple[str, ...] = ()
    not_lists: tuple[str, ...] = ()
    basis_points: int | None = None
    by_user: bool = False
    ramp: tuple[Step, ...] = ()
    window: Window | None = None


def percent_text(basis_points: int) -> str:
    """Write a percentage as a plan does: `12.5`."""
    whole, rest = divmod(basis_points, 100)
    return f"{whole}.{rest:02d}".rstrip("0") if rest else str(whole)


@dataclass(frozen=True, slots=True)
class Halt:
    """A guardrail: when a release is paused by itself.

    Of the distinct subjects that reported `installed` or `failed` within `minutes`, at least
    `min_reports`, more than the share `failures` (in hundredths of a percent) failed.
    """

    failures: int
    min_reports: int
    minutes: int


@dataclass(frozen=True, slots=True)
class Release:
    """Offer `package` (its version text as in Package.version) to `audience` under `conditions`.

    `conditions` has named rules already replaced by their conditions. Times are Unix seconds;
    `starts` is included, `ends` is not.
    """

    id: str
    package: str
    audience: Audience
    conditions: tuple[Condition, ...] = ()
    upgrade: Upgrade = Upgrade.SILENT
    state: State = State.LIVE
    starts: int | None = None
    ends: int | None = None
    halt: Halt | None = None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of a host-app range: `sign` is one of >= > < <= =."""

    sign: str
    version: str


@dataclass(frozen=True, slots=True)
class Form:
    """One downloadable form of a package: identity (as installed), gzip or zstd.

    `path` is relative to the CDN's base and to the store's root.
    """

    compression: str
    size: int
    sha256: str
    path: str


@dataclass(frozen=True, slots=True)
class Encryption:
    """How downloads are encrypted: `format` is age, `key_id` names the newest identity for it.

    `recipients` are all whom they were encrypted to, the newest first.
    """

    format: str
    key_id: str
    recipients: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipient:
    """Devices that hold one identity: its name in the plan, and its public half (age1…)."""

    key: str
    recipient: str


@dataclass(frozen=True, slots=True)
class PackageRecord:
    """What `upload` wrote down of one version: packages/<app>/<version>.json.

    `size` and `sha256` are of the file as it is installed; with `encryption` every form's bytes
    are encrypted.
    """

    size: int
    sha256: str
    forms: tuple[Form, ...]
    signatures: tuple[str, ...] = ()
    encryption: Encryption | None = None


@dataclass(frozen=True, slots=True)
class Package:
    """One version of an app. `clients` maps a platform, case folded, to comparisons; None: all."""

    version: str
    key: VersionKey
    clients: dict[str, tuple[Comparison, ...]] | None = None
    download: str = "any"
    install: str = "on_open"
    info: JsonValue = None
    has_info: bool = False
    withdrawn: bool = False
    record: PackageRecord | None = None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class App:
    """A mini program or bundle, with its packages and releases in the order of the file.

    `encryption` names whom its packages are encrypted to, the newest first; empty: not encrypted.
    """

    id: str
    name: str
    file: str
    packages: tuple[Package, ...]
    releases: tuple[Release, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)
    encryption: tuple[Recipient, ...] = ()


@dataclass(frozen=True, slots=True)
class ReleaseName:
    """A release of an app, by both ids."""

    app: str
    release: str


@dataclass(frozen=True, slots=True)
class Targeting:
    """A row of a switch: whom it holds for, and the `variant` that they get, or one of a `split`.

    A split has weights in hundredths by variant, in the order of the file. With `same_as` the
    audience is that release's, as it is when the plan is compiled, and `audience` is empty.
    """

    variant: str | None
    split: tuple[tuple[str, int], ...] = ()
    audience: Audience = Audience()
    same_as: ReleaseName | None = None
    conditions: tuple[Condition, ...] = ()
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Switch:
    """A remotely configured value: of the rows in their order the first that holds decides.

    `variants` are values by name, all of one type. Where no row holds, and for everybody while
    it is not `enabled`, the variant is `default`.
    """

    key: str
    variants: dict[str, JsonValue]
    default: str
    enabled: bool = True
    targeting: tuple[Targeting, ...] = ()
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ListSource:
    """An allowlist: ids of one kind (`user` or `device`) from a file, expressions, or the store.

    Exactly one of `file` (relative to the plan's folder), `regex` and `stored` is given.
    `column` names the column of a CSV or Parquet file.
    """

    name: str
    of: str
    file: str | None = None
    column: str | None = None
    regex: tuple[str, ...] = ()
    stored: bool = False
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class CdnRule:
    """For clients whose region matches one of `regions` (`*` and `?` allowed): ordered bases.

    With `expires`, URLs are signed and hold for so many seconds at least.
    """

    regions: tuple[str, ...]
    bases: tuple[str, ...]
    expires: int | None = None


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key whose signature makes a package trusted.

    `id` is its RFC 7638 thumbprint, `public` the base64 of its SubjectPublicKeyInfo (DER).
    """

    name: str
    id: str
    public: str


@dataclass(frozen=True, slots=True)
class IdentityKey:
    """A public key of the identity provider; `public` is its SubjectPublicKeyInfo (DER)."""

    kid: str | None
    public: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose tokens say who a client is; `device` is the claim that holds the device's id.

    Without issuer or audience, it is any.
    """

    keys: tuple[IdentityKey, ...]
    issuer: str | None = None
    audience: tuple[str, ...] = ()
    device: str = "device"


@dataclass(frozen=True, slots=True)
class Workspace:
    """What holds for all apps: workspace.yaml."""

    name: str
    check_after: int = 1800
    cdn: tuple[CdnRule, ...] = ()
    placeholders: tuple[str, ...] = (
        "00000000-0000-0000-0000-000000000000",
        "00000000000000000000000000000000",
        "0",
        "null",
        "unknown",
    )
    cors: tuple[str, ...] = ()
    keys: tuple[TrustedKey, ...] = ()
    identity: Identity | None = None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan; `files` maps each plan file's relative path to its text (lists excluded)."""

    workspace: Workspace
    apps: tuple[App, ...]
    lists: tuple[ListSource, ...] = ()
    files: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    switches: tuple[Switch, ...] = ()
