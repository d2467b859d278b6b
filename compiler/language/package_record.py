"""packages/<app>/<version>.json: what `tidegate upload` wrote down of one version.

JSON is read by the same tree and shapes as YAML, so that a merge conflict or a cut file shows
its line as any other fault does. Nobody writes a record by hand, so nobody mends one.
"""

import re

from compiler.language.app_file import CLIENTS, read_clients
from compiler.language.draft import RecordDraft
from compiler.language.faults import Faults, quote
from compiler.language.records import Fields, Key, Record
from compiler.language.shapes import Many, RefusalError, Word
from compiler.language.words import LIST_PATH, SHA256, TEXT, choice, integer_word
from compiler.plan import Form, PackageRecord

FORMAT = "1"

# What `upload` writes, to the letter. A plan of 10,000 apps has 20,000 records, and reading them
# as trees took half of the time of a push; whatever differs in a single byte is read as a tree.
_WRITTEN = re.compile(
    r"""\{
  "format": 1,
  "forms": \[
    \{
      "compression": "identity",
      "path": "(files/[0-9a-f]{2}/[0-9a-f]{64}\.[a-z0-9]{1,16})",
      "sha256": "([0-9a-f]{64})",
      "size": ([1-9][0-9]{0,14})
    \}
  \],
  "sha256": "\2",
  "signatures": \[\],
  "size": \3
\}
"""
)

_AGAIN = "Take it from Git again, or delete it and run `tidegate upload`."


def _format(text: str) -> str:
    if text != FORMAT:
        raise RefusalError(
            f"This record has format {quote(text)}, which this Tidegate does not know. Update "
            "Tidegate."
        )
    return text


def _form(fields: Fields, faults: Faults) -> Form | None:  # noqa: ARG001
    values = [fields.get(name) for name in ("compression", "size", "sha256", "path")]
    return None if None in values else Form(*values)


def _record(fields: Fields, faults: Faults) -> RecordDraft | None:
    size, sha256 = fields.get("size"), fields.get("sha256")
    forms: tuple[Form, ...] = fields.get("forms", ())
    if size is None or sha256 is None or "forms" not in fields.values:
        return None
    plain = [form for form in forms if form.compression == "identity"]
    if [(form.size, form.sha256) for form in plain] != [(size, sha256)]:
        faults.error(
            fields.spans["forms"],
            "A record has one form of compression identity, with the package's own size and "
            f"sha256. {_AGAIN}",
        )
    clients = read_clients(fields.get("clients"), faults)
    record = PackageRecord(size, sha256, forms, fields.get("signatures", ()))
    return RecordDraft(record, clients.value if clients else None)


def written_record(text: str) -> RecordDraft | None:
    """Read a record that is just as `upload` writes it; None if it must be read as a tree."""
    found = _WRITTEN.fullmatch(text)
    if found is None:
        return None
    path, sha256, size = found[1], found[2], int(found[3])
    form = Form("identity", size, sha256, path)
    return RecordDraft(PackageRecord(size, sha256, (form,)), None)


_FORMAT = Word("the format of this file", _format, {"const": 1})
_SIZE = integer_word(0, 2**53, "a size in bytes")
_FORM = Record(
    "A form",
    {
        "compression": Key(choice("identity", "gzip", "zstd"), "How it is compressed.", "needed"),
        "size": Key(_SIZE, "Its size in bytes.", "needed"),
        "sha256": Key(SHA256, "Its SHA-256.", "needed"),
        "path": Key(LIST_PATH, "Where it is, below the CDN's base.", "needed"),
    },
    _form,
    mend=_AGAIN,
)
RECORD = Record(
    "A package's record",
    {
        "format": Key(_FORMAT, "The format of this file.", "needed"),
        "size": Key(_SIZE, "The package's size in bytes.", "needed"),
        "sha256": Key(SHA256, "The package's SHA-256.", "needed"),
        "forms": Key(Many(_FORM, "forms", least=1), "What can be downloaded.", "needed"),
        "signatures": Key(Many(TEXT, "signatures"), "One compact JWS a key."),
        "clients": Key(CLIENTS, "The host-app range that was signed."),
    },
    _record,
    mend=_AGAIN,
)
