"""Client identity: who a token says its bearer is, where a workspace has identity keys. Pure.

A token is a JWT (RFC 7519) in `Authorization: Bearer`. It counts if a key of the workspace has
signed it, by the one algorithm that the key is for; if issuer and audience are those that the
workspace names, where it names them; and from `nbf` to `exp`, which it must have. Its `kid` chooses
the key: the one of that `kid`, or without one the key that has none. `sub` is the user, and a claim
that the workspace names is the device.

Whatever else comes is no error: it is nobody, with a word that says why. A phone once shipped stays
shipped, and must get what is for everybody also on the day when its token has run out.

A verification takes some 100 µs, ten times what the check takes. So tokens whose signature holds
are remembered, by digest, and judged by the clock each time.
"""

import re
from base64 import urlsafe_b64decode
from collections import OrderedDict
from hashlib import sha256
from typing import Any, NamedTuple

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from gateway import layout
from gateway.errors import FormatError
from gateway.request import MAX_ID_BYTES

EDDSA, ES256, RS256 = "EdDSA", "ES256", "RS256"
LEAST_RSA_BITS, MOST_RSA_BITS = 2048, 8192

TOKEN_BYTES = 4_096
"""The longest token that is looked at; the quick path takes heads of that size with all fields."""

LEEWAY_SECONDS = 30
"""By how much the clocks of an identity provider and of a gateway may differ."""

REMEMBERED_TOKENS = 50_000
"""Some 20 MB a worker. The one remembered longest makes room."""

VERIFIED, REMEMBERED, MISSING = "verified", "remembered", "missing"
MALFORMED, UNKNOWN_KEY, ALGORITHM, SIGNATURE = "malformed", "unknown_key", "algorithm", "signature"
ISSUER, AUDIENCE, EXPIRED, EARLY = "issuer", "audience", "expired", "early"
OUTCOMES = (
    *(VERIFIED, REMEMBERED, MISSING, MALFORMED, UNKNOWN_KEY, ALGORITHM, SIGNATURE),
    *(ISSUER, AUDIENCE, EXPIRED, EARLY),
)
"""What may become of a request's token; the first two count."""

_SCHEME = b"bearer "
_TOKEN = re.compile(rb"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey


class Refused(Exception):  # noqa: N818 - it never leaves this module
    """A token does not count; `str()` is one of OUTCOMES."""


class Claims(NamedTuple):
    """What a token whose signature holds says; it counts from `begins` to before `ends`."""

    user: str | None
    device: str | None
    begins: float
    ends: float


class Key(NamedTuple):
    """A public key ready for use, and the one algorithm that it verifies."""

    algorithm: str
    public: PublicKey


def read_key(public: bytes) -> Key:
    """Read a SubjectPublicKeyInfo (DER). Raises ValueError with a sentence."""
    try:
        found = load_der_public_key(public)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("This is no public key that can be read.") from None
    if isinstance(found, Ed25519PublicKey):
        return Key(EDDSA, found)
    if isinstance(found, EllipticCurvePublicKey) and isinstance(found.curve, SECP256R1):
        return Key(ES256, found)
    if isinstance(found, RSAPublicKey) and LEAST_RSA_BITS <= found.key_size <= MOST_RSA_BITS:
        return Key(RS256, found)
    raise ValueError(
        f"This key is none of Ed25519, P-256, and RSA of {LEAST_RSA_BITS} to {MOST_RSA_BITS} bits."
    )


class Identity:
    """One workspace's identity provider, and the tokens of it that were seen before."""

    def __init__(self, told: layout.Identity) -> None:
        """Read the keys. Raises FormatError for one that is none."""
        self._told = told
        # Not by who only compiles a plan: an emergency command would take a tenth longer for it.
        import jwt  # noqa: PLC0415

        self._jwt = jwt
        self._jws = jwt.PyJWS()
        self._keys: dict[str | None, Key] = {}
        try:
            for kid, public in told["keys"].items():
                self._keys[kid or None] = read_key(public)
        except ValueError as fault:
            raise FormatError(f"a key of the identity provider cannot be used: {fault}") from None
        self._known: OrderedDict[bytes, Claims] = OrderedDict()

    def is_told(self, told: layout.Identity) -> bool:
        """Tell whether this is what an epoch's settings say, too."""
        return self._told == told

    def who(self, authorization: bytes | None, second: int) -> tuple[str | None, str | None, str]:
        """Give user and device, and one of OUTCOMES, of an Authorization field's value.

        `second` is Unix time. The ids are None where the token has none, or does not count.
        """
        if authorization is None or authorization[:7].lower() != _SCHEME:
            return None, None, MISSING
        token = authorization[7:].strip(b" \t")
        if len(token) > TOKEN_BYTES:
            return None, None, MALFORMED
        digest = sha256(token).digest()
        claims, outcome = self._known.get(digest), REMEMBERED
        if claims is None:
            try:
                claims, outcome = self._verify(token), VERIFIED
            except Refused as fault:
                return None, None, str(fault)
            if len(self._known) >= REMEMBERED_TOKENS:
                self._known.popitem(last=False)
            self._known[digest] = claims
        if second >= claims.ends:
            return None, None, EXPIRED
        if second < claims.begins:
            return None, None, EARLY
        return claims.user, claims.device, outcome

    def _verify(self, token: bytes) -> Claims:
        """Hold a token to everything but the clock. Raises Refused."""
        if _TOKEN.fullmatch(token) is None:
            raise Refused(MALFORMED)
        # Read without trust, to choose the key; most of what is refused is refused here, cheaply.
        head = _object(_decoded(token.partition(b".")[0]))
        kid = head.get("kid")
        key = self._keys.get(kid) if kid is None or type(kid) is str else None
        if key is None:
            raise Refused(UNKNOWN_KEY)
        if head.get("alg") != key.algorithm:  # the key says which, never the token
            raise Refused(ALGORITHM)
        if "crit" in head:  # what it names must be understood, and nothing is
            raise Refused(MALFORMED)
        try:
            signed = self._jws.decode_complete(token, key.public, algorithms=[key.algorithm])
        except self._jwt.InvalidSignatureError:
            raise Refused(SIGNATURE) from None
        except self._jwt.PyJWTError:
            raise Refused(MALFORMED) from None
        return self._claims(_object(signed["payload"]))

    def _claims(self, said: dict[str, Any]) -> Claims:
        issuer, audience = self._told["issuer"], self._told["audience"]
        if issuer is not None and said.get("iss") != issuer:
            raise Refused(ISSUER)
        if audience and not _named(said.get("aud"), audience):
            raise Refused(AUDIENCE)
        return Claims(
            _id(said.get("sub")),
            _id(said.get(self._told["device"])),
            _moment(said.get("nbf", 0)) - LEEWAY_SECONDS,
            _moment(said.get("exp")) + LEEWAY_SECONDS,
        )


def _decoded(part: bytes) -> bytes:
    try:
        return urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError:
        raise Refused(MALFORMED) from None


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if type(found) is not dict:
        raise Refused(MALFORMED)
    return found


def _moment(sent: Any) -> float:
    if type(sent) is not int and type(sent) is not float:
        raise Refused(MALFORMED)
    return sent


def _named(sent: Any, audience: list[str]) -> bool:
    """Tell whether a token's audience, a text or several, has one of the workspace's."""
    names = sent if type(sent) is list else [sent]
    return any(type(name) is str and name in audience for name in names)


def _id(sent: Any) -> str | None:
    """Take a claim for an id if it may be one, as read_id does; too long a one is none."""
    if type(sent) is not str or not sent or len(sent.encode()) > MAX_ID_BYTES:
        return None
    return sent
