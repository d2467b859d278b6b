"""Encryption: what age's own tool opens and makes, and what is broken or hostile is refused."""

import base64
import hmac
import io
import os
import pty
import random
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from compiler.key_file import KeyFileError
from compiler.packaging.encrypted_file import encrypt_file
from compiler.packaging.encryption import (
    SECRET_MARK,
    EncryptionError,
    Identity,
    decrypt,
    decrypted,
    encrypt,
    encrypted,
    new_identity,
    parse_identity,
    parse_recipient,
)
from compiler.packaging.identity_file import create_identity, load_identities

AGE = shutil.which("age")
needs_age = pytest.mark.skipif(AGE is None, reason="Debian's age is not installed")

PIECE = 65_536
SIZES = [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE]
ZERO_POINT = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z"
SMALL_POINT = "age1ur4h5lpmgxu2u9jku0a0r87ydtdqnr0tnsetrlvxvgz3vh6fhqqqzyt4v9"


def ran(*command: str, data: bytes = b"", code: int = 0) -> bytes:
    """Run a tool on some input; give its output."""
    done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout


def typed(command: Sequence[str], passphrase: str) -> None:
    """Run a tool that asks for a passphrase on its terminal, as often as it asks."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(command[0], command)
    asked, end = b"", time.monotonic() + 30
    while time.monotonic() < end:
        try:
            asked += os.read(terminal, 4096)
        except OSError:  # the child is gone
            break
        if re.search(rb"passphrase[^\n]*: $", asked):
            asked = b""
            os.write(terminal, passphrase.encode() + b"\n")
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert status == 0, asked


def locked(data: bytes, passphrase: str) -> bytes:
    """Make a short age file that a passphrase opens, by the format's text, with little work."""

    def base64_of(raw: bytes) -> bytes:
        return base64.b64encode(raw).rstrip(b"=")

    def derived(salt: bytes, info: bytes) -> bytes:
        return HKDF(SHA256(), 32, salt, info).derive(file_key)

    salt, file_key, nonce = os.urandom(16), os.urandom(16), os.urandom(16)
    wrapping = Scrypt(b"age-encryption.org/v1/scrypt" + salt, 32, 1 << 10, 8, 1)
    key = wrapping.derive(passphrase.encode())
    body = base64_of(ChaCha20Poly1305(key).encrypt(bytes(12), file_key, None))
    head = b"age-encryption.org/v1\n-> scrypt %s 10\n%s\n---" % (base64_of(salt), body)
    mac = base64_of(hmac.digest(derived(b"", b"header"), head, "sha256"))
    sealing = ChaCha20Poly1305(derived(nonce, b"payload"))
    return head + b" " + mac + b"\n" + nonce + sealing.encrypt(bytes(11) + b"\1", data, None)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_encrypted_comes_back(size: int) -> None:
    """Each recipient's identity opens the same file, by itself and among others."""
    data = random.Random(size).randbytes(size)
    one, two = new_identity(), new_identity()
    sealed = encrypted(data, [one.recipient, two.recipient])
    for held in ([one], [two], [new_identity(), two]):
        assert decrypted(sealed, held) == data
    assert encrypted(data, [one.recipient]) != encrypted(data, [one.recipient])


@needs_age
@pytest.mark.parametrize("size", SIZES)
def test_age_opens_ours_and_we_open_its(tmp_path: Path, size: int) -> None:
    """The format is age's: either side opens what the other made."""
    assert AGE is not None
    data = random.Random(size).randbytes(size)
    path, recipient = create_identity(tmp_path, "phones", None)
    sealed = encrypted(data, [recipient.recipient])
    assert ran(AGE, "-d", "-i", str(path), data=sealed) == data
    identities = load_identities(path, None)
    theirs = ran(AGE, "-r", recipient.recipient, data=data)
    assert decrypted(theirs, identities) == data


@needs_age
def test_age_reads_our_identities_and_we_read_its(tmp_path: Path) -> None:
    """Identity files pass both ways: age-keygen's are read, and our public half is age's."""
    path, recipient = create_identity(tmp_path, "phones", None)
    assert path.stat().st_mode & 0o777 == 0o600
    assert ran("age-keygen", "-y", str(path)).decode().strip() == recipient.recipient
    line = (tmp_path / "phones.recipient").read_text()
    assert line == f"- {{key: phones, recipient: {recipient.recipient}}}\n"
    theirs = tmp_path / "theirs.txt"
    ran("age-keygen", "-o", str(theirs))
    (identity,) = load_identities(theirs, None)
    assert ran("age-keygen", "-y", str(theirs)).decode().strip() == identity.recipient


