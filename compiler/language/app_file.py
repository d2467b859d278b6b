"""apps/*.yaml: the packages and releases of one app, and what is made of them."""

import orjson

from compiler.language import elsewhere
from compiler.language.conditions import CONDITION
from compiler.language.draft import AppDraft, AudienceDraft, Clients, PackageDraft, ReleaseDraft
from compiler.language.faults import Faults, quote
from compiler.language.guardrail import HALT
from compiler.language.ramp import PercentShape
from compiler.language.ranges import interval
from compiler.language.recipients import ENCRYPTION, refuse_twins
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
from compiler.language.words import (
    PLATFORM,
    RANGE,
    TEXT,
    TIME,
    TRUTH,
    VERSION,
    choice,
    integer_word,
    name_word,
    version_key,
)
from compiler.plan import Comparison, State, Upgrade

MOST_INFO_BYTES = 4096
MOST_SEATS = 10_000_000

_ID = name_word("an id such as 2021000000000001")
_RULE_NAME = name_word("the name of a rule")
_LIST_NAME = name_word("the name of a list")


# Packages

CLIENTS = Placed(Table(PLATFORM, Placed(RANGE), 'ranges by platform, such as android: ">=10.2.0"'))
_Ranges = tuple[Row[Located[tuple[Comparison, ...]]], ...]


def read_clients(found: Located[_Ranges] | None, faults: Faults) -> Located[Clients] | None:
    """Make the host-app range, and doubt ranges that no version meets."""
    if found is None:
        return None
    if not found.value:
        faults.error(
            found.span,
            "This names no platform, so the package would serve nobody. Delete clients to serve "
            'every host app, or write platforms, such as android: ">=10.2.0".',
        )
    for row in found.value:
        if row.value is not None and interval(row.value.value).is_empty:
            faults.warning(
                row.value.span,
                "No version meets all of these comparisons, so this serves nobody. Correct one of "
                "them, or delete the platform.",
            )
    read = {row.key.value: row.value.value for row in found.value if row.value is not None}
    return Located(read, found.span)


def _package(fields: Fields, faults: Faults) -> PackageDraft | None:
    clients = read_clients(fields.get("clients"), faults)
    info = fields.get("info")
    if info is not None and len(orjson.dumps(info.value)) > MOST_INFO_BYTES:
        faults.error(
            fields.spans["info"],
            f"info has more than {MOST_INFO_BYTES} bytes as JSON, and every answer carries it. "
            "Shorten it, or put it into the package.",
        )
    version = fields.get("version")
    key = version_key(version.value) if version else None
    if version is None or key is None:
        return None
    return PackageDraft(
        version,
        key,
        clients,
        fields.get("download", "any"),
        fields.get("install", "on_open"),
        info,
        fields.get("withdrawn", False),
    )


PACKAGE = Record(
    "A package",
    {
        "version": Key(
            Placed(VERSION),
            "The version, 1 to 4 dotted numbers; its bytes never change.",
            "version: 1.0.0.1",
        ),
        "clients": Key(CLIENTS, "Host-app versions that can run it, by platform. Absent: all."),
        "download": Key(choice("any", "wifi"), "When the client may fetch it."),
        "install": Key(choice("on_open", "preload"), "When the client installs it."),
        "info": Key(Free(), "Any JSON up to 4 KiB, handed to the client as it is."),
        "withdrawn": Key(TRUTH, "true: nobody is offered it, and who has it must leave it."),
    },
    _package,
)


# Releases


def _audience(fields: Fields, faults: Faults) -> AudienceDraft:
    found = AudienceDraft(
        fields.get("lists", ()),
        fields.get("not_lists", ()),
        fields.get("percent"),
        fields.get("by"),
        fields.get("first"),
        fields.get("until"),
        fields.get("pace"),
    )
    if not fields.spans and not fields.refused:
        faults.error(fields.span, "This audience names nobody. Write everyone, lists or percent.")
    elif found.by is not None and not {"percent", "first"} & fields.spans.keys():
        faults.warning(
            fields.spans["by"],
            'Without percent or first, by changes nothing. Add one of them, or delete "by".',
        )
    for name, other, example in (
        ("first", "until", "until: 2026-11-29T00:00:00+08:00"),
        ("until", "first", "first: 10000"),
        ("pace", "first", "first: 10000"),
    ):
        if name in fields.spans and other not in fields.spans:
            faults.error(
                fields.spans[name],
                f"{name} is part of a window, which needs {other} too. Add {quote(example)}, or "
                f"delete {name}.",
            )
            break
    return found


def _everyone(text: str) -> AudienceDraft:
    if text != "everyone":
        raise RefusalError(
            f"{quote(text)} is no audience. Write everyone, {{lists: [staff]}}, "
            "{not_lists: [staff]}, {percent: 12.5} or {first: 10000, until: TIME}."
        )
    return AudienceDraft()


