"""A next data format, made from the current tree: what an upgrade to it will have to change.

One field of a program changes its name and type: a release's `upgrade: "prompt"` becomes
`urgency: 1`. What is replaced must be there, so that a change of the real code is noticed here.
"""

import re
import shutil
from pathlib import Path

from gateway import layout
from tools import ROOT

NEXT = layout.FORMAT + 1
WORDS = '("silent", "prompt", "force")'
UPGRADE = f'''
def _numbered(program: Any) -> Any:
    """Number what was a word."""
    releases = []
    for each in program["releases"]:
        word = each.pop("upgrade")
        releases.append({{**each, "urgency": {WORDS}.index(word)}})
    return {{**program, "releases": releases}}


_UPGRADES: dict[type, Callable[[Any], Any]] = {{Program: _numbered}}
'''
CHANGES = {
    "gateway/layout.py": (
        (rf"^FORMAT = {layout.FORMAT}$", f"FORMAT = {NEXT}"),
        (rf"^FORMATS = \({layout.FORMAT},\)", f"FORMATS = ({layout.FORMAT}, {NEXT})"),
        (r"^    upgrade: str$", "    urgency: int"),
        (r"^_UPGRADES: .* = \{\}$", UPGRADE),
    ),
    "gateway/answer.py": ((r'release\["upgrade"\]', f'{WORDS}[release["urgency"]]'),),
    "compiler/lowering.py": (
        (r'"upgrade": (release\.upgrade\.name\.lower\(\))', rf'"urgency": {WORDS}.index(\1)'),
    ),
}


def bring_forward(folder: Path) -> None:
    """Let a folder's gateway/, and compiler/ if it is there, be of the next format."""
    for name, changes in CHANGES.items():
        path = folder / name
        if path.exists():
            text = path.read_text()
            for pattern, new in changes:
                text, count = re.subn(pattern, new, text, flags=re.MULTILINE)
                assert count == 1, f"{name} has {pattern} {count} times: bring this file forward"
            path.write_text(text)


def copy_next(folder: Path) -> Path:
    """Copy what `tidegate` runs from, in the next format; give the folder."""
    for name in ("gateway", "compiler"):
        ignored = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    bring_forward(folder)
    return folder
