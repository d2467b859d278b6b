"""packages/<app>/<version>.json: what `tidegate upload` wrote down of one version.

JSON is read by the same tree and shapes as YAML, so that a merge conflict or a cut file shows
its line as any other fault does. Nobody writes a record by hand, so nobody mends one.
"""

import re
from typing import Any

import orjson

from compiler.language.app_file import CLIENTS, read_clients
from compiler.language.draft import Clients, RecordDraft
from compiler.language.faults import Faults, quote
from compiler.language.ranges import interval
from compiler.language.recipients import RECIPIENT_WORD
from compiler.language.records import Fields, Key, Record
from compiler.language.shapes import Many, RefusalError, Word
from compiler.language.words import LIST_PATH, SHA256, TEXT, choice, integer_word, name_word
from compiler.packaging.encryption import AGE, MOST_RECIPIENTS, read_encryption
from compiler.packaging.miniapp import MOST_CODE
from compiler.packaging.package_signature import MOST_SIGNATURES
from compiler.plan import Comparison, Encryption, Form, PackageRecord
from compiler.version_range import parse_range

FORMAT = "1"
COMPRESSIONS = ("identity", "gzip", "zstd")
MOST_BYTES = 2**53

_HEX = re.compile(r"[0-9a-f]{64}\Z")
_PLACE = re.compile(r"files/([0-9a-f]{2})/(\1[0-9a-f]{62})(?:\.[a-z0-9]{1,16}){1,4}\Z")
_JWS = re.compile(r"[A-Za-z0-9_.-]+\Z")
_PLAIN = re.compile(r"[ -~]{1,256}\Z")
_FORM_MEMBERS = ["compression", "path", "sha256", "size"]
_MEMBERS = ({"format", "forms", "sha256", "signatures", "size"}, {"clients", "code", "encryption"})
_AS_WRITTEN = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE

_AGAIN = "Take it from Git again, or delete it and run `tidegate upload`."


def _format(text: str) -> str:
    if text != FORMAT:
        raise RefusalError(
            f"This record has format {quote(text)}, which this Tidegate does not know. Update "
            "Tidegate."
        )
    return text


def _form(fields: Fields, faults: Faults) -> Form | None:
    values = [fields.get(name) for name in ("compression", "size", "sha256", "path")]
    if None in values:
        return None
    form = Form(*values)
    if not _is_at_its_place(form):
        faults.error(
            fields.spans["path"],
            f"{quote(form.path)} is no place of this form's bytes, which is files/, the first two "
            f"digits of its sha256, /, and the sha256 with a suffix. {_AGAIN}",
        )
    return form


def _is_at_its_place(form: Form) -> bool:
    """Tell whether the path names these very bytes: phones are sent there."""
    found = _PLACE.match(form.path)
    return found is not None and found[2] == form.sha256


def _has_identity(record: PackageRecord) -> bool:
    """Tell whether the file itself is among the forms, once; encrypted, it has other bytes."""
    whole = [form for form in record.forms if form.compression == "identity"]
    if record.encryption is not None:
        return len(whole) == 1 and whole[0].sha256 != record.sha256
    return [(form.size, form.sha256) for form in whole] == [(record.size, record.sha256)]


def _encryption(fields: Fields, faults: Faults) -> Encryption | None:  # noqa: ARG001
    found = [fields.get(name) for name in ("format", "key_id", "recipients")]
    return None if None in found else Encryption(*found)


def _is_one_each(forms: tuple[Form, ...]) -> bool:
    return len({form.compression for form in forms}) == len(forms)


def _record(fields: Fields, faults: Faults) -> RecordDraft | None:
    size, sha256 = fields.get("size"), fields.get("sha256")
    forms: tuple[Form, ...] = fields.get("forms", ())
    if size is None or sha256 is None or "forms" not in fields.values:
        return None
    record = PackageRecord(
        size, sha256, forms, fields.get("signatures", ()), fields.get("encryption")
    )
    if not _has_identity(record):
        which = "the package's own" if record.encryption is None else "an age file's own"
        faults.error(
            fields.spans["forms"],
            f"A record has one form of compression identity, with {which} size and "
            f"sha256. {_AGAIN}",
        )
    elif not _is_one_each(forms):
        faults.error(
            fields.spans["forms"], f"A record has one form of a compression at most. {_AGAIN}"
        )
    clients = read_clients(fields.get("clients"), faults)
    return RecordDraft(record, clients.value if clients else None, fields.get("code"))


