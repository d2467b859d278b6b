"""`keys:` of workspace.yaml: the public keys whose signatures make a package trusted.

An entry of the list is what `tidegate keygen --for packages` writes into a .pub file.
"""

from collections.abc import Iterable, Sequence

from compiler.language.faults import Faults, quote
from compiler.language.records import Fields, Key, Record
from compiler.language.shapes import Located, Many, Placed, RefusalError, Shape, Word
from compiler.language.words import name_word
from compiler.packaging.package_key import PackageKey, parse_key
from compiler.plan import Span

Keys = Sequence[Located[PackageKey]]


def _public(text: str) -> PackageKey:
    try:
        return parse_key(text)
    except ValueError as fault:
        raise RefusalError(str(fault)) from None


def _key(fields: Fields, faults: Faults) -> Located[PackageKey] | None:  # noqa: ARG001
    name, public = fields.get("key"), fields.get("public")
    if name is None or public is None:
        return None
    return Located(public.value.named(name), public.span)


_PUBLIC = Word(
    "the base64 of a public key, as in the .pub file of `tidegate keygen --for packages`",
    _public,
    {"type": "string", "pattern": "^[A-Za-z0-9+/]+={0,2}$"},
)

KEY = Record(
    "An entry of keys",
    {
        "key": Key(name_word("a name such as ann-2026"), "The key's name.", "key: ann-2026"),
        "public": Key(
            Placed(_PUBLIC),
            "The base64 of its SubjectPublicKeyInfo (DER): Ed25519, P-256 or RSA.",
            "public: MCowBQYDK2Vw…",
        ),
    },
    _key,
)
KEYS: Shape[tuple[Located[PackageKey], ...]] = Many(
    KEY, "keys, as `tidegate keygen NAME --for packages` prints them", least=1
)


def refuse_twins(keys: Keys, faults: Faults) -> None:
    """Report two keys of one name, and one key under two names."""
    refuse_equal([(key.value.name, key.value.id, key.span) for key in keys], faults)


def refuse_equal(keys: Iterable[tuple[str, str, Span]], faults: Faults) -> None:
    """Report equal names, and equal ids under two names, of keys given as (name, id, place)."""
    names: dict[str, Span] = {}
    ids: dict[str, tuple[str, Span]] = {}
    for name, id_, span in keys:
        if name in names:
            faults.error(
                span,
                f"A key of the name {quote(name)} stands on line {names[name].line} already. "
                "Give one of the two another name.",
            )
        if id_ in ids:
            other, place = ids[id_]
            faults.error(
                span,
                f"This is the key of line {place.line}, {quote(other)}. Delete one of the two.",
            )
        names.setdefault(name, span)
        ids.setdefault(id_, (name, span))