_LIST_NAMES = Many(Placed(_LIST_NAME), "names of lists", least=1, alone=True)

EVERYONE = Word("everyone, or a mapping such as {percent: 12.5}", _everyone, {"const": "everyone"})
AUDIENCE_KEYS = {
    "lists": Key(_LIST_NAMES, "Holds for members of any of these lists."),
    "not_lists": Key(_LIST_NAMES, "Holds for members of none of these lists."),
    "percent": Key(
        Placed(PercentShape()),
        "0 to 100 in steps of 0.01; or a list of steps, such as "
        "[{at: 2026-11-23T09:00:00+08:00, percent: 1}].",
    ),
    "by": Key(
        Placed(choice("device", "user")),
        "Whom percent and first count: the device id, else the user id (device); or the user id.",
    ),
}

AUDIENCE = Either(
    EVERYONE,
    Record(
        "An audience",
        {
            **AUDIENCE_KEYS,
            "first": Key(
                Placed(integer_word(1, MOST_SEATS, "a whole number from 1 to 10000000")),
                "A window: so many subjects get a seat, those that come first; needs until.",
            ),
            "until": Key(Placed(TIME), "From this second on nobody else gets a seat."),
            "pace": Key(
                Placed(choice("linear")),
                "linear: the seats open evenly from the release's starts to until.",
            ),
        },
        _audience,
        elsewhere.IN_AUDIENCE,
        {"minProperties": 1},
    ),
)


WHEN = Key(
    Many(Either(Placed(_RULE_NAME), CONDITION), "conditions"),
    "Conditions and names of rules; all must hold.",
)


def _check_window(
    audience: AudienceDraft, starts: Located[int] | None, given: bool, faults: Faults
) -> None:
    """Hold a window to its release's `starts`, which may be `given` and yet not readable."""
    if audience.pace is not None and not given:
        faults.error(
            audience.pace.span,
            "A pace begins when the release starts, and this release does not say when. Add "
            '"starts: 2026-11-23T09:00:00+08:00" to the release, or delete pace.',
        )
    if starts and audience.until and audience.until.value <= starts.value:
        faults.error(
            audience.until.span,
            "This window is over before the release starts. Write a later time.",
        )


def _release(fields: Fields, faults: Faults) -> ReleaseDraft:
    starts, ends = fields.get("starts"), fields.get("ends")
    if starts and ends and ends.value <= starts.value:
        faults.error(ends.span, "This release ends before it starts. Write a later time.")
    audience = fields.get("audience", AudienceDraft())
    _check_window(audience, starts, "starts" in fields.spans, faults)
    return ReleaseDraft(
        fields.get("id"),
        fields.get("package"),
        audience,
        fields.get("when", ()),
        Upgrade[fields.get("upgrade", "silent").upper()],
        State(fields.get("state", "live")),
        starts,
        ends,
        fields.span,
        fields.get("halt"),
    )


RELEASE = Record(
    "A release",
    {
        "id": Key(
            Placed(name_word("an id such as stable")),
            "Unique in its app; a percentage reaches the same people while it stays.",
            "id: stable",
        ),
        "package": Key(Placed(VERSION), "The version that is offered.", "package: 1.0.0.1"),
        "audience": Key(
            AUDIENCE, "Who may get it; all that is given must hold.", "audience: everyone"
        ),
        "when": WHEN,
        "upgrade": Key(choice("silent", "prompt", "force"), "How the client upgrades."),
        "state": Key(choice("live", "paused", "ended"), "Only a live release is offered."),
        "starts": Key(Placed(TIME), "The first second, with an offset."),
        "ends": Key(Placed(TIME), "The first second after it, with an offset."),
        "halt": Key(HALT, "When `tidegate control` pauses it by itself."),
    },
    _release,
    elsewhere.IN_RELEASE,
)


# The file


def _app(fields: Fields, faults: Faults) -> AppDraft:
    encryption = fields.get("encryption", ())
    refuse_twins(encryption, faults)
    return AppDraft(
        fields.get("app"),
        fields.get("name"),
        fields.span.file,
        fields.get("packages", ()),
        fields.get("releases", ()),
        fields.span,
        encryption,
    )


APP = Record(
    "An app file",
    {
        "app": Key(Placed(_ID), "The app's id.", "app: 2021000000000001"),
        "name": Key(TEXT, "The app's name for people."),
        "packages": Key(Many(PACKAGE, "packages"), "The versions of the app."),
        "releases": Key(Many(RELEASE, "releases"), "Who is offered which package, and when."),
        "encryption": Key(
            ENCRYPTION,
            "Whom its packages are encrypted to, the newest first. Absent: not encrypted.",
        ),
    },
    _app,
    elsewhere.IN_APP,
)
