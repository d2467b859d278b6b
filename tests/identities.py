"""An identity provider: keys of each kind, and tokens, signed by another library than ours."""

import base64
import json
from functools import cache
from typing import Any

from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from compiler.language.faults import Faults
from compiler.language.identity import IDENTITY
from compiler.language.tree import parse
from gateway import layout

ISSUER, AUDIENCE = "https://id.example.com", "phones"
EXPIRES = 4_000_000_000
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "ed": ("EdDSA", {"kty": "OKP", "crv": "Ed25519"}),
    "ec": ("ES256", {"kty": "EC", "crv": "P-256"}),
    "rsa": ("RS256", {"kty": "RSA", "size": 2048}),
}


@cache
def key(kid: str) -> JWK:
    """Make the provider's key of a kid in KINDS, or a stranger's of the kind before a hyphen."""
    return JWK.generate(**KINDS[kid.partition("-")[0]][1])


def public(kid: str) -> dict[str, Any]:
    """Give a key as a provider publishes it."""
    found: dict[str, Any] = key(kid).export_public(as_dict=True)
    return found | {"kid": kid, "use": "sig", "alg": KINDS[kid][0]}


def plan_text(*kids: str, **more: Any) -> str:
    """Write the value of a plan's `identity:`, with all keys if none is named."""
    keys = [public(kid) for kid in kids or KINDS]
    told = {"issuer": ISSUER, "audience": [AUDIENCE]} | more
    return json.dumps({"keys": keys} | told)


def settings(*kids: str, **more: Any) -> layout.Identity:
    """Give what an epoch's settings say of this provider."""
    faults = Faults()
    node = parse("identity", plan_text(*kids, **more), faults)
    assert node is not None
    found = IDENTITY.read(node, faults)
    assert found is not None and not faults.found
    return {
        "keys": {each.kid or "": each.public for each in found.keys},
        "issuer": found.issuer,
        "audience": list(found.audience),
        "device": found.device,
    }


def claims(**more: Any) -> dict[str, Any]:
    """Give the claims of a sound token; one that is given as `...` is left out."""
    told = {"iss": ISSUER, "aud": AUDIENCE, "exp": EXPIRES, "sub": "u-1", "device": "d-1"} | more
    return {name: value for name, value in told.items() if value is not ...}


def token(kid: str = "ed", signed_by: str | None = None, head: Any = None, **more: Any) -> bytes:
    """Sign a token of `claims` by the key that it names, or by another one."""
    return sign(json.dumps(claims(**more)), kid, signed_by, head)


def sign(payload: str, kid: str = "ed", signed_by: str | None = None, head: Any = None) -> bytes:
    """Sign any payload."""
    by = signed_by or kid
    jws = JWS(payload)
    jws.allowed_algs = ["EdDSA", "ES256", "RS256", "HS256"]
    told = {"alg": KINDS[by.partition("-")[0]][0], "kid": kid} | (head or {})
    told = {name: value for name, value in told.items() if value is not ...}
    jws.add_signature(key(by), None, json.dumps(told))
    found: str = jws.serialize(compact=True)
    return found.encode()


def pieces(*parts: Any) -> bytes:
    """Put a token together by hand: objects as JSON, bytes as they are."""
    texts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in parts]
    return b".".join(base64.urlsafe_b64encode(text).rstrip(b"=") for text in texts)


def bearer(*parts: Any, **more: Any) -> bytes:
    """Give the Authorization of a sound token."""
    return b"Bearer " + token(*parts, **more)