def written_record(text: str) -> RecordDraft | None:
    """Read a record that is just as `upload` writes it; None if it must be read as a tree.

    A plan of 10,000 apps has 20,000 records, and reading them as trees took half of the time of a
    push. Whatever is not written as `upload` writes it, or could be a fault, is read as a tree.
    """
    try:
        value = orjson.loads(text)
        if orjson.dumps(value, option=_AS_WRITTEN) != text.encode():
            return None
        return _from_json(value)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None  # a member of another kind, too: the tree says where it stands


def _from_json(value: dict[str, Any]) -> RecordDraft | None:
    """Read a parsed record; None, or any of the errors above, where something is unusual."""
    required, optional = _MEMBERS
    if (type(value["format"]), type(value["signatures"])) != (int, list):
        return None
    if value["format"] != int(FORMAT) or value.keys() - optional != required:
        return None
    forms = tuple(_form_from_json(each) for each in value["forms"])
    signatures = tuple(value["signatures"])
    if len(signatures) > MOST_SIGNATURES or not all(map(_JWS.match, signatures)):
        return None
    secret = read_encryption(value["encryption"]) if "encryption" in value else None
    record = PackageRecord(_written_size(value), _written_hex(value), forms, signatures, secret)
    if not _has_identity(record) or not _is_one_each(forms):
        return None
    clients: Clients | None = None
    if "clients" in value:
        clients = {name.casefold(): _written_range(each) for name, each in value["clients"].items()}
        if not 0 < len(clients) == len(value["clients"]) or not all(map(_PLAIN.match, clients)):
            return None
    return RecordDraft(record, clients, _written_code(value))


def _form_from_json(value: dict[str, Any]) -> Form:
    if list(value) != _FORM_MEMBERS or value["compression"] not in COMPRESSIONS:
        raise ValueError
    form = Form(value["compression"], _written_size(value), _written_hex(value), value["path"])
    if not _is_at_its_place(form):
        raise ValueError
    return form


def _written_size(value: dict[str, Any]) -> int:
    size = value["size"]
    if type(size) is not int or not 0 <= size <= MOST_BYTES:
        raise ValueError
    return size


def _written_code(value: dict[str, Any]) -> int | None:
    code = value.get("code", 0)
    if type(code) is not int or not 0 <= code <= MOST_CODE:
        raise ValueError
    return code if "code" in value else None


def _written_hex(value: dict[str, Any]) -> str:
    sha256: str = value["sha256"]
    if not _HEX.match(sha256):
        raise ValueError
    return sha256


def _written_range(text: str) -> tuple[Comparison, ...]:
    comparisons = parse_range(text)
    if not comparisons or interval(comparisons).is_empty:
        raise ValueError
    return comparisons


_FORMAT = Word("the format of this file", _format, {"const": 1})
_SIZE = integer_word(0, MOST_BYTES, "a size in bytes")
_CODE = integer_word(0, MOST_CODE, "a version.code")
_FORM = Record(
    "A form",
    {
        "compression": Key(choice(*COMPRESSIONS), "How it is compressed.", "needed"),
        "size": Key(_SIZE, "Its size in bytes.", "needed"),
        "sha256": Key(SHA256, "Its SHA-256.", "needed"),
        "path": Key(LIST_PATH, "Where it is, below the CDN's base.", "needed"),
    },
    _form,
    mend=_AGAIN,
)
_ENCRYPTION = Record(
    "What is said of encryption",
    {
        "format": Key(choice(AGE), "The format of the encrypted files.", "needed"),
        "key_id": Key(name_word("a key's name"), "The newest identity's name.", "needed"),
        "recipients": Key(
            Many(RECIPIENT_WORD, "recipients", least=1, most=MOST_RECIPIENTS),
            "Whom they were encrypted to.",
            "needed",
        ),
    },
    _encryption,
    mend=_AGAIN,
)
RECORD = Record(
    "A package's record",
    {
        "format": Key(_FORMAT, "The format of this file.", "needed"),
        "size": Key(_SIZE, "The package's size in bytes.", "needed"),
        "sha256": Key(SHA256, "The package's SHA-256.", "needed"),
        "forms": Key(Many(_FORM, "forms", least=1), "What can be downloaded.", "needed"),
        "signatures": Key(Many(TEXT, "signatures", most=MOST_SIGNATURES), "One compact JWS a key."),
        "clients": Key(CLIENTS, "The host-app range that was signed."),
        "code": Key(_CODE, "A MiniApp's version.code."),
        "encryption": Key(_ENCRYPTION, "Whom the forms are encrypted to. Absent: not encrypted."),
    },
    _record,
    mend=_AGAIN,
)