def test_a_passphrase_s_file_is_ours_and_age_s(tmp_path: Path) -> None:
    """An identity made with a passphrase comes back, and `age` asks for it as for its own."""
    path, recipient = create_identity(tmp_path, "phones", "open sesame")
    assert SECRET_MARK.encode() not in path.read_bytes()
    (identity,) = load_identities(path, "open sesame")
    assert identity.recipient == recipient.recipient
    if AGE is not None:
        sealed, out = tmp_path / "sealed.age", tmp_path / "out"
        sealed.write_bytes(encrypted(b"tide", [recipient.recipient]))
        typed([AGE, "-d", "-i", str(path), "-o", str(out), str(sealed)], "open sesame")
        assert out.read_bytes() == b"tide"


@needs_age
def test_age_s_passphrases_are_ours(tmp_path: Path) -> None:
    """An identity file that `age -p` locked is read, armored too."""
    assert AGE is not None
    plain, theirs = tmp_path / "plain.txt", tmp_path / "theirs.age"
    ran("age-keygen", "-o", str(plain))
    typed([AGE, "-p", "--armor", "-o", str(theirs), str(plain)], "knock knock")
    theirs.chmod(0o600)
    assert load_identities(theirs, "knock knock") == load_identities(plain, None)


def test_no_identity_opens_what_is_cut_or_changed() -> None:
    """Cut at any byte of its head, at and around every piece, or with any bit there turned."""
    identity = new_identity()
    data = random.Random(1).randbytes(2 * PIECE + 100)
    sealed = encrypted(data, [identity.recipient])
    head = len(sealed) - len(data) - 3 * 16 - 16
    edges = [head + 16 + piece * (PIECE + 16) + by for piece in range(3) for by in (-1, 0, 1, 16)]
    places = sorted({*range(head + 20), *edges, len(sealed) - 1})
    assert sealed[head - 1 : head] == b"\n"
    for at in places:
        with pytest.raises(EncryptionError, match=r"no whole age file|none of the identities"):
            decrypted(sealed[:at], [identity])
        turned = bytearray(sealed)
        turned[at] ^= 1 << at % 8
        with pytest.raises(EncryptionError, match=r"no whole age file|none of the identities"):
            decrypted(bytes(turned), [identity])
    with pytest.raises(EncryptionError, match="no whole age file"):
        decrypted(sealed + b"x", [identity])
    assert decrypted(sealed, [identity]) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 a plain ZIP",
        b"age-encryption.org/v2\n--- \n",
        b"age-encryption.org/v1\n" + b"-> X25519 " + b"A" * 100_000,
        b"age-encryption.org/v1\n" + b"-> X25519 AAAA\n\n" * 5000,
        b"age-encryption.org/v1\n" + b"-> X25519 AAAA\n\n" * 500_000 + b"--- AAAA\n",
        b"\xff" * 5000,
    ],
    ids=range(7),
)
def test_what_is_no_age_file_is_refused(data: bytes) -> None:
    """Whatever stands where an age file should, the answer is a sentence."""
    with pytest.raises(EncryptionError, match=r"no whole age file|none of the identities"):
        decrypted(data, [new_identity()])


def test_a_share_of_low_order_is_refused() -> None:
    """A file whose sender's share is a point that shares no secret is opened by nobody."""
    identity = new_identity()
    sealed = encrypted(b"tide", [identity.recipient])
    for point in (bytes(32), b"\1" + bytes(31)):
        share = base64.b64encode(point).rstrip(b"=")
        forged = re.sub(rb"-> X25519 \S+", b"-> X25519 " + share, sealed, count=1)
        with pytest.raises(EncryptionError):
            decrypted(forged, [identity])


def test_other_identities_open_nothing() -> None:
    """Whoever is not named, or has no identity at all, is told so."""
    sealed = encrypted(b"tide", [new_identity().recipient])
    for held in ([new_identity()], []):
        with pytest.raises(EncryptionError, match="none of the identities opens it"):
            decrypted(sealed, held)
    with pytest.raises(EncryptionError, match="none of the identities opens it"):
        decrypted(locked(b"tide", "open sesame"), [new_identity()])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no recipient"),
        ("age1", "is no recipient"),
        ("age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwk", "is no recipient"),
        (" age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj", "is no recipient"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA", "is no recipient"),
        ("age1" + "q" * 100_000, "is no recipient"),
        (ZERO_POINT, "is no honest recipient"),
        (SMALL_POINT, "is no honest recipient"),
    ],
)
def test_a_broken_recipient_is_refused(text: str, said: str) -> None:
    """A recipient with a slip, of another kind, or of low order is refused, shortly."""
    with pytest.raises(ValueError, match=said) as refused:
        parse_recipient(text)
    assert len(str(refused.value)) < 300
    with pytest.raises(EncryptionError, match=said):
        encrypted(b"tide", [text])


