"""The plan files: which keys each has, what they mean, and what is made of them.

One table a record; `validate` reads by it and `tidegate schema` prints it. An app's file has a
module of its own (app_file.py), and so have the records of packages (package_record.py).
"""

from typing import Any

from compiler.language import elsewhere
from compiler.language.app_file import APP
from compiler.language.conditions import CONDITION
from compiler.language.draft import ListDraft, RuleDraft, WorkspaceDraft
from compiler.language.faults import Faults, quote
from compiler.language.identity import IDENTITY
from compiler.language.records import Fields, Key, Record
from compiler.language.shapes import Either, Many, Placed, RefusalError, Table, Word
from compiler.language.switch_file import SWITCHES
from compiler.language.trusted_keys import KEYS, refuse_twins
from compiler.language.words import (
    BASE,
    EXPRESSION,
    LIST_PATH,
    ORIGIN,
    PATTERN,
    TEXT,
    TRUTH,
    choice,
    integer_word,
    name_word,
)
from compiler.plan import CdnRule, ListSource, TrustedKey, Workspace

MOST_EXPRESSIONS = 20
MOST_CHECK_AFTER = 86_400
LEAST_EXPIRES, MOST_EXPIRES = 60, 7 * 86_400

_RULE_NAME = name_word("the name of a rule")
_LIST_NAME = name_word("the name of a list")


def _cdn(fields: Fields, faults: Faults) -> CdnRule | None:  # noqa: ARG001
    return CdnRule(fields.get("regions", ()), fields.get("bases", ()), fields.get("expires"))


def _workspace(fields: Fields, faults: Faults) -> WorkspaceDraft:
    cdn = fields.get("cdn")
    optional: dict[str, Any] = {
        name: fields.get(name)
        for name in ("check_after", "placeholders", "cors", "identity")
        if name in fields.values
    }
    rules = tuple(rule.value for rule in cdn.value) if cdn else ()
    name = fields.get("workspace", "")
    keys = fields.get("keys", ())
    refuse_twins(keys, faults)
    trusted = tuple(TrustedKey(key.value.name, key.value.id, key.value.public) for key in keys)
    workspace = Workspace(name, cdn=rules, keys=trusted, span=fields.span, **optional)
    return WorkspaceDraft(workspace, cdn, keys)


CDN = Record(
    "A cdn entry",
    {
        "regions": Key(
            Many(PATTERN, "regions", least=1, alone=True),
            'Regions of clients, with * and ?; "*" is for all.',
            'regions: ["*"]',
        ),
        "bases": Key(
            Many(BASE, "URLs", least=1, alone=True),
            "Where packages are fetched, the best first.",
            "bases: [https://cdn.example.com]",
        ),
        "expires": Key(
            integer_word(
                LEAST_EXPIRES, MOST_EXPIRES, "a whole number of seconds from 60 to 604800"
            ),
            "URLs are signed, as for nginx's secure_link, and hold so many seconds at least.",
        ),
    },
    _cdn,
)

WORKSPACE = Record(
    "workspace.yaml",
    {
        "workspace": Key(
            name_word("a name such as demo"), "The workspace's name.", "workspace: demo"
        ),
        "check_after": Key(
            integer_word(0, MOST_CHECK_AFTER, "a whole number of seconds from 0 to 86400"),
            "Seconds that a client waits before it asks again.",
        ),
        "cdn": Key(
            Placed(Many(Placed(CDN), "entries with regions and bases")),
            "Where clients fetch packages; the first entry whose region fits.",
        ),
        "placeholders": Key(Many(TEXT, "ids"), "Ids that count as none, such as unknown."),
        "cors": Key(Many(ORIGIN, "origins"), "Origins whose web pages may ask."),
        "keys": Key(KEYS, "Who may sign packages; with keys, what is on offer must be signed."),
        "identity": Key(IDENTITY, "Whose tokens say who a client is; else it says so itself."),
    },
    _workspace,
    elsewhere.IN_WORKSPACE,
)


def _rules(fields: Fields, faults: Faults) -> tuple[RuleDraft, ...]:  # noqa: ARG001
    rows = fields.get("rules", ())
    return tuple(RuleDraft(row.key, row.value or ()) for row in rows)


def _no_rule(text: str) -> None:
    raise RefusalError(
        f"{quote(text)} is no condition, and a rule cannot name another rule. Write its "
        "conditions here, such as {attribute: network, in: [WIFI]}."
    )


_RULE_ITEM = Either(Word("a condition", _no_rule, {"not": {}}), CONDITION)
RULES = Record(
    "rules.yaml",
    {
        "rules": Key(
            Table(_RULE_NAME, Many(_RULE_ITEM, "conditions", least=1), "names with conditions"),
            "Named conditions, to be used in `when` by name.",
            "rules: {}",
        ),
    },
    _rules,
)


def _list(fields: Fields, faults: Faults) -> ListDraft | None:
    given = [name for name in ("file", "regex", "stored") if name in fields.spans]
    if len(given) != 1:
        faults.error(
            fields.spans[given[1]] if given else fields.span,
            "A list has exactly one source. Write one of file: lists/staff.csv, regex: "
            "['^qa-'] and stored: true.",
        )
    if "column" in fields.spans and "file" not in fields.spans:
        faults.error(
            fields.spans["column"], 'column names a column of a file. Delete it, or add "file".'
        )
    if fields.get("stored") is False:
        faults.error(fields.spans["stored"], 'Write "stored: true", or name a file or regex.')
    name, file = fields.get("list"), fields.get("file")
    if name is None:
        return None
    source = ListSource(
        name.value,
        fields.get("of", "user"),
        file.value if file else None,
        fields.get("column"),
        fields.get("regex", ()),
        fields.get("stored", False),
        fields.span,
    )
    return ListDraft(name, source, file)


LIST = Record(
    "A list",
    {
        "list": Key(Placed(_LIST_NAME), "The list's name.", "list: staff"),
        "of": Key(choice("user", "device"), "Which id it holds.", "of: user"),
        "file": Key(Placed(LIST_PATH), "Ids, one a line, as CSV or Parquet, in this folder."),
        "column": Key(TEXT, "The column of a CSV or Parquet file."),
        "regex": Key(
            Many(EXPRESSION, "expressions", least=1, most=MOST_EXPRESSIONS, alone=True),
            "Expressions (RE2) that are searched in the id.",
        ),
        "stored": Key(TRUTH, "true: the ids come from `tidegate allowlist import`."),
    },
    _list,
)


def _lists(fields: Fields, faults: Faults) -> tuple[ListDraft, ...]:  # noqa: ARG001
    found: tuple[ListDraft, ...] = fields.get("lists", ())
    return found


LISTS = Record(
    "lists.yaml",
    {"lists": Key(Many(LIST, "lists"), "Allowlists, to be used in audiences.", "lists: []")},
    _lists,
)


def json_schema() -> dict[str, Any]:
    """Describe the plan's files as one JSON Schema (draft 7), for `tidegate schema`.

    A file fits one of its definitions: workspace, app, rules, lists or switches.
    """
    files: dict[str, Record[Any]] = {
        "workspace": WORKSPACE,
        "app": APP,
        "rules": RULES,
        "lists": LISTS,
        "switches": SWITCHES,
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Tidegate plan",
        "anyOf": [{"$ref": f"#/definitions/{name}"} for name in files],
        "definitions": {name: record.schema() for name, record in files.items()},
    }
