"""Whom a client trusts: keys that sign packages, and the identities that open encrypted ones.

A signature is a compact JWS (RFC 7515) over what a package is:

    header    {"alg": EdDSA, ES256 or RS256, "kid": the key's id, "typ": "tidegate-package+jws"}
    payload   {"app", "version", "size", "sha256", "created", "clients"}

A key's id is its RFC 7638 thumbprint. The algorithm is that of the key's kind: what a header says
of it is compared, never followed. `clients`, the host apps that can run the package, is not looked
at: the gateway has held this host app to it before it offered the package.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pyrage  # type: ignore[import-untyped]
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from jwt.api_jws import PyJWS

from loadtest.client.answer import Offer
from loadtest.client.fault import UnusableError
from loadtest.client.version import same_version

TYPE = "tidegate-package+jws"
PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey

_LEAST_RSA_BITS = 2048
_JWS = {name: PyJWS(algorithms=[name]) for name in ("EdDSA", "ES256", "RS256")}
_GIVEN_KEY = re.compile(r"([A-Za-z0-9_-]+)=([A-Za-z0-9+/]*={0,2})\Z")
_KEY_LINE = re.compile(r"""\bpublic:\s*["']?([A-Za-z0-9+/]+={0,2})""")


@dataclass(frozen=True, slots=True)
class Trust:
    """Trusted public keys by id, and age identities (`AGE-SECRET-KEY-1…`).

    Without keys, signatures are not asked for; with any, nothing unsigned is installed.
    Raises UnusableError for an identity or a kind of key that is none.
    """

    keys: Mapping[str, PublicKey] = field(default_factory=dict)
    identities: Sequence[str] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for key in self.keys.values():
            _algorithm(key)
        self.opened_identities()

    def opened_identities(self) -> list[Any]:
        """Give the identities as the age library takes them."""
        try:
            return [pyrage.x25519.Identity.from_str(text) for text in self.identities]
        except pyrage.IdentityError as error:
            raise UnusableError(f"an age identity cannot be read: {error}") from error

    def check(self, app: str, offer: Offer) -> None:
        """Hold an offer to the first signature by a trusted key. Raises UnusableError."""
        if not self.keys:
            return
        for text in offer.signatures:
            header = _header(text)
            key_id = header.get("kid")
            key = self.keys.get(key_id) if isinstance(key_id, str) else None
            if key is not None:
                _compare(_claims(text, header, key), app, offer)
                return
        raise UnusableError("no trusted key has signed it")


def _header(text: str) -> dict[str, Any]:
    """Give a signature's header; what cannot be read names no key."""
    try:
        return dict(jwt.get_unverified_header(text))
    except (jwt.PyJWTError, ValueError, RecursionError):
        return {}


def _claims(text: str, header: dict[str, Any], key: PublicKey) -> dict[str, Any]:
    """Give what a trusted key has signed. Raises UnusableError when it has not."""
    algorithm = _algorithm(key)
    if header.get("typ") != TYPE:
        raise UnusableError("its signature is not one of a package")
    if header.get("alg") != algorithm:
        raise UnusableError(f"its signature does not say {algorithm}, which its key is for")
    try:
        payload = _JWS[algorithm].decode(text, key, algorithms=[algorithm])
        claims = json.loads(payload)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise UnusableError("its signature does not hold") from error
    if not isinstance(claims, dict):
        raise UnusableError("its signature is over something else")
    return claims


def _compare(claims: dict[str, Any], app: str, offer: Offer) -> None:
    version = claims.get("version")
    if claims.get("app") != app:
        raise UnusableError("its signature is for another app")
    if not isinstance(version, str) or not same_version(version, offer.version):
        raise UnusableError("its signature is for another version")
    size = claims.get("size")
    if type(size) is not int or (size, claims.get("sha256")) != (offer.size, offer.sha256):
        raise UnusableError("its signature is for other bytes")


def _algorithm(key: object) -> str:
    """Give the one algorithm that a key of this kind signs by. Raises UnusableError."""
    if isinstance(key, Ed25519PublicKey):
        return "EdDSA"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return "ES256"
    if isinstance(key, RSAPublicKey) and key.key_size >= _LEAST_RSA_BITS:
        return "RS256"
    raise UnusableError("a key is neither Ed25519 nor P-256 nor RSA of 2048 bits and more")


def read_keys(text: str) -> dict[str, PublicKey]:
    """Read `id=base64`, or a file with `keys:` lines (NAME.pub, workspace.yaml): keys by id.

    The base64 is of the key's SubjectPublicKeyInfo (DER). Raises UnusableError, OSError.
    """
    if given := _GIVEN_KEY.match(text):
        key = _public_key(given[2])
        if thumbprint(key) != given[1]:
            raise UnusableError(f"the id of this key is {thumbprint(key)}, not {given[1]}")
        return {given[1]: key}
    try:
        lines = Path(text).read_text(encoding="utf-8")
    except ValueError as error:
        raise UnusableError(f"{text} is no text") from error
    try:
        found = [_public_key(line) for line in _KEY_LINE.findall(lines)]
    except UnusableError as error:
        raise UnusableError(f"{text} has a public key that cannot be used: {error}") from error
    if not found:
        raise UnusableError(
            f'{text} has no line such as - {{key: ann, public: "MCow…"}}; name the .pub file that '
            "`tidegate keygen NAME --for packages` wrote"
        )
    return {thumbprint(key): key for key in found}


def _public_key(encoded: str) -> PublicKey:
    try:
        found = load_der_public_key(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UnusableError("what is given is no public key in base64 (DER)") from error
    _algorithm(found)
    assert isinstance(found, PublicKey)
    return found


def thumbprint(key: PublicKey) -> str:
    """Give a key's id: SHA-256 over its required JWK members, in order, in base64url."""
    if isinstance(key, Ed25519PublicKey):
        members = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(key.public_bytes_raw())}
    elif isinstance(key, EllipticCurvePublicKey):
        point = key.public_numbers()
        x, y = (_base64url(number.to_bytes(32)) for number in (point.x, point.y))
        members = {"crv": "P-256", "kty": "EC", "x": x, "y": y}
    else:
        numbers = key.public_numbers()
        n, e = (
            _base64url(each.to_bytes((each.bit_length() + 7) // 8))
            for each in (numbers.n, numbers.e)
        )
        members = {"e": e, "kty": "RSA", "n": n}
    text = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return _base64url(hashlib.sha256(text.encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def read_identities(file: Path) -> list[str]:
    """Read the identities of a file that age-keygen or tidegate wrote.

    Raises UnusableError, OSError.
    """
    data = file.read_bytes()
    if data.startswith((b"age-encryption.org/", b"-----BEGIN AGE")):
        raise UnusableError(
            f"{file} is closed by a passphrase; open it before: age -d {file} > plain.txt"
        )
    try:
        lines = [line.strip() for line in data.decode().splitlines()]
    except ValueError as error:
        raise UnusableError(f"{file} is no text") from error
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise UnusableError(f"{file} has no line AGE-SECRET-KEY-1…")
    try:
        Trust(identities=found)
    except UnusableError as error:
        raise UnusableError(
            f"{file} is no file of identities (AGE-SECRET-KEY-1…): {error}"
        ) from error
    return found
