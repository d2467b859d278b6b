"""`keys:` of workspace.yaml: the public keys whose signatures make a package trusted.

An entry of the list is what `tidegate keygen --for packages` writes into a .pub file.
"""

from collections.abc import Sequence

from compiler.language.faults import Faults, quote
from compiler.language.records import Fields, Key, Record
from compiler.language.shapes import Located, Many, Placed, RefusalError, Shape, Word
from compiler.language.words import name_word
from compiler.packaging.package_key import PackageKey, parse_key

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
    names: dict[str, Located[PackageKey]] = {}
    ids: dict[str, Located[PackageKey]] = {}
    for key in keys:
        name = key.value.name
        if names.setdefault(name, key) is not key:
            faults.error(
                key.span,
                f"A key of the name {quote(name)} stands on line {names[name].span.line} already. "
                "Give one of the two another name.",
            )
        other = ids.setdefault(key.value.id, key)
        if other is not key:
            faults.error(
                key.span,
                f"This is the key of line {other.span.line}, {quote(other.value.name)}. Delete one "
                "of the two.",
            )
