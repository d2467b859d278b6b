"""Keys that sign packages: made once, written in one way, and of three kinds alone."""

import base64
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from jwcrypto.jwk import JWK

from compiler.diagnostic import PlanError
from compiler.key_file import KeyFileError
from compiler.language.key_source import read_keys
from compiler.packaging.package_key import ALGORITHMS, generate, parse_key, public_half
from compiler.packaging.signing_key_file import create_signing_key, load_signing_key

DER, PKCS8 = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


def text(data: bytes) -> str:
    """Write bytes as a plan writes a key."""
    return base64.b64encode(data).decode()


def public_text(private: object) -> str:
    """Give the public half of any private key as a plan would write it."""
    return text(private.public_key().public_bytes(DER, SPKI))  # type: ignore[attr-defined]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("passphrase", [None, "sésame, open"])
def test_a_key_comes_back_from_its_files(
    tmp_path: Path, algorithm: str, passphrase: str | None
) -> None:
    """The .pem opens with its passphrase, 0600; the .pub is an entry of a plan's keys."""
    old = os.umask(0)
    try:
        path, made = create_signing_key(tmp_path / "keys", "ann-2026", passphrase, algorithm)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert ("ENCRYPTED" in path.read_text()) == (passphrase is not None)
    key = load_signing_key(path, passphrase)
    assert key.public == made
    assert (key.public.name, key.public.algorithm) == ("ann-2026", algorithm)
    public = path.with_suffix(".pub")
    assert public.read_text() == made.line + "\n"
    (tmp_path / "workspace.yaml").write_text(f"workspace: demo\nkeys:\n  {public.read_text()}")
    for source in (public, tmp_path, tmp_path / "workspace.yaml"):
        assert read_keys(source) == (made,)
    if passphrase is not None:
        with pytest.raises(KeyFileError, match="does not open with this passphrase"):
            load_signing_key(path, "wrong")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_id_is_the_thumbprint_of_rfc_7638(algorithm: str) -> None:
    """An independent JOSE library gives the key the same id."""
    key = generate(algorithm, "ann").public
    pem = key.verifying.public_bytes(serialization.Encoding.PEM, SPKI)
    assert JWK.from_pem(pem).thumbprint() == key.id
    assert parse_key(key.public, "ann") == key


def test_rsa_is_3072_bits_unless_said_and_never_weak(tmp_path: Path) -> None:
    """RSA has 3072 bits by default; below 2048 no key is made, read, or trusted."""
    assert generate("RS256", "ann").public.verifying.key_size == 3072
    for bits in (1024, 2047, 16384):
        with pytest.raises(KeyFileError, match="An RSA key has 2048 to 8192 bits"):
            create_signing_key(tmp_path, "ann", None, "RS256", bits)
    assert not list(tmp_path.iterdir())
    weak = rsa.generate_private_key(65537, 1024)
    with pytest.raises(ValueError, match="RSA key of 1024 bits; 2048 to 8192 are needed"):
        parse_key(public_text(weak))
    pem = weak.private_bytes(serialization.Encoding.PEM, PKCS8, PLAIN)
    (tmp_path / "ann.pem").write_bytes(pem)
    (tmp_path / "ann.pem").chmod(0o600)
    with pytest.raises(KeyFileError, match=r"ann\.pem: This is an RSA key of 1024 bits"):
        load_signing_key(tmp_path / "ann.pem", None)


