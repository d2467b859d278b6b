"""Real bundles: tools that others wrote agree about what we make of them, and patches are small."""

import os
import shutil
import subprocess
import zipfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from compiler.packaging.archive import pack
from compiler.patching.formats import BSDIFF4, FORMATS, ZSTD_PATCH, Limits, apply, make
from loadtest.sizes import deflated_size

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("TIDEGATE_REAL") or ROOT.parent / "shared" / "real")
PAIRS = [("1.11.6", "1.11.7"), ("1.11.0", "1.11.7")]
TOOLS = {
    BSDIFF4: ["bspatch", "old", "out", "patch"],
    ZSTD_PATCH: ["zstd", "-q", "-d", "--patch-from=old", "patch", "-o", "out"],
}

pytestmark = pytest.mark.skipif(
    not REAL.is_dir(), reason="the real bundles are not beside the checkout"
)


def bundle(version: str) -> Path:
    """Name a published bundle."""
    return REAL / f"vant-weapp-{version}.tgz"


@cache
def packed(version: str) -> bytes:
    """Give a bundle's package."""
    with TemporaryDirectory() as folder:
        return pack(bundle(version), Path(folder) / "out.zip", kind="bundle").path.read_bytes()


@cache
def patch(format_: str, old: str, new: str) -> bytes:
    """Give the patch between two bundles' packages."""
    return make(format_, packed(old), packed(new))


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
@pytest.mark.parametrize("version", ["1.11.0", "1.11.6", "1.11.7"])
def test_unzip_finds_nothing_wrong(version: str, tmp_path: Path) -> None:
    """`unzip -t` passes over each package, and unpacks every file as Python does."""
    (tmp_path / "x.zip").write_bytes(packed(version))
    subprocess.run(["unzip", "-tqq", "x.zip"], cwd=tmp_path, check=True)
    subprocess.run(["unzip", "-qq", "x.zip", "-d", "out"], cwd=tmp_path, check=True)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        expected = {name: archive.read(name) for name in archive.namelist()}
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == expected


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("format_", FORMATS)
def test_other_tools_apply_the_patches(format_: str, pair: tuple[str, str], tmp_path: Path) -> None:
    """Debian's bspatch and zstd make the new package of the old one and our patch."""
    tool = TOOLS[format_]
    if shutil.which(tool[0]) is None:
        pytest.skip(f"{tool[0]} is not installed")
    old, new = pair
    (tmp_path / "old").write_bytes(packed(old))
    (tmp_path / "patch").write_bytes(patch(format_, old, new))
    subprocess.run(tool, cwd=tmp_path, check=True)
    assert (tmp_path / "out").read_bytes() == packed(new)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("format_", FORMATS)
def test_patches_are_small(format_: str, pair: tuple[str, str], tmp_path: Path) -> None:
    """A patch has at most 1.5 % of the deflated ZIP, and gives the new package."""
    old, new = pair
    found = patch(format_, old, new)
    assert apply(format_, packed(old), found, Limits(len(packed(new)))) == packed(new)
    assert len(found) <= 0.015 * deflated_size(bundle(new), tmp_path)