def test_a_secret_in_a_recipient_s_place_is_not_repeated() -> None:
    """Who writes an identity where a recipient belongs is warned, and the secret not shown."""
    identity = new_identity()
    for text in (identity.secret, identity.secret.lower()):
        with pytest.raises(ValueError, match="is an identity") as refused:
            parse_recipient(text)
        assert text not in str(refused.value)
    with pytest.raises(ValueError, match="no identity") as refused:
        parse_identity(identity.secret[:-1] + "Q")
    assert identity.secret[:-1] not in str(refused.value)
    assert identity.secret not in repr(identity)


def test_nobody_is_no_audience() -> None:
    """Nothing is encrypted to nobody."""
    with pytest.raises(EncryptionError, match="Nothing can be encrypted"):
        encrypted(b"tide", [])


class Broken(io.BytesIO):
    """A stream that fails after a while, as a disk or Ctrl-C does."""

    def __init__(self, fault: BaseException, data: bytes) -> None:
        super().__init__(data)
        self.fault = fault

    def read(self, size: int | None = -1) -> bytes:
        """Give some, then fail."""
        if self.tell() > 100_000:
            raise self.fault
        return super().read(size)

    def write(self, data: object) -> int:
        """Fail."""
        raise self.fault


@pytest.mark.parametrize("fault", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_what_streams_raise_is_heard(fault: BaseException) -> None:
    """A full disk is a full disk and Ctrl-C is Ctrl-C, whichever side of age it comes from."""
    identity = new_identity()
    with pytest.raises(type(fault)):
        encrypt(Broken(fault, b"x" * 200_000), io.BytesIO(), [identity.recipient])
    with pytest.raises(type(fault)):
        encrypt(io.BytesIO(b"x" * 200_000), Broken(fault, b""), [identity.recipient])
    sealed = encrypted(b"x" * 200_000, [identity.recipient])
    with pytest.raises(type(fault)):
        decrypt(Broken(fault, sealed), io.BytesIO(), [identity])
    with pytest.raises(type(fault)):
        decrypt(io.BytesIO(sealed), Broken(fault, b""), [identity])


def test_streams_pass_in_pieces() -> None:
    """However long a file is, encrypting and decrypting hold little of it."""
    identity, largest = new_identity(), 0

    class Watched(io.BytesIO):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            nonlocal largest
            largest = max(largest, len(data))
            return super().write(data)

    sealed, plain = Watched(), Watched()
    encrypt(io.BytesIO(bytes(5_000_000)), sealed, [identity.recipient])
    decrypt(io.BytesIO(sealed.getvalue()), plain, [identity])
    assert plain.getvalue() == bytes(5_000_000)
    assert 0 < largest < 2 * PIECE


# Files of identities


def written(at: Path, text: str | bytes) -> Path:
    """Write a file for its owner alone."""
    at.write_bytes(text if isinstance(text, bytes) else text.encode())
    at.chmod(0o600)
    return at


def with_work(factor: int) -> bytes:
    """Make the head of an age file that asks for 2^factor steps."""
    body = b"A" * 43
    return b"age-encryption.org/v1\n-> scrypt %s %d\n%s\n--- %s\n%s" % (
        *(b"A" * 22, factor, body, body),
        bytes(64),
    )


def test_an_identity_comes_back_from_its_file(tmp_path: Path) -> None:
    """The file gives the identity that it was made of, and no other takes its place."""
    path, recipient = create_identity(tmp_path / "keys", "phones", None)
    (identity,) = load_identities(path, None)
    assert identity.recipient == recipient.recipient
    assert decrypted(encrypted(b"x", [recipient.recipient]), [identity]) == b"x"
    with pytest.raises(KeyFileError, match="exists already"):
        create_identity(tmp_path / "keys", "phones", None)
    assert load_identities(path, None) == (identity,)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


def test_a_passphrase_s_file_is_read_by_the_format_s_text(tmp_path: Path) -> None:
    """An identity that was locked by the format's text alone is read with its passphrase."""
    identity = new_identity()
    path = written(tmp_path / "locked", locked(identity.secret.encode(), "open sesame"))
    assert load_identities(path, "open sesame") == (identity,)


def test_a_file_may_hold_several(tmp_path: Path) -> None:
    """Comments, empty lines, other line ends and several identities are read as age reads them."""
    one, two = new_identity(), new_identity()
    text = f"# old\r\n\r\n{one.secret}\r\n# new\n{two.secret}"
    assert load_identities(written(tmp_path / "both", text), None) == (one, two)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "holds no identities"),
        (b"# created: today\n", "holds no identities"),
        (b"\x00\xff\xfe", "holds a line that is no identity"),
        (b"AGE-SECRET-KEY-1QQQQ\n", "holds a line that is no identity"),
        (b"AGE-PLUGIN-YUBIKEY-1QQQQ\n", "holds a line that is no identity"),
        (b"-----BEGIN PRIVATE KEY-----\nMC4CAQ\n", "holds a line that is no identity"),
        (b"AGE-SECRET-KEY-1QQQQ\n" * 101, "holds 101 identities"),
        (ZERO_POINT.encode(), "holds a line that is no identity"),
        (with_work(23), r"2\^23 steps .* damaged, or hostile"),
        (with_work(63), r"2\^63 steps"),
        (with_work(99), r"2\^99 steps"),
        (with_work(100), "no passphrase opens"),
        (
            b"-----BEGIN AGE ENCRYPTED FILE-----\n%s\n-----END AGE ENCRYPTED FILE-----\n"
            % base64.b64encode(with_work(40)),
            r"2\^40 steps",
        ),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n", "damaged or cut"),
        (
            b"-----BEGIN AGE ENCRYPTED FILE-----\n!!\n-----END AGE ENCRYPTED FILE-----\n",
            "damaged or cut",
        ),
        (b"age-encryption.org/v1\n", "no passphrase opens"),
        (encrypted(b"x", [new_identity().recipient]), "no passphrase opens"),
        (locked(b"nothing here", "open sesame"), "no identity"),
        (locked(b"x", "another"), "does not open with this passphrase"),
        (locked(b"x", "open sesame")[:-1], "does not open with this"),
    ],
    ids=range(20),
)
def test_a_broken_identity_file_is_refused(tmp_path: Path, text: bytes, said: str) -> None:
    """What is no identity, or asks for absurd work, is refused at once with a sentence."""
    path, began = written(tmp_path / "phones.age-key", text), time.monotonic()
    with pytest.raises(KeyFileError, match=said) as refused:
        load_identities(path, "open sesame")
    assert str(path) in str(refused.value)
    assert time.monotonic() - began < 20
    assert SECRET_MARK + "1Q" not in str(refused.value)