ED = ed25519.Ed25519PrivateKey.generate()
ED_TEXT = public_text(ED)
BROKEN = {
    "nothing": ("", "no base64"),
    "no base64": ("MCow!", "no base64"),
    "blanks": (f"{ED_TEXT} ", "no base64"),
    "unused bits": (f"{ED_TEXT[:-2]}{chr(ord(ED_TEXT[-2]) + 1)}=", "no base64"),
    "cut": (ED_TEXT[:40], "no public key that can be read"),
    "more behind": (text(base64.b64decode(ED_TEXT) + b"x"), "no public key that can be read"),
    "not DER": (text(b"ann" * 20), "no public key that can be read"),
    "PEM": (f"-----BEGIN PUBLIC KEY-----\n{ED_TEXT}\n", "is a PEM text"),
    "raw": (text(ED.public_key().public_bytes_raw()), "looks like a publisher's key"),
    "private": (text(ED.private_bytes(DER, PKCS8, PLAIN)), "is a private key, and everybody"),
    "private, encrypted": (
        text(ED.private_bytes(DER, PKCS8, serialization.BestAvailableEncryption(b"x"))),
        "is a private key",
    ),
    "long": ("A" * 2049, "has 2,049 characters"),
    "X25519": (public_text(x25519.X25519PrivateKey.generate()), "does not sign packages"),
    "Ed448": (public_text(ed448.Ed448PrivateKey.generate()), "does not sign packages"),
    "P-384": (public_text(ec.generate_private_key(ec.SECP384R1())), "does not sign packages"),
    "secp256k1": (public_text(ec.generate_private_key(ec.SECP256K1())), "does not sign packages"),
    "DSA": (public_text(dsa.generate_private_key(1024)), "does not sign packages"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_key_is_refused(kind: str) -> None:
    """Whatever is not a key that signs packages, in its one spelling, is refused with a mend."""
    given, message = BROKEN[kind]
    with pytest.raises(ValueError, match=message) as refused:
        parse_key(given)
    assert str(refused.value).count(". ") >= 1


def test_other_private_keys_do_not_sign_packages(tmp_path: Path) -> None:
    """A PEM of another kind, none at all, and one that others can read are refused."""
    path = tmp_path / "ann.pem"
    other = ec.generate_private_key(ec.SECP384R1())
    for data, message in (
        (other.private_bytes(serialization.Encoding.PEM, PKCS8, PLAIN), "does not sign packages"),
        (b"ann", "no readable private key.*--for packages"),
    ):
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(KeyFileError, match=message):
            load_signing_key(path, None)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_signing_key(path, None)
    with pytest.raises(KeyFileError, match="There is no key at"):
        load_signing_key(tmp_path / "none.pem", None)


def test_no_key_is_overwritten_and_names_are_plain(tmp_path: Path) -> None:
    """A second key of one name is refused, and so is a name that a plan could not write."""
    create_signing_key(tmp_path, "ann", None, "EdDSA")
    with pytest.raises(KeyFileError, match=r"ann\.pem exists already"):
        create_signing_key(tmp_path, "ann", None, "EdDSA")
    for name in ("", "..", "a/b", "a b", "ann@home", "é", "a" * 65):
        with pytest.raises(KeyFileError, match="is no key name"):
            create_signing_key(tmp_path, name, None, "EdDSA")
    with pytest.raises(KeyFileError, match="'HS256' is not one of EdDSA, ES256, RS256"):
        create_signing_key(tmp_path, "ben", None, "HS256")


def test_sources_of_keys_say_what_is_wrong(tmp_path: Path) -> None:
    """A publisher's .pub, a missing file and a faulty workspace.yaml are told with their place."""
    publisher = tmp_path / "ann.pub"
    publisher.write_text(f"ann:{text(ED.public_key().public_bytes_raw())}\n")
    (tmp_path / "workspace.yaml").write_text("workspace: demo\nkeys: [{key: ann}]\n")
    for source, message in (
        (publisher, r"ann\.pub:1:1: error: .* Write a list of keys, as `tidegate keygen"),
        (tmp_path / "none.pub", "There is no such file. Name a plan"),
        (tmp_path, r'workspace\.yaml:2:8: error: An entry of keys needs the key "public"'),
    ):
        with pytest.raises(PlanError, match=message):
            read_keys(source)
    (tmp_path / "workspace.yaml").write_text("workspace: demo\n")
    assert read_keys(tmp_path) == ()


def test_the_private_key_is_not_shown() -> None:
    """Printing a key shows its public half alone."""
    key = generate("EdDSA", "ann")
    assert "PrivateKey" not in repr(key)
    assert public_half(key.private.public_key(), "ann") == key.public
