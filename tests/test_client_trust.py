"""Signatures that a client takes and refuses, and the keys and identities that it is given."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.api_jws import PyJWS

from compiler.packaging import package_signature
from compiler.packaging.claims import Claims
from compiler.packaging.package_key import generate
from gateway.version import parse_version
from loadtest.client.answer import Download, Offer
from loadtest.client.fault import UnusableError
from loadtest.client.trust import Trust, read_identities, read_keys, thumbprint
from loadtest.client.version import is_lower, same_version
from stub_gateway import APP, sha256, signed

DATA = b"a package"
ANN, BOB = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
TRUST = Trust({thumbprint(ANN.public_key()): ANN.public_key()})
VERSION = "1.2"


def offered(*signatures: str) -> Offer:
    download = Download(("http://a/",), len(DATA), sha256(DATA), "identity")
    return Offer(VERSION, "stable", len(DATA), sha256(DATA), (download,), signatures)


def token(key: Any, algorithm: str, header: dict[str, Any], payload: Any = None) -> str:
    claims = {"app": APP, "version": VERSION, "size": len(DATA), "sha256": sha256(DATA)}
    text = json.dumps(claims if payload is None else payload).encode()
    return PyJWS().encode(text, key, algorithm, headers=header)


HEADER = {"kid": thumbprint(ANN.public_key()), "typ": "tidegate-package+jws"}
GOOD = signed(ANN, VERSION, DATA)
BY_BOB = signed(BOB, VERSION, DATA)


def encode(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def by_shared_secret() -> str:
    """Sign with the public key as if it were a shared secret, as in CVE-2015-9235."""
    head = encode({**HEADER, "alg": "HS256"})
    body = GOOD.split(".")[1]
    secret = ANN.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    mac = hmac.digest(secret, f"{head}.{body}".encode(), hashlib.sha256)
    return f"{head}.{body}." + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def test_a_good_signature_is_taken() -> None:
    """What a trusted key signed is installed, also behind signatures by keys nobody knows."""
    TRUST.check(APP, offered(GOOD))
    TRUST.check(APP, offered("", "no token", BY_BOB, GOOD))
    Trust().check(APP, offered())


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
@pytest.mark.parametrize("version", ["1.2", "1.2.0.0", "01.2+b7"])
def test_what_tidegate_signs_is_taken(algorithm: str, version: str) -> None:
    """Signatures of every kind that `tidegate sign` makes hold, under the same id of the key."""
    key = generate(algorithm, "ann", 2048)
    claims = Claims(APP, version, len(DATA), sha256(DATA), 1, {"android": ">=10"})
    found = read_keys(f"{key.public.id}={key.public.public}")
    Trust(found).check(APP, offered(package_signature.sign(claims, key).text))


SIGNATURES = {
    "nothing": "",
    "unknown key": BY_BOB,
    "another app": signed(ANN, VERSION, DATA, app="2021000000000009"),
    "another version": signed(ANN, "1.3", DATA),
    "no version": signed(ANN, VERSION, DATA, version=None),
    "another size": signed(ANN, VERSION, DATA, size=len(DATA) + 1),
    "a size that is true": signed(ANN, VERSION, DATA, size=True),
    "other bytes": signed(ANN, VERSION, b"A package"),
    "another purpose": token(ANN, "EdDSA", {**HEADER, "typ": "JWT"}),
    "no object": token(ANN, "EdDSA", HEADER, [1]),
    "alg none": f"{encode({**HEADER, 'alg': 'none'})}.{GOOD.split('.')[1]}.",
    "a shared secret": by_shared_secret(),
    "an unknown key by a known name": token(BOB, "EdDSA", HEADER),
    "a changed payload": f"{GOOD.split('.')[0]}.{encode({'app': APP})}.{GOOD.split('.')[2]}",
    "a cut": GOOD[:-9],
    "unknown extensions": token(ANN, "EdDSA", {**HEADER, "crit": ["x"], "x": 1}),
    "a nested bomb": f"{base64.urlsafe_b64encode(b'[' * 9000).decode()}.e30.AA",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_any_other_signature_is_refused(name: str) -> None:
    """Unsigned, by strangers, of other things, by other means: nothing of it is installed."""
    with pytest.raises(UnusableError):
        TRUST.check(APP, offered(SIGNATURES[name]))
    with pytest.raises(UnusableError):
        TRUST.check(APP, offered())


def test_the_first_trusted_signature_decides() -> None:
    """One that names a trusted key and does not hold is not made good by the next."""
    with pytest.raises(UnusableError, match="does not hold"):
        TRUST.check(APP, offered(token(BOB, "EdDSA", HEADER), GOOD))


def test_the_algorithm_is_that_of_the_key() -> None:
    """A signature by another algorithm under a trusted id is refused before it is computed."""
    strange = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(UnusableError, match="EdDSA"):
        TRUST.check(APP, offered(token(strange, "ES256", HEADER)))


def test_keys_of_other_kinds_are_refused() -> None:
    """A key that signs no packages is refused when it is given, not when it is needed."""
    for key in (
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        rsa.generate_private_key(65537, 1024).public_key(),
        "MCow",
    ):
        with pytest.raises(UnusableError, match="neither"):
            Trust({"id": key})  # type: ignore[dict-item]


def test_keys_are_read_where_tidegate_writes_them(tmp_path: Path) -> None:
    """A .pub file and a plan's keys: give the same keys by their ids."""
    ann, bob = generate("EdDSA", "ann").public, generate("ES256", "bob").public
    (tmp_path / "ann.pub").write_text(ann.line + "\n")
    plan = f"workspace: demo\nkeys:\n  {ann.line}\n  - key: bob\n    public: {bob.public}\n"
    (tmp_path / "workspace.yaml").write_text(plan)
    (tmp_path / "a=b.pub").write_text(bob.line)
    assert set(read_keys(str(tmp_path / "a=b.pub"))) == {bob.id}
    assert set(read_keys(str(tmp_path / "ann.pub"))) == {ann.id}
    assert set(read_keys(str(tmp_path / "workspace.yaml"))) == {ann.id, bob.id}


