"""Trusted keys by themselves, without the rest of a plan: what `verify` and `upload` go by."""

from pathlib import Path

from compiler.diagnostic import PlanError
from compiler.language.faults import Faults
from compiler.language.plan_folder import read_bytes
from compiler.language.plan_text import decode
from compiler.language.schema import WORKSPACE
from compiler.language.tree import parse
from compiler.language.trusted_keys import KEYS, Keys, refuse_twins
from compiler.packaging.package_key import PackageKey

PUBLIC_SUFFIX = ".pub"


def read_keys(path: Path) -> tuple[PackageKey, ...]:
    """Read the keys that a plan's folder, a workspace.yaml or a .pub file names; () for none.

    Raises PlanError with every fault of that file.
    """
    faults = Faults()
    file = path / "workspace.yaml" if path.is_dir() else path
    data = read_bytes(file, str(file), faults)
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
