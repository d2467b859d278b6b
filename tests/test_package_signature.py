"""Signatures of packages: one meaning, and nothing else has a way in."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from compiler.packaging.claims import Claims, PackageFacts, SignatureError, difference
from compiler.packaging.package_key import ALGORITHMS, SigningKey, base64url, generate
from compiler.packaging.package_signature import MOST_CHARS, TYPE, read_signature, sign, verify
from compiler.packaging.trust import judge, trust_fault

KEYS = {name: generate(name, f"{name}-key", 2048) for name in ALGORITHMS}
ED = KEYS["EdDSA"]
DATA = b"a package's bytes" * 10
FACTS = PackageFacts("2021000000000001", "1.0.0.2", len(DATA), hashlib.sha256(DATA).hexdigest())
CLIENTS = {"android": ">=10.2.0", "iOS": ">=10.1.0 <11"}
CLAIMS = Claims(FACTS.app, FACTS.version, FACTS.size, FACTS.sha256, 1_790_000_000, CLIENTS)


def jwk(key: SigningKey) -> JWK:
    """Give a key to the other library."""
    return JWK.from_pem(
        key.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def fault_of(text: str, *keys: SigningKey, facts: PackageFacts = FACTS) -> str | None:
    """Say why a package with this one signature is not trusted."""
    trusted = [key.public for key in keys or (ED,)]
    return trust_fault(judge([text], facts, trusted), needs_key=True)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_a_key_signs_it_verifies(algorithm: str) -> None:
    """A signature is read back with its claims, and holds under its own key alone."""
    key = KEYS[algorithm]
    signature = sign(CLAIMS, key)
    read = read_signature(signature.text)
    assert (read.claims, read.key_id, read.algorithm) == (CLAIMS, key.public.id, algorithm)
    verify(read, key.public)
    assert fault_of(signature.text, key) is None
    for other in (generate(algorithm, "other", 2048), *KEYS.values()):
        if other.public != key.public:
            fault = fault_of(signature.text, other)
            assert fault is not None and fault.startswith("no trusted key has signed it")
            with pytest.raises(SignatureError, match="it is by the key"):
                verify(read, other.public)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_independent_library_agrees(algorithm: str) -> None:
    """The other JOSE library verifies our signatures, and we verify its."""
    key = KEYS[algorithm]
    token = JWS()
    token.deserialize(sign(CLAIMS, key).text)
    token.verify(jwk(key), alg=algorithm)
    assert json.loads(token.payload)["sha256"] == FACTS.sha256
    assert token.jose_header == {"alg": algorithm, "kid": key.public.id, "typ": TYPE}
    theirs = JWS(CLAIMS.to_json())
    theirs.add_signature(
        jwk(key), alg=algorithm, protected={"alg": algorithm, "kid": key.public.id, "typ": TYPE}
    )
    assert fault_of(theirs.serialize(compact=True), key) is None


FLIPPED = {name: sign(CLAIMS, key).text for name, key in KEYS.items()}


@settings(deadline=None)
@given(st.sampled_from(ALGORITHMS), st.data())
def test_any_other_text_is_refused(algorithm: str, data: st.DataObject) -> None:
    """A signature of which any character of any part is another is not trusted."""
    text = FLIPPED[algorithm]
    at = data.draw(st.integers(0, len(text) - 1))
    char = data.draw(st.characters(codec="ascii").filter(lambda char: char != text[at]))
    assert fault_of(text[:at] + char + text[at + 1 :], KEYS[algorithm]) is not None


@settings(deadline=None)
@given(st.sampled_from(ALGORITHMS), st.integers(0, 2), st.data())
def test_any_flipped_bit_is_refused(algorithm: str, part: int, data: st.DataObject) -> None:
    """A flipped bit of header, payload or signature, decoded, is refused as well."""
    parts = FLIPPED[algorithm].split(".")
    raw = bytearray(base64.urlsafe_b64decode(parts[part] + "=" * (-len(parts[part]) % 4)))
    at = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[at // 8] ^= 1 << at % 8
    parts[part] = base64url(bytes(raw))
    assert fault_of(".".join(parts), KEYS[algorithm]) is not None


@settings(deadline=None)
@given(st.integers(0, len(DATA) * 8 - 1))
def test_any_flipped_bit_of_the_file_is_refused(at: int) -> None:
    """A signature is over the bytes: with one bit another, it is for another file."""
    changed = bytearray(DATA)
    changed[at // 8] ^= 1 << at % 8
    facts = replace(FACTS, sha256=hashlib.sha256(changed).hexdigest())
    fault = fault_of(FLIPPED["EdDSA"], facts=facts)
    assert fault is not None and "it is for other bytes" in fault


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"app": "tea"}, "for app 2021000000000001, not tea"),
        ({"version": "1.0.0.3"}, r"for version 1\.0\.0\.2, not 1\.0\.0\.3"),
        ({"size": 9}, "for a file of 170 bytes, and this one has 9"),
        ({"sha256": "ab" * 32}, "for other bytes"),
    ],
)
def test_any_changed_claim_is_refused(changed: dict[str, Any], message: str) -> None:
    """A signature does not hold for another app, version, size or digest."""
    fault = fault_of(FLIPPED["EdDSA"], facts=replace(FACTS, **changed))
    assert fault is not None
    with pytest.raises(SignatureError, match=message):
        raise SignatureError(fault)


def test_equal_versions_are_one_version() -> None:
    """1.0.0.2 is signed when 01.0.0.2 is asked for, as everywhere else."""
    assert difference(CLAIMS, replace(FACTS, version="01.0.0.2+build")) is None


def forged(
    header: dict[str, Any] | bytes | None = None,
    payload: dict[str, Any] | bytes | None = None,
    key: SigningKey = ED,
    **more: Any,
) -> str:
    """Sign whatever is wished with a key that is trusted; members that are None are left out."""
    usual = {"alg": key.public.algorithm, "kid": key.public.id, "typ": TYPE}
    if not isinstance(header, bytes):
        header = {**usual, **(header or {}), **more}
        header = json.dumps({k: v for k, v in header.items() if v is not None}).encode()
    if not isinstance(payload, bytes):
        claims = {**json.loads(CLAIMS.to_json()), **(payload or {})}
        payload = json.dumps({k: v for k, v in claims.items() if v is not None}).encode()
    message = f"{base64url(header)}.{base64url(payload)}"
    assert key is ED
    return f"{message}.{base64url(ED.private.sign(message.encode()))}"  # type: ignore[union-attr, call-arg]


def with_secret(secret: bytes) -> str:
    """Make an HS256 token of a public key, the classic confusion."""
    header = json.dumps({"alg": "HS256", "kid": ED.public.id, "typ": TYPE}).encode()
    message = f"{base64url(header)}.{base64url(CLAIMS.to_json())}"
    return f"{message}.{base64url(hmac.digest(secret, message.encode(), 'sha256'))}"


def twice(member: str) -> bytes:
    """Write the header with one member twice, the second one wrong."""
    good = {"alg": "EdDSA", "kid": ED.public.id, "typ": TYPE}
    return json.dumps(good)[:-1].encode() + f', "{member}": "x"}}'.encode()


def weak() -> str:
    """Sign with RSA of 1024 bits and put the trusted key's id on it."""
    private = rsa.generate_private_key(65537, 1024)
    token = JWS(CLAIMS.to_json())
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    protected = {"alg": "RS256", "kid": KEYS["RS256"].public.id, "typ": TYPE}
    token.add_signature(JWK.from_pem(pem), alg="RS256", protected=protected)
    return str(token.serialize(compact=True))


