"""Trusted keys by themselves, without the rest of a plan: what `verify` and `upload` go by."""

from pathlib import Path

from compiler.diagnostic import PlanError
from compiler.language.draft import file_span
from compiler.language.faults import Faults
from compiler.language.plan_folder import read_bytes
from compiler.language.plan_text import decode
from compiler.language.schema import WORKSPACE
from compiler.language.tree import parse
from compiler.language.trusted_keys import KEYS, Keys, refuse_twins
from compiler.packaging.package_key import PackageKey

PUBLIC_SUFFIX = ".pub"
_PRIVATE = b"PRIVATE KEY-----"  # of a PEM's first line


def read_keys(path: Path) -> tuple[PackageKey, ...]:
    """Read the keys that a plan's folder, a workspace.yaml or a .pub file names; () for none.

    Raises PlanError with every fault of that file.
    """
    faults = Faults()
    file = path / "workspace.yaml" if path.is_dir() else path
    data = _read(file, faults)
    text = None if data is None else decode(str(file), data, faults)
    node = None if text is None else parse(str(file), text, faults)
    keys: Keys = ()
    if node is not None and file.suffix == PUBLIC_SUFFIX:
        keys = KEYS.read(node, faults) or ()
        refuse_twins(keys, faults)
    elif node is not None:
        draft = WORKSPACE.read(node, faults)
        keys = draft.keys if draft is not None else ()
    if faults.errors:
        raise PlanError(faults.found, {str(file): text or ""})
    return tuple(key.value for key in keys)


def _read(file: Path, faults: Faults) -> bytes | None:
    """Read a file of public keys, or report why there are none."""
    try:
        there = file.exists()
    except OSError:
        there = True  # what keeps us from looking keeps us from reading, which says why
    if not there:
        message = "There is no such file. Name a plan's folder, its workspace.yaml, or a .pub file."
        faults.error(file_span(str(file)), message)
        return None
    data = read_bytes(file, str(file), faults)
    if data is not None and _PRIVATE in data:
        public = file.with_suffix(PUBLIC_SUFFIX)
        message = f"This is a private key. Name the public one that was made with it: {public}"
        faults.error(file_span(str(file)), message)
        return None
    return data
