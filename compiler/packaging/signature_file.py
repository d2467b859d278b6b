"""<package file>.jws: the signatures beside a package's file, one compact JWS a line."""

from collections.abc import Sequence
from pathlib import Path

from compiler.atomic_file import atomic_file
from compiler.packaging.claims import SignatureError
from compiler.packaging.package_signature import MOST_CHARS, MOST_SIGNATURES

_MOST_BYTES = MOST_SIGNATURES * (MOST_CHARS + 2)


def beside(package: Path) -> Path:
    """Name the file of signatures that belongs to a package's file."""
    return package.with_name(f"{package.name}.jws")


def read_texts(path: Path) -> tuple[str, ...] | None:
    """Read the signatures' texts as they are; None when there is no such file.

    Raises SignatureError when the file cannot be read, or is far too long.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SignatureError(
            f"{path} cannot be read: {error.strerror}. Check the path and its permissions."
        ) from error
    lines = [line.strip() for line in data.decode("ascii", "replace").split("\n")]
    texts = tuple(line for line in lines if line)
    if len(data) > _MOST_BYTES or len(texts) > MOST_SIGNATURES:
        raise SignatureError(
            f"{path} is no file of signatures: it has over {MOST_SIGNATURES} lines, or over "
            f"{_MOST_BYTES:,} bytes. Make it again with `tidegate sign`."
        )
    return texts


def write_texts(path: Path, texts: Sequence[str]) -> None:
    """Write the file, whole or not at all. Raises SignatureError when that is not possible."""
    if len(texts) > MOST_SIGNATURES:
        raise SignatureError(
            f"{path} would have over {MOST_SIGNATURES} signatures. Delete those of old keys."
        )
    try:
        with atomic_file(path) as file:
            file.write("".join(f"{text}\n" for text in texts).encode("ascii"))
    except OSError as error:
        raise SignatureError(
            f"{path} cannot be written: {error.strerror or error}. Choose a folder that you may "
            "write to."
        ) from error