PEM = ED.public.verifying.public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
OWN = json.loads(JWK.from_pem(PEM).export_public())
HOSTILE: dict[str, tuple[Callable[[], str], str]] = {
    "alg none": (lambda: forged(alg="none").rpartition(".")[0] + ".", "not signed at all"),
    "alg nOnE": (lambda: forged(alg="nOnE"), "not signed at all"),
    "alg absent": (lambda: forged(alg=None), "its alg is null"),
    "alg a list": (lambda: forged(alg=["EdDSA"]), r'its alg is \["EdDSA"\]'),
    "alg PS256": (lambda: forged(alg="PS256"), "not one of EdDSA, ES256, RS256"),
    "alg of another key": (lambda: forged(alg="ES256"), "a key for EdDSA"),
    "HS256, PEM as secret": (lambda: with_secret(PEM), "shared secret"),
    "HS256, base64 as secret": (lambda: with_secret(ED.public.public.encode()), "shared secret"),
    "RSA 1024": (weak, "does not verify with RS256-key"),
    "crit": (lambda: forged(crit=["exp"]), "demands extensions"),
    "crit b64": (lambda: forged(crit=["b64"], b64=False), "demands extensions"),
    "b64 false": (lambda: forged(b64=False), "its header has b64"),
    "b64 true": (lambda: forged(b64=True), "its header has b64"),
    "embedded jwk": (lambda: forged(jwk=OWN), r"brings its own key \(jwk\)"),
    "embedded jku": (lambda: forged(jku="https://evil.example"), r"its own key \(jku\)"),
    "embedded x5c": (lambda: forged(x5c=["AAAA"]), r"its own key \(x5c\)"),
    "unknown header": (lambda: forged(zip="DEF"), 'the member "zip"'),
    "wrong typ": (lambda: forged(typ="JWT"), 'its typ is "JWT"'),
    "no typ": (lambda: forged(typ=None), "its typ is null"),
    "no kid": (lambda: forged(kid=None), "its kid is null"),
    "kid a number": (lambda: forged(kid=7), "its kid is 7"),
    "kid a path": (lambda: forged(kid="../../etc/passwd"), "its kid is"),
    "two kids": (lambda: forged(twice("kid")), 'the member "kid" is given twice'),
    "two algs": (lambda: forged(twice("alg")), 'the member "alg" is given twice'),
    "header no JSON": (lambda: forged(b"{"), "its header is no JSON"),
    "header a list": (lambda: forged(b"[]"), "its header is no JSON object"),
    "header not UTF-8": (lambda: forged(b'{"alg": "\xff"}'), "its header is no JSON"),
    "header deep": (lambda: forged(b"[" * 2000), "its header is no JSON"),
    "payload empty": (lambda: forged(payload=b""), "its payload is no JSON"),
    "payload no JSON": (lambda: forged(payload=b"NaN"), "NaN is no whole number"),
    "two versions": (
        lambda: forged(payload=CLAIMS.to_json()[:-1] + b',"version":"9"}'),
        'the member "version" is given twice',
    ),
    "unknown claim": (lambda: forged(payload={"exp": 1}), 'its payload has the member "exp"'),
    "no sha256": (lambda: forged(payload={"sha256": None}), "its payload lacks sha256"),
    "sha256 in capitals": (lambda: forged(payload={"sha256": "AB" * 32}), "is not 64 of 0-9 a-f"),
    "size a text": (lambda: forged(payload={"size": "170"}), 'its size, "170", is no whole'),
    "size a fraction": (lambda: forged(payload={"size": 170.0}), "170.0 is no whole number"),
    "size true": (lambda: forged(payload={"size": True}), "its size, true, is no whole"),
    "size below 0": (lambda: forged(payload={"size": -1}), "its size, -1, is no whole"),
    "created huge": (lambda: forged(payload={"created": 2**60}), "its created"),
    "created of 5,000 digits": (
        lambda: forged(payload=CLAIMS.to_json().replace(b"1790000000", b"1" * 5000)),
        "its payload is no JSON",
    ),
    "app a path": (lambda: forged(payload={"app": "../x"}), "is no app id"),
    "version none": (lambda: forged(payload={"version": "latest"}), "is no version"),
    "clients a list": (lambda: forged(payload={"clients": []}), "no ranges by platform"),
    "clients empty": (lambda: forged(payload={"clients": {}}), "name 0 platforms"),
    "clients no range": (lambda: forged(payload={"clients": {"ios": "any"}}), "which is none"),
    "clients a number": (lambda: forged(payload={"clients": {"ios": 1}}), "which is none"),
    "clients twice": (
        lambda: forged(payload={"clients": {"ios": ">=1", "iOS": ">=2"}}),
        'the platform "iOS" wrongly',
    ),
    "one part": (lambda: "a", "it has 1 parts"),
    "five parts": (lambda: "a.b.c.d.e", "it has 5 parts"),
    "padding": (lambda: FLIPPED["EdDSA"] + "=", "not written in base64url"),
    "blanks": (lambda: FLIPPED["EdDSA"].replace(".", ". "), "not written in base64url"),
    "no signature": (lambda: FLIPPED["EdDSA"].rpartition(".")[0] + ".", "ends without"),
    "half a signature": (lambda: FLIPPED["EdDSA"][:-42], "does not verify"),
    "1 MB": (lambda: FLIPPED["EdDSA"] + "A" * 2**20, "it has 1,049,0"),
    "not ASCII": (lambda: "é.é.é", "not written in base64url"),
    "another's signature": (
        lambda: f"{forged().rpartition('.')[0]}.{FLIPPED['EdDSA'].rpartition('.')[2]}",
        "does not verify with EdDSA-key",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_token_is_refused(kind: str) -> None:
    """Each kind gets its own sentence, though a trusted key signed most of them."""
    make, message = HOSTILE[kind]
    fault = fault_of(make(), *KEYS.values())
    assert fault is not None
    assert len(fault) < 400
    with pytest.raises(SignatureError, match=message):
        raise SignatureError(fault)


def test_the_forgery_itself_would_hold() -> None:
    """What makes the hostile tokens makes good ones too, when nothing is changed."""
    assert fault_of(forged()) is None
    assert len(forged(payload={"clients": {f"p{n}": ">=1" for n in range(64)}})) < MOST_CHARS


@settings(deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60).map(base64url))
def test_any_text_is_refused_with_a_sentence(text: str) -> None:
    """No text makes the reader fail in another way."""
    for token in (text, f"{text}.{text}.{text}", forged(text.encode("utf-8", "replace"))):
        with pytest.raises(SignatureError):
            read_signature(token)


def test_keys_rotate() -> None:
    """Old and new key on one package: trust in either is enough, in neither is not."""
    old, new = generate("EdDSA", "old"), generate("ES256", "new")
    texts = [sign(CLAIMS, key).text for key in (old, new)]

    def fault(*trusted: SigningKey) -> str | None:
        keys = [key.public for key in trusted]
        return trust_fault(judge(texts, FACTS, keys), needs_key=True)

    assert fault(old) is fault(new) is fault(old, new) is None
    assert "no trusted key" in (fault(ED) or "")


def test_one_wrong_signature_spoils_all() -> None:
    """A bad one among good ones is refused: a phone may look at that one first."""
    new = generate("EdDSA", "new")
    good = sign(CLAIMS, ED).text
    bad = sign(CLAIMS, new).text[:-4] + "AAAA"
    other = sign(replace(CLAIMS, clients=None), new).text
    for text, message in ((bad, "signature 2, by new, cannot be used"), (other, "host apps")):
        keys = [ED.public, new.public]
        fault = trust_fault(judge([good, text], FACTS, keys), needs_key=True)
        assert fault is not None and message in fault
