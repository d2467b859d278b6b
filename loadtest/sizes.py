"""`python -m loadtest.sizes BUNDLE…`: how small packages and patches are, and what patching costs.

    python -m loadtest.sizes a-1.0.tgz a-1.1.tgz a-2.0.tgz    folders or tarballs, oldest first
    python -m loadtest.sizes --synthetic 50                   a package of 50 MB that nobody wrote

For each bundle: its deflated ZIP (zlib level 6, names as in the bundle), the package that
`tidegate pack` makes of it, and that package's forms for transport. For each two that follow each
other, and for the first and the last, a patch in each format, made and applied in a process of its
own, which tells its seconds and its peak of resident memory.
"""

import argparse
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

from compiler.packaging.archive import pack
from compiler.packaging.forms import COMPRESSIONS, make_form
from compiler.packaging.package_file import read_package
from compiler.patching import formats
from gateway.errors import TidegateError

_MB = 1_000_000
_ZLIB_LEVEL = 6
_WORDS, _WORDS_A_FILE, _MEDIA_BYTES = 3000, 8000, 50_000
_EDITS = 20


@dataclass(frozen=True, slots=True)
class Package:
    """A package to measure; `deflated` is the size of its bundle's deflated ZIP, if it has one."""

    name: str
    file: Path
    deflated: int | None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a patch came to: its size, seconds to make and to apply, peak memory in bytes."""

    size: int
    make: float
    apply: float
    peak: int


def deflated_size(bundle: Path, work: Path) -> int:
    """Give the size of a bundle as a deflated ZIP; the folders that a tarball has stay."""
    target = work / "deflated.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=_ZLIB_LEVEL) as archive:
        for name, data in _files(bundle):
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, _ZLIB_LEVEL)
    return target.stat().st_size


def _files(bundle: Path) -> Iterator[tuple[str, bytes]]:
    if bundle.is_dir():
        for path in sorted(path for path in bundle.rglob("*") if path.is_file()):
            yield path.relative_to(bundle).as_posix(), path.read_bytes()
        return
    with tarfile.open(bundle) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file.read()


def synthetic(size: int, seed: int = 1) -> tuple[bytes, bytes]:
    """Make two versions of a package of about so many bytes: half text, half noise as of media.

    In the second one file of fifty has small edits, one file is new, and one is gone.
    """
    random = Random(seed)
    letters = b"abcdefghijklmnopqrstuvwxyz_"
    words = [bytes(random.choices(letters, k=random.randint(2, 10))) for _ in range(_WORDS)]
    files: list[bytes] = []
    made = 0
    while made < size:
        text = b" ".join(random.choices(words, k=_WORDS_A_FILE))
        files.append(random.choice((text, random.randbytes(_MEDIA_BYTES))))
        made += len(files[-1])
    changed = list(files)
    for place in random.sample(range(len(files)), len(files) // 50 + 1):
        file = bytearray(changed[place])
        for _ in range(_EDITS):
            at = random.randrange(len(file))
            file[at : at + random.randint(0, 9)] = random.choice(words)
        changed[place] = bytes(file)
    changed.insert(random.randrange(len(files)), random.randbytes(_MEDIA_BYTES))
    del changed[random.randrange(len(changed))]
    return b"".join(files), b"".join(changed)


def measure(format_: str, old: Path, new: Path) -> Cost:
    """Make and apply a patch in a process of its own; give what it told."""
    command = [sys.executable, "-m", "loadtest.sizes", "--measure", format_, str(old), str(new)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return Cost(**json.loads(done.stdout))


def _measure_here(format_: str, old_file: str, new_file: str) -> Cost:
    old, new = Path(old_file).read_bytes(), Path(new_file).read_bytes()
    started = time.perf_counter()
    patch = formats.make(format_, old, new)
    made = time.perf_counter()
    if formats.apply(format_, old, patch, formats.Limits(len(new))) != new:
        raise AssertionError(f"the {format_} patch gives other bytes")
    applied = time.perf_counter()
    # Not getrusage: its peak is that of the process that started this one, if it was higher.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    return Cost(len(patch), made - started, applied - made, int(peak[1]) * 1024)


def _say(*cells: str) -> None:
    first, *others = cells
    print(f"{first:40}", *(f"{cell:>14}" for cell in others), flush=True)


def say_packages(packages: list[Package], work: Path) -> None:
    """Print each package's sizes in every form."""
    _say("package", "deflated ZIP", "stored ZIP", *COMPRESSIONS)
    for each in packages:
        found = read_package(each.file, "app", "1")
        made = [make_form(found, name, work, lambda _size: None) for name in COMPRESSIONS]
        sizes = [each.deflated, found.digest.size, *(form.form.size for form in made)]
        _say(each.name, *("" if size is None else f"{size:,}" for size in sizes))


def say_patches(packages: list[Package]) -> None:
    """Print what patches between neighbours, and from the first to the last, come to."""
    pairs = list(pairwise(packages))
    if len(packages) > 2:
        pairs.append((packages[0], packages[-1]))
    _say("patch", "format", "bytes", "of deflated", "s to make", "s to apply", "peak MB")
    for old, new in pairs:
        for each in formats.FORMATS:
            cost = measure(each, old.file, new.file)
            share = f"{cost.size * 100 / new.deflated:.2f} %" if new.deflated else ""
            numbers = (f"{cost.make:.2f}", f"{cost.apply:.2f}", f"{cost.peak / _MB:,.0f}")
            _say(f"{old.name} → {new.name}", each, f"{cost.size:,}", share, *numbers)


def _packed(bundles: list[Path], work: Path) -> list[Package]:
    packages = []
    for number, bundle in enumerate(bundles):
        target = work / f"{number}.zip"
        pack(bundle, target, kind="bundle")
        packages.append(Package(bundle.name[-38:], target, deflated_size(bundle, work)))
    return packages


def _synthetic(size: int, work: Path) -> list[Package]:
    packages = []
    for name, data in zip(("old", "new"), synthetic(size * _MB), strict=True):
        file = work / f"synthetic-{name}.bin"
        file.write_bytes(data)
        packages.append(Package(f"synthetic {size} MB, {name}"[-38:], file, None))
    return packages


def main() -> None:
    """Measure what the arguments name."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.sizes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundles", nargs="*", type=Path, help="folders or tarballs, oldest first")
    parser.add_argument("--synthetic", type=int, metavar="MB", default=0, help="a made-up package")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(asdict(_measure_here(*given.measure))))
        return
    if not given.bundles and given.synthetic < 1:
        parser.error("name bundles (folders or tarballs), or say --synthetic MB")
    try:
        with tempfile.TemporaryDirectory() as folder:
            for packages in (
                _packed(given.bundles, Path(folder)),
                _synthetic(given.synthetic, Path(folder)) if given.synthetic > 0 else [],
            ):
                if packages:
                    say_packages(packages, Path(folder))
                    say_patches(packages)
    except (TidegateError, OSError) as fault:
        sys.exit(str(fault))


if __name__ == "__main__":
    main()
