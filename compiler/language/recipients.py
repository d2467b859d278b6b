"""`encryption:` of an app file: whom its packages are encrypted to, the newest first.

An entry of the list is what `tidegate keygen NAME --for devices` writes into a .recipient file.
"""

from compiler.language.faults import Faults
from compiler.language.records import Fields, Key, Record
from compiler.language.shapes import Located, Many, Placed, RefusalError, Shape, Word
from compiler.language.trusted_keys import refuse_equal
from compiler.language.words import name_word
from compiler.packaging.encryption import MOST_RECIPIENTS, parse_recipient
from compiler.plan import Recipient

Recipients = tuple[Located[Recipient], ...]


def _recipient(text: str) -> str:
    try:
        return parse_recipient(text)
    except ValueError as fault:
        raise RefusalError(str(fault)) from None


def _entry(fields: Fields, faults: Faults) -> Located[Recipient] | None:  # noqa: ARG001
    key, recipient = fields.get("key"), fields.get("recipient")
    if key is None or recipient is None:
        return None
    return Located(Recipient(key, recipient.value), recipient.span)


RECIPIENT_WORD = Word(
    "a recipient (age1…), as in the .recipient file of `tidegate keygen NAME --for devices`",
    _recipient,
    {"type": "string", "pattern": "^age1[02-9ac-hj-np-z]{58}$"},
)
RECIPIENT = Record(
    "An entry of encryption",
    {
        "key": Key(
            name_word("a name such as coffee-2026"), "The identity's name.", "key: coffee-2026"
        ),
        "recipient": Key(
            Placed(RECIPIENT_WORD), "The identity's public half, age1….", "recipient: age1…"
        ),
    },
    _entry,
)
ENCRYPTION: Shape[Recipients] = Many(
    RECIPIENT,
    "recipients, as `tidegate keygen NAME --for devices` prints them",
    least=1,
    most=MOST_RECIPIENTS,
)


def refuse_twins(recipients: Recipients, faults: Faults) -> None:
    """Report two entries of one name, and one recipient under two names."""
    refuse_equal([(each.value.key, each.value.recipient, each.span) for each in recipients], faults)
