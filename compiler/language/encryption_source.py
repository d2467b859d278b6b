"""Apps' `encryption:` by itself, without the rest of a plan: what `upload` and `encrypt` go by."""

from pathlib import Path

from compiler.diagnostic import PlanError
from compiler.language.app_file import APP
from compiler.language.faults import Faults
from compiler.language.plan_folder import read_bytes
from compiler.language.plan_text import decode
from compiler.language.tree import parse
from compiler.plan import Recipient

_MARKS = (b"encryption", b"\\")  # no key of that name without one of them, escaped or not


def read_encryption(plan: Path) -> dict[str, tuple[Recipient, ...]]:
    """Read whom each app's packages are encrypted to; apps that are not encrypted are left out.

    Of a plan of many apps only the files that may say so are read. Raises PlanError with every
    fault of these: what might have been encrypted shall not go out as it is.
    """
    faults, found, texts = Faults(), dict[str, tuple[Recipient, ...]](), dict[str, str]()
    # .yml, too: validate refuses such a file, but an upload may come first.
    for path in sorted([*plan.glob("apps/*.yaml"), *plan.glob("apps/*.yml")]):
        if path.name.startswith("."):
            continue
        file = path.relative_to(plan).as_posix()
        data = read_bytes(path, file, faults)
        if data is None or not any(mark in data for mark in _MARKS):
            continue
        text = decode(file, data, faults)
        node = None if text is None else parse(file, text, faults)
        app = None if node is None else APP.read(node, faults)
        texts[file] = text or ""
        if app is not None and app.id is not None and app.encryption:
            found[app.id.value] = tuple(each.value for each in app.encryption)
    if faults.errors:
        raise PlanError(faults.found, texts)
    return found
