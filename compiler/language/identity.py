"""`identity:` of workspace.yaml: whose tokens say who a client is.

A key is written as the provider publishes it: an entry of its key set (JWKS, RFC 7517), which as
JSON is YAML already, or its PEM. What it is for follows from its kind, as in gateway/identity.py.
"""

from typing import Any

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from compiler.language.faults import Faults, quote
from compiler.language.records import Fields, Key, Record
from compiler.language.shapes import Located, Many, Raw, RefusalError, Shape, Word
from compiler.language.words import TEXT, choice
from compiler.plan import Identity, IdentityKey, Span
from gateway.identity import read_key

MOST_KEYS = 20
MOST_AUDIENCES = 20

_PARTS = ("kty", "crv", "x", "y", "n", "e")
_PRIVATE = (
    "This is the secret half of a key, and everybody who reads this file has it now. Replace the "
    "key at your identity provider, and write the public half of the new one."
)
_UNREAD = Raw({})  # what key sets have besides: for others to read


def _key(fields: Fields, faults: Faults) -> Located[IdentityKey] | None:
    if fields.refused:  # it is reported; a private key is none of ours to look into
        return None
    ways = [name for name in ("kty", "pem") if name in fields.spans]
    if len(ways) != 1:
        faults.error(
            fields.spans["pem"] if ways else fields.span,
            "A key is written in one way. Write the entry of the provider's key set (kty, …), or "
            "its pem.",
        )
        return None
    if any(name in fields.spans and name not in fields.values for name in ("pem", *_PARTS)):
        return None  # it is reported
    try:
        public = fields.values["pem"] if ways == ["pem"] else _jwk(fields)
        key = read_key(public)
    except ValueError as fault:
        mend = "Take it from the identity provider again, as it is published."
        faults.error(fields.spans[ways[0]], f"{fault} {mend}")
        return None
    if fields.get("use", "sig") != "sig":
        faults.error(fields.spans["use"], "This key does not sign. Delete it.")
    if fields.get("alg", key.algorithm) != key.algorithm:
        faults.error(
            fields.spans["alg"],
            f"A key of this kind is used for {key.algorithm} alone. Delete alg, or the key.",
        )
    return Located(IdentityKey(fields.get("kid"), public), fields.spans.get("kid", fields.span))


def _pem(text: str) -> bytes:
    if "PRIVATE KEY-----" in text:
        raise RefusalError(_PRIVATE)
    try:
        found = load_pem_public_key(text.encode())
    except Exception:  # noqa: BLE001 - cryptography says in many ways that it cannot read this
        raise RefusalError(
            "This is no public key in PEM. Write it below `pem: |`, from BEGIN PUBLIC KEY to END."
        ) from None
    return found.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _jwk(fields: Fields) -> bytes:
    given = {name: fields.values[name] for name in _PARTS if name in fields.values}
    import jwt  # noqa: PLC0415 - see gateway/identity.py

    try:
        found: Any = jwt.PyJWK(given).key
        public: bytes = found.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (jwt.PyJWTError, ValueError):
        raise ValueError("This is no public key of a key set (JWK) that can be read.") from None
    return public


def _identity(fields: Fields, faults: Faults) -> Identity | None:
    keys = fields.get("keys", ())
    seen: dict[str | None, Span] = {}
    for key in keys:
        kid = key.value.kid
        if kid in seen:
            which = "no kid" if kid is None else f"the kid {quote(kid)}"
            faults.error(
                key.span,
                f"A key with {which} stands on line {seen[kid].line} already; a token names its "
                "key by it. Give each its own.",
            )
        seen.setdefault(kid, key.span)
    return Identity(
        tuple(key.value for key in keys),
        fields.get("issuer"),
        fields.get("audience", ()),
        fields.get("device", "device"),
    )


_PEM = Word("the lines of a public key in PEM", _pem, {"type": "string"})

_ALGORITHM = Word("EdDSA, ES256 or RS256", str, {"enum": ["EdDSA", "ES256", "RS256"]})

KEY = Record(
    "A key of the identity provider",
    {
        "kid": Key(TEXT, "What tokens call it; without it, those count that name no key."),
        "pem": Key(_PEM, "The public key as PEM, instead of the members of a key set."),
        "kty": Key(choice("OKP", "EC", "RSA"), "Its type: OKP, EC or RSA."),
        "crv": Key(choice("Ed25519", "P-256"), "Its curve: Ed25519 or P-256."),
        **{name: Key(TEXT, "A part of the public key, in base64url.") for name in _PARTS[2:]},
        "alg": Key(_ALGORITHM, "The algorithm, which follows from kty."),
        "use": Key(TEXT, "What it is for: sig."),
        **{
            name: Key(_UNREAD, "Of a key set, and not read.")
            for name in ("key_ops", "ext", "x5c", "x5t", "x5t#S256", "x5u")
        },
    },
    _key,
    dict.fromkeys(("d", "p", "q", "dp", "dq", "qi", "oth", "k"), _PRIVATE),
)

IDENTITY: Shape[Identity] = Record(
    "identity",
    {
        "keys": Key(
            Many(KEY, "keys of the identity provider", least=1, most=MOST_KEYS),
            "The public keys that its tokens are signed with.",
            "keys: [{kty: OKP, crv: Ed25519, kid: …, x: …}]",
        ),
        "issuer": Key(TEXT, "The iss that a token must have."),
        "audience": Key(
            Many(TEXT, "texts", least=1, most=MOST_AUDIENCES, alone=True),
            "The aud of which a token must have one.",
        ),
        "device": Key(TEXT, "The claim that holds the device's id; device if absent."),
    },
    _identity,
)
