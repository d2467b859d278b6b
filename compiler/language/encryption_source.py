"""Apps' `encryption:` by itself, without the rest of a plan: what `upload` and `encrypt` go by."""

from pathlib import Path

from compiler.diagnostic import PlanError
from compiler.language.app_file import APP
from compiler.language.faults import Faults
from compiler.language.plan_folder import find_app_files, read_bytes
from compiler.language.plan_text import decode
from compiler.language.tree import parse
from compiler.plan import Recipient

# No key of that name without one of them: escaped or not, or in UTF-16, which parse refuses.
_MARKS = ("encryption", "\\", "\0")


def read_encryption(plan: Path) -> dict[str, tuple[Recipient, ...]]:
    """Read whom each app's packages are encrypted to; apps that are not encrypted are left out.

    Of a plan of many apps only the files that may say so are parsed. Raises PlanError with every
    fault of these, and for each that is not readable: what might have been encrypted shall not
    go out as it is.
    """
    faults, found, texts = Faults(), dict[str, tuple[Recipient, ...]](), dict[str, str]()
    # Whatever its ending: validate refuses such a file, but an upload may come first.
    for file in find_app_files(plan, faults):
        data = read_bytes(plan / file, file, faults)
        text = None if data is None else decode(file, data, faults)
        if text is None or not any(mark in text for mark in _MARKS):
            continue
        node = parse(file, text, faults)
        app = None if node is None else APP.read(node, faults)
        texts[file] = text
        if app is not None and app.id is not None and app.encryption:
            found[app.id.value] = tuple(each.value for each in app.encryption)
    if faults.errors:
        raise PlanError(faults.found, texts)
    return found