def test_an_identity_file_is_its_owner_s(tmp_path: Path) -> None:
    """Missing, open to others, without its passphrase or with an empty one: each is told."""
    create_identity(tmp_path, "phones", None)
    path = written(tmp_path / "phones.age-key", locked(b"x", "open sesame"))
    for passphrase in (None, ""):
        with pytest.raises(KeyFileError, match="Give its passphrase"):
            load_identities(path, passphrase)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="open to others"):
        load_identities(path, "open sesame")
    with pytest.raises(KeyFileError, match=r"is a recipient.*phones\.age-key"):
        load_identities(tmp_path / "phones.recipient", None)
    with pytest.raises(KeyFileError, match="--for devices"):
        load_identities(tmp_path / "none.age-key", None)
    with pytest.raises(KeyFileError, match="passphrase is empty"):
        create_identity(tmp_path, "other", "")
    with pytest.raises(KeyFileError, match="is no key name"):
        create_identity(tmp_path, "../other", None)


# Files


@needs_age
@pytest.mark.parametrize("compression", ["zstd", "gzip", "identity"])
def test_a_file_is_compressed_then_encrypted(tmp_path: Path, compression: str) -> None:
    """Ordinary tools open it: age first, then what the name says."""
    assert AGE is not None
    path, recipient = create_identity(tmp_path, "phones", None)
    file, data = tmp_path / "page", b"tide and gate, " * 9999
    file.write_bytes(data)
    done = encrypt_file(file, tmp_path / "page.age", compression, [recipient.recipient])
    assert done.size == done.target.stat().st_size
    opened = ran(AGE, "-d", "-i", str(path), str(done.target))
    tools = {"zstd": ["zstd", "-dc"], "gzip": ["gzip", "-dc"], "identity": ["cat"]}
    if shutil.which(tools[compression][0]):
        assert ran(*tools[compression], data=opened) == data
    assert (len(opened) < len(data)) == (compression != "identity")


def test_encrypting_a_file_fails_in_sentences(tmp_path: Path) -> None:
    """No file, a folder, itself, and a bad recipient; nothing is left behind."""
    to = [new_identity().recipient]
    file = tmp_path / "page"
    file.write_bytes(b"tide")
    for source, target, recipients, said in (
        (tmp_path / "none", tmp_path / "out", to, "cannot be encrypted: No such file"),
        (tmp_path, tmp_path / "out", to, "cannot be encrypted: Is a directory"),
        (file, file, to, "is the file itself"),
        (file, tmp_path / "out", [ZERO_POINT], "no honest recipient"),
    ):
        with pytest.raises(EncryptionError, match=said):
            encrypt_file(source, target, "zstd", recipients)
    assert [path.name for path in tmp_path.iterdir()] == ["page"]
    assert file.read_bytes() == b"tide"


def test_identities_are_equal_by_what_they_open() -> None:
    """An identity is read back from its text as itself."""
    identity = new_identity()
    assert parse_identity(identity.secret) == identity
    assert isinstance(identity, Identity)
