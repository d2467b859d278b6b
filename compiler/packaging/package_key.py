"""The keys that packages are signed with: of three kinds, each with the one algorithm it signs by.

    EdDSA   Ed25519: small and quick; what `tidegate keygen` makes
    ES256   ECDSA on P-256 with SHA-256
    RS256   RSA of 2048 bits and more (PKCS #1 v1.5) with SHA-256

A public key is written as the base64 of its SubjectPublicKeyInfo (DER), which names its kind; so
nobody has to be believed about the algorithm. Its id, by which a signature names it, is the
RFC 7638 thumbprint: SHA-256 in base64url. No I/O.
"""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass, field, replace

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import (
    generate_private_key as generate_rsa_key,
)

EDDSA, ES256, RS256 = "EdDSA", "ES256", "RS256"
ALGORITHMS = (EDDSA, ES256, RS256)

LEAST_RSA_BITS, USUAL_RSA_BITS, MOST_RSA_BITS = 2048, 3072, 8192
PUBLIC_CHARS = 2048
"""The longest base64 of a public key that is looked at; RSA of 8192 bits has 1,404 characters."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
NAME_RULE = "up to 64 letters, digits and ._-, the first a letter or digit"
KEY_ID = re.compile(r"[A-Za-z0-9_-]{43}\Z")

_COORDINATE_BYTES = 32  # of P-256
_RAW_BYTES = 32  # of Ed25519, as publishers' keys are written
_COPY = "Take the whole line from the .pub file that `tidegate keygen --for packages` made."

VerifyingKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey
PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey


@dataclass(frozen=True, slots=True)
class PackageKey:
    """A public key; `algorithm` follows from its kind, `id` and `public` from its bytes.

    `public` is the text that a plan writes. `verifying` is the same key, ready for use.
    """

    name: str
    algorithm: str
    id: str
    public: str
    verifying: VerifyingKey = field(compare=False, repr=False)

    @property
    def line(self) -> str:
        """The very line to put under `keys:` in workspace.yaml, without indentation."""
        return f'- {{key: {self.name}, public: "{self.public}"}}'

    def named(self, name: str) -> "PackageKey":
        """Give the same key by another name."""
        return replace(self, name=name)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key ready to sign, with its public half."""

    public: PackageKey
    private: PrivateKey = field(compare=False, repr=False)


def parse_key(text: str, name: str = "") -> PackageKey:
    """Read a public key as a plan writes it. Raises ValueError with a sentence."""
    if "-----BEGIN" in text:
        raise ValueError(
            "This is a PEM text. Write the base64 alone, on one line, without its BEGIN and END."
        )
    if len(text) > PUBLIC_CHARS:
        raise ValueError(
            f"This has {len(text):,} characters, and no public key has over {PUBLIC_CHARS:,}. "
            f"{_COPY}"
        )
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    # Python ignores the last character's unused bits: one key shall have one spelling.
    if not data or base64.b64encode(data).decode() != text:
        raise ValueError(f"This is no base64 of a public key. {_COPY}")
    if len(data) == _RAW_BYTES:
        raise ValueError(
            "This looks like a publisher's key, which signs epochs. Make one that signs packages: "
            "run `tidegate keygen NAME --for packages`."
        )
    return _from_der(data, name)


def _from_der(data: bytes, name: str) -> PackageKey:
    try:
        found = serialization.load_der_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if _is_private(data):
            raise ValueError(
                "This is a private key, and everybody who reads this file has it now. Throw it "
                "away, and make another with `tidegate keygen NAME --for packages`."
            ) from error
        raise ValueError(f"This holds no public key that can be read. {_COPY}") from error
    key = public_half(found, name)
    if base64.b64decode(key.public) != data:
        raise ValueError(f"This key is not written in the usual way (DER). {_COPY}")
    return key


def _is_private(data: bytes) -> bool:
    try:
        serialization.load_der_private_key(data, None)
    except TypeError:  # it is encrypted
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def public_half(found: object, name: str) -> PackageKey:
    """Make a key of a public key that was read or generated.

    Raises ValueError with a sentence for a kind that does not sign packages, and for weak RSA.
    """
    algorithm, members = _kind(found)
    assert isinstance(found, VerifyingKey)
    public = found.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return PackageKey(
        name, algorithm, _thumbprint(members), base64.b64encode(public).decode(), found
    )


def _kind(found: object) -> tuple[str, dict[str, str]]:
    """Give a key's algorithm and the JWK members of which RFC 7638 takes the digest."""
    if isinstance(found, Ed25519PublicKey):
        return EDDSA, {"crv": "Ed25519", "kty": "OKP", "x": base64url(found.public_bytes_raw())}
    if isinstance(found, EllipticCurvePublicKey) and isinstance(found.curve, SECP256R1):
        point = found.public_numbers()
        x, y = (number.to_bytes(_COORDINATE_BYTES) for number in (point.x, point.y))
        return ES256, {"crv": "P-256", "kty": "EC", "x": base64url(x), "y": base64url(y)}
    if isinstance(found, RSAPublicKey):
        if not LEAST_RSA_BITS <= found.key_size <= MOST_RSA_BITS:
            raise ValueError(
                f"This is an RSA key of {found.key_size} bits; {LEAST_RSA_BITS} to "
                f"{MOST_RSA_BITS} are needed. Make another key."
            )
        numbers = found.public_numbers()
        return RS256, {"e": _unsigned(numbers.e), "kty": "RSA", "n": _unsigned(numbers.n)}
    raise ValueError(
        "This key is of a kind that does not sign packages. Use Ed25519, P-256, or RSA of "
        f"{LEAST_RSA_BITS} bits and more: run `tidegate keygen NAME --for packages`."
    )


def _unsigned(number: int) -> str:
    return base64url(number.to_bytes((number.bit_length() + 7) // 8))


def _thumbprint(members: dict[str, str]) -> str:
    text = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return base64url(hashlib.sha256(text.encode()).digest())


def base64url(data: bytes) -> str:
    """Write bytes as JOSE does: base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def generate(algorithm: str, name: str, rsa_bits: int = USUAL_RSA_BITS) -> SigningKey:
    """Make a new key. Raises ValueError for an unknown algorithm, or too few or many RSA bits."""
    private: PrivateKey
    if algorithm == EDDSA:
        private = Ed25519PrivateKey.generate()
    elif algorithm == ES256:
        private = generate_private_key(SECP256R1())
    elif algorithm == RS256:
        if not LEAST_RSA_BITS <= rsa_bits <= MOST_RSA_BITS:
            raise ValueError(
                f"An RSA key has {LEAST_RSA_BITS} to {MOST_RSA_BITS} bits, not {rsa_bits}."
            )
        private = generate_rsa_key(65537, rsa_bits)
    else:
        raise ValueError(f"{algorithm!r} is not one of {', '.join(ALGORITHMS)}.")
    return SigningKey(public_half(private.public_key(), name), private)


def signing_key(found: object, name: str) -> SigningKey:
    """Make a key of a private key that was read.

    Raises ValueError with a sentence for a kind that does not sign packages, and for weak RSA.
    """
    if not isinstance(found, PrivateKey):
        # Whatever its kind is, the sentence about kinds is the right one.
        _kind(found)
    assert isinstance(found, PrivateKey)
    return SigningKey(public_half(found.public_key(), name), found)
