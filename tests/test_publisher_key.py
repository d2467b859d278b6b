"""A publisher's key: made once, read by its owner alone, and told apart from all else."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from compiler.key_file import KeyFileError
from compiler.publication.publisher_key import create_key, load_key
from gateway.signing import parse_trusted_keys, verify


@pytest.mark.parametrize("passphrase", [None, "sésame, open"])
def test_a_key_signs_what_its_pub_file_verifies(tmp_path: Path, passphrase: str | None) -> None:
    """What the private file signs verifies with the line in the .pub file, and nothing else."""
    path = create_key(tmp_path / "keys", "ann", passphrase)
    (trusted,) = parse_trusted_keys((tmp_path / "keys" / "ann.pub").read_text())
    key = load_key(path, passphrase)
    assert trusted == key.public
    assert (key.name, key.raw) == ("ann", trusted.raw)
    signature = key.sign(b"epoch 42")
    assert verify(trusted.raw, signature, b"epoch 42")
    assert not verify(trusted.raw, signature, b"epoch 43")
    other = load_key(create_key(tmp_path / "keys", "ben", None), None)
    assert not verify(other.raw, signature, b"epoch 42")


def test_the_files_are_private(tmp_path: Path) -> None:
    """The folder is 0700, the key 0600, whatever the umask; the .pub is one line."""
    old = os.umask(0)
    try:
        path = create_key(tmp_path / "keys", "ann", None)
    finally:
        os.umask(old)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert path == tmp_path / "keys" / "ann.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys" / "ann.pub").read_text().count("\n") == 1


def test_a_passphrase_encrypts(tmp_path: Path) -> None:
    """With a passphrase the file holds no plain key, and another passphrase does not open it."""
    path = create_key(tmp_path, "ann", "right")
    assert path.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    with pytest.raises(KeyFileError, match="does not open with this passphrase"):
        load_key(path, "wrong")
    for none in (None, ""):
        with pytest.raises(KeyFileError, match=r"is encrypted\. Give its passphrase"):
            load_key(path, none)


def test_a_passphrase_for_a_plain_key_is_not_needed(tmp_path: Path) -> None:
    """A passphrase from the environment does no harm to a key without one."""
    path = create_key(tmp_path, "ann", None)
    assert load_key(path, "unused").raw == load_key(path, None).raw


def test_no_key_is_ever_overwritten(tmp_path: Path) -> None:
    """A second key of one name is refused, also when only the .pub file is left."""
    path = create_key(tmp_path, "ann", None)
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match=r"ann\.pem exists already"):
        create_key(tmp_path, "ann", None)
    assert path.read_bytes() == before
    path.unlink()
    with pytest.raises(KeyFileError, match=r"ann\.pub exists already"):
        create_key(tmp_path, "ann", None)
    assert not path.exists()


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    """A link in the key's place does not lead the key somewhere else."""
    (tmp_path / "ann.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match=r"ann\.pem: File exists"):
        create_key(tmp_path, "ann", None)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_key_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """A key file that anybody else may touch is refused with the command that mends it."""
    path = create_key(tmp_path, "ann", None)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}.*chmod 600 {path}"):
        load_key(path, None)
    path.chmod(0o400)
    assert load_key(path, None).name == "ann"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".ann", "a b", "é", "a" * 65, "a\n"])
def test_a_key_s_name_is_a_plain_name(tmp_path: Path, name: str) -> None:
    """A name that leaves the folder, or that no trusted key could have, is refused."""
    with pytest.raises(KeyFileError, match="is no key name"):
        create_key(tmp_path / "keys", name, None)
    assert not (tmp_path / "keys").exists()


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    """An empty passphrase is a slip, never a wish for no encryption."""
    with pytest.raises(KeyFileError, match="The passphrase is empty"):
        create_key(tmp_path, "ann", "")


def written(path: Path, data: bytes) -> Path:
    """Write a file that only its owner may read."""
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def pem(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """Give a key of another kind as `create_key` would write it."""
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    "data",
    [pem(ec.generate_private_key(ec.SECP256R1())), pem(rsa.generate_private_key(65537, 2048))],
    ids=["P-256", "RSA"],
)
def test_a_key_of_another_kind_is_named_so(tmp_path: Path, data: bytes) -> None:
    """Only Ed25519 signs epochs."""
    with pytest.raises(KeyFileError, match="a key of another kind"):
        load_key(written(tmp_path / "ann.pem", data), None)


PUBLIC = ed25519.Ed25519PrivateKey.generate().public_key()
BROKEN = [
    b"",
    b"ann:AAAA\n",
    b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
    b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    PUBLIC.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ),
    bytes(100_000),
]


@pytest.mark.parametrize("data", BROKEN)
def test_a_broken_key_is_a_sentence(tmp_path: Path, data: bytes) -> None:
    """Whatever holds no private key says so, and names the command that makes one."""
    with pytest.raises(KeyFileError, match=r"no readable private key.*tidegate keygen"):
        load_key(written(tmp_path / "ann.pem", data), None)


def test_a_missing_key_names_the_command(tmp_path: Path) -> None:
    """No file, a folder, and an unusable place each get their sentence."""
    with pytest.raises(KeyFileError, match=r"There is no key at .*run `tidegate keygen`"):
        load_key(tmp_path / "none.pem", None)
    (tmp_path / "folder.pem").mkdir()
    with pytest.raises(KeyFileError, match="cannot be read"):
        load_key(tmp_path / "folder.pem", None)
    with pytest.raises(KeyFileError, match="has no key name"):
        load_key(tmp_path / "an n.pem", None)
    with pytest.raises(KeyFileError, match="cannot be written"):
        create_key(Path("/dev/null/keys"), "ann", None)


def test_the_private_key_is_not_shown(tmp_path: Path) -> None:
    """Printing a key shows its public half alone."""
    path = create_key(tmp_path, "ann", None)
    assert "private" not in repr(load_key(path, None)).lower()