@pytest.mark.parametrize("text", ["x=MCow", "x=", f"x={'A' * 40}"])
def test_a_key_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    """What is no key, has another id, or is a file without one, is refused with a sentence."""
    with pytest.raises(UnusableError):
        read_keys(text)
    public = generate("EdDSA", "ann").public
    with pytest.raises(UnusableError, match=public.id):
        read_keys(f"ann={public.public}")
    for content in (b"nothing", b"\xff\xfe", b"- {key: ann, public: MCow}"):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(UnusableError):
            read_keys(str(tmp_path / "file"))


def test_identities_are_read_as_age_writes_them(tmp_path: Path) -> None:
    """Comments are passed over; a file with a passphrase, or with none, says what to do."""
    import pyrage

    identity = str(pyrage.x25519.Identity.generate())
    file = tmp_path / "phones.txt"
    file.write_text(f"# created: 2026-11-22\n# public key: age1\n{identity}\n")
    assert read_identities(file) == [identity]
    assert identity not in repr(Trust(identities=[identity]))
    for content in (b"", b"# none\n", b"AGE-SECRET-KEY-1X\n", b"age-encryption.org/v1\n", b"\xff"):
        file.write_bytes(content)
        with pytest.raises(UnusableError):
            read_identities(file)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1.0", "1.0.0.0", True),
        ("01.2+b7", "1.2", True),
        ("1.2-rc.1", "1.2.0-rc.1", True),
        ("1.2-rc.1", "1.2", False),
        ("1.20", "1.2", False),
        ("0", "0.0", True),
        ("x", "x", True),
        ("x", "y", False),
        ("", "0", False),
        ("1" * 300, "1" * 300, True),
    ],
)
def test_versions_are_the_same_as_the_gateway_sees_them(one: str, other: str, same: bool) -> None:
    """Two texts are one version here where they are for a gateway."""
    assert same_version(one, other) is same


VERSIONS = ["0", "1", "1.0.0", "1.2", "1.10", "1-rc.1", "1-rc.2", "1-rc.10", "1-rc", "1-2", "1-a.b"]
VERSIONS += ["1.0.0.0.0.0.0.1", "1" * 18, "01.2+b7", "1.2-01", "1.2-1", "1--", "x", "", "1" * 19]
VERSIONS += ["1.", "1-", "1.2-a..b", "9" * 300, "1\n", "1.2.3.4.5.6.7.8.9"]


@pytest.mark.parametrize("one", VERSIONS)
def test_versions_are_ordered_as_the_gateway_orders_them(one: str) -> None:
    """What is lower for a gateway is lower here; what is no version is below all that are one."""
    key = parse_version(one)
    for other in VERSIONS:
        above = parse_version(other)
        lower = above is not None and (key is None or key < above)
        assert is_lower(one, other) is lower, other
        assert same_version(one, other) is (one == other if key is None else key == above), other
