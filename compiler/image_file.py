"""An image in a file: compiled in CI, looked at, pushed later, byte for byte the same."""

from contextlib import suppress
from pathlib import Path

from compiler.image import Image
from compiler.publication.epoch import mirrored_digests
from compiler.storage.spool import Spool
from compiler.windows import frozen_of
from gateway import blob_file, layout
from gateway.errors import FormatError


def save_image(image: Image, commit: str, path: Path) -> int:
    """Write an image file, whole or not at all; give its size in bytes. Raises OSError."""
    compiled: layout.Compiled = {"contents": image.root, "commit": commit}
    root = layout.encode(layout.Compiled, compiled)
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("wb") as file:
            blobs = (image.blobs[digest] for digest in sorted(image.blobs))
            blob_file.write_file(file, layout.digest_of(root), (root, *blobs))
        size = beside.stat().st_size
        beside.replace(path)
    except OSError as fault:
        raise OSError(fault.errno, fault.strerror, str(path)) from fault
    finally:
        with suppress(OSError):
            beside.unlink()
    return size


def load_image(path: Path) -> tuple[Image, str]:
    """Read an image file: the image and the commit. Raises OSError, FormatError naming the file."""
    try:
        with path.open("rb") as file:
            root, found = blob_file.read_file(file)
            blobs = Spool()
            blobs.update(found)
        compiled: layout.Compiled = layout.decode(layout.Compiled, blobs.pop(root))
        contents: layout.Contents = layout.decode(layout.Contents, blobs[compiled["contents"]])
        tree: layout.Tree = layout.decode(layout.Tree, blobs[contents["plan"]])
        needed = mirrored_digests(contents, tree)
        needed.update(each["digest"] for each in tree["lists"].values())
        needed.update(each["seats"] for each in frozen_of(tree["windows"]).values())
        needed.update(contents["membership"]["packs"] if contents["membership"] else ())
    except KeyError:
        raise FormatError(f"{path} is cut short: compile it again") from None
    except FormatError as fault:
        raise FormatError(f"{path} cannot be pushed: {fault}. Compile it again") from None
    if not needed <= blobs.keys():
        raise FormatError(f"{path} is cut short: compile it again")
    return Image(compiled["contents"], contents, tree, blobs), compiled["commit"]
