"""A package's signature: a compact JWS (RFC 7515) over its claims, read and verified strictly.

    header    {"alg": "EdDSA" | "ES256" | "RS256", "kid": <the key's id>,
               "typ": "tidegate-package+jws"}                  these three members and no others
    payload   the claims (claims.py)

The header says which key to look up, and nothing else is believed of it: the algorithm is that
of the key's kind, and a token that says another is refused. So `none`, shared secrets, keys and
certificates inside the token, `crit` and unencoded payloads have no way in. No I/O.
"""

import base64
import binascii
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from compiler.packaging.claims import (
    Claims,
    SignatureError,
    check_claims,
    read_claims,
    shown,
    strict_object,
)
from compiler.packaging.package_key import ALGORITHMS, KEY_ID, PackageKey, SigningKey, base64url

if TYPE_CHECKING:
    from jwt.api_jws import PyJWS

TYPE = "tidegate-package+jws"
MOST_CHARS = 8192
"""A longer signature is not looked at; RSA of 3072 bits makes one of some 900 characters."""
MOST_SIGNATURES = 32
"""Of one package; more than any rotation of keys needs, and every answer carries them all."""

_HEADER = {"alg", "kid", "typ"}
_OWN_KEYS = {"jwk", "jku", "x5c", "x5u", "x5t", "x5t#S256"}


@cache
def _jws(algorithm: str) -> "PyJWS":
    """Give what knows this algorithm and no other, so that it cannot be talked into one.

    Imported here, as every command reads packages' records, and few ever verify one: PyJWT brings
    all of X.509 along, which an emergency has no time for.
    """
    from jwt.api_jws import PyJWS  # noqa: PLC0415

    assert algorithm in ALGORITHMS
    return PyJWS(algorithms=[algorithm])


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature as it was read: whose it says it is, and what it says. Nothing is verified."""

    text: str
    algorithm: str
    key_id: str
    claims: Claims


def sign(claims: Claims, key: SigningKey) -> Signature:
    """Sign claims. Raises SignatureError for claims that could not be read again."""
    check_claims(claims)
    algorithm, key_id = key.public.algorithm, key.public.id
    text = _jws(algorithm).encode(
        claims.to_json(), key.private, algorithm, headers={"kid": key_id, "typ": TYPE}
    )
    if len(text) > MOST_CHARS:
        raise SignatureError(f"it would have {len(text):,} characters, and {MOST_CHARS:,} may be")
    return Signature(text, algorithm, key_id, claims)


def read_signature(text: str) -> Signature:
    """Read a signature without verifying it.

    Raises SignatureError; its sentence says what "it" has, and has no capital and no full stop.
    """
    if len(text) > MOST_CHARS:
        raise SignatureError(f"it has {len(text):,} characters, and {MOST_CHARS:,} may be")
    parts = text.split(".")
    if len(parts) != 3:
        raise SignatureError(
            f"it has {len(parts)} parts, and a compact JWS has 3, joined by full stops"
        )
    header, payload, signature = (_decoded(part) for part in parts)
    algorithm, key_id = _read_header(strict_object(header, "its header"))
    if not signature:
        raise SignatureError("it ends without a signature")
    return Signature(text, algorithm, key_id, read_claims(payload))


def verify(signature: Signature, key: PackageKey) -> None:
    """Tell whether the key's owner signed. Raises SignatureError when it does not hold."""
    if signature.key_id != key.id:
        raise SignatureError(f"it is by the key {signature.key_id}, not by {key.name} ({key.id})")
    if signature.algorithm != key.algorithm:
        raise SignatureError(
            f"its header says {signature.algorithm}, and {key.name} is a key for {key.algorithm}"
        )
    from jwt.exceptions import PyJWTError  # noqa: PLC0415 - see _jws

    try:
        _jws(key.algorithm).decode_complete(
            signature.text, key.verifying, algorithms=[key.algorithm]
        )
    except PyJWTError as error:
        raise SignatureError(
            f"it does not verify with {key.name}: it was made with another key, or changed since"
        ) from error


def _decoded(part: str) -> bytes:
    """Decode base64url in its one spelling: no padding, no blanks, no unused bits."""
    try:
        data = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if base64url(data) != part:
        raise SignatureError("it is not written in base64url without padding")
    return data


def _read_header(header: dict[str, Any]) -> tuple[str, str]:
    """Give the algorithm and the key's id that the header states, if it states only such."""
    algorithm = header.get("alg")
    if isinstance(algorithm, str) and algorithm.lower() == "none":
        raise SignatureError("it is not signed at all (alg none)")
    if isinstance(algorithm, str) and algorithm.startswith("HS"):
        raise SignatureError(
            f"it is made with a shared secret ({shown(algorithm)}), which is no signature"
        )
    if algorithm not in ALGORITHMS:
        raise SignatureError(f"its alg is {shown(algorithm)}, not one of {', '.join(ALGORITHMS)}")
    if "crit" in header:
        raise SignatureError(
            f"it demands extensions that are not known (crit {shown(header['crit'])})"
        )
    if "b64" in header:
        raise SignatureError("its header has b64; a payload is always written in base64url here")
    if own := sorted(_OWN_KEYS & set(header)):
        raise SignatureError(
            f"it brings its own key ({own[0]}); a key is trusted by name, never because it is there"
        )
    if unknown := sorted(set(header) - _HEADER):
        raise SignatureError(f"its header has the member {shown(unknown[0])}; alg, kid and typ may")
    if header.get("typ") != TYPE:
        raise SignatureError(f"its typ is {shown(header.get('typ'))}, not {shown(TYPE)}")
    key_id = header.get("kid")
    if not isinstance(key_id, str) or not KEY_ID.match(key_id):
        raise SignatureError(f"its kid is {shown(key_id)}, not a key's id of 43 characters")
    return str(algorithm), key_id
