"""The laws can fail: each operator of the compiled decision, changed, makes one of them fail.

Runs in `make soak` only, on a copy of the sources; `make soak` prints what was changed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
AND, OR = "bits &= found\n", "bits |= found\n"
MUTATIONS = [
    *(
        ("gateway/program.py", before + AND + after, before + OR + after)
        for before, after in (
            ("found = self._anywhere\n        ", ""),
            ("found = absent\n            ", "        for place"),
            ("if seen is None else seen\n            ", "        for name"),
            ("found = absent\n            ", "        return bits"),
        )
    ),
    ("gateway/program.py", "_RANKS[few & -few]", "few.bit_length() - 1"),
    ("gateway/program.py", "(bits & -bits).bit_length() - 1", "bits.bit_length() - 1"),
    ("gateway/program.py", "bisect_right(self._times", "bisect_left(self._times"),
    ("gateway/program.py", "< basis_points", "<= basis_points"),
    ("gateway/program.py", "unwanted & possibly", "unwanted & surely"),
    ("gateway/program.py", "2 * at + 1 if at", "2 * at if at"),
    ("gateway/program.py", "not wanted & surely", "not wanted & possibly"),
    ("gateway/program.py", "(others & -others) - 1", "(others & -others)"),
    ("gateway/program.py", "takes or not others", "takes"),
    ("gateway/program.py", "cell & ~apart", "cell"),
    ("gateway/answer.py", "target > installed", "target >= installed"),
    ("gateway/answer.py", "installed < target", "installed <= target"),
    ("gateway/snapshot.py", "user_hash if check.device_hash is None", "user_hash if user_hash"),
    ("compiler/lowering.py", "max(step.at, release.starts)", "release.starts"),
    ("compiler/lowering.py", "release.starts <= second", "release.starts < second"),
    ("compiler/lowering.py", "second < release.ends", "second <= release.ends"),
    ("compiler/lowering.py", "(bound, False, None, True)", "(bound, True, None, True)"),
    (
        "compiler/lowering.py",
        "operands[0], True, operands[1], True",
        "operands[0], True, operands[1], False",
    ),
    ("gateway/switches.py", "place < bound", "place <= bound"),
    ("gateway/switches.py", "if most != least:", "if most < least:"),
    ("gateway/switches.py", "counted &= self._anonymous", "pass"),
    ("gateway/switches.py", "counted &= self._without_user", "pass"),
    ("gateway/switches.py", "2 if self._by_user[row] else 1", "1"),
    ("gateway/switches.py", "OTHERWISE if rows else STATIC", "STATIC"),
    ("compiler/switches.py", "return row.same_as.app, row.same_as.release", "pass"),
    ("compiler/splits.py", "in reversed(runs)", "in runs"),
    ("compiler/lowering.py", "reverse=True", "reverse=False"),
    ("compiler/lowering.py", "a and b for a, b", "a or b for a, b"),
]
LAWS = [
    f"tests/laws/test_{law}.py" for law in ("equivalence", "rollouts", "no_accident", "switches")
]
PYTEST = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider"]
PYTEST += ["--hypothesis-profile=noticing"]
# Equal by construction: a withdrawn version never equals a target, as targets are not withdrawn.
EQUIVALENT = {"target > installed"}


@pytest.mark.skipif("TIDEGATE_SOAK" not in os.environ, reason="takes minutes: make soak")
@pytest.mark.parametrize(("file", "old", "new"), MUTATIONS)
def test_a_changed_operator_is_noticed(file: str, old: str, new: str, tmp_path: Path) -> None:
    """With this one operator changed, a law fails."""
    for name in ("gateway", "compiler", "tests", "pyproject.toml"):
        source = ROOT / name
        target = tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    path = tmp_path / file
    text = path.read_text()
    assert text.count(old) >= 1, f"{old!r} is gone from {file}"
    path.write_text(text.replace(old, new, 1))
    environment = {name: value for name, value in os.environ.items() if name != "TIDEGATE_SOAK"}
    run = subprocess.run(
        [*PYTEST, *LAWS],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    noticed = run.returncode == 1
    print(f"\n{file}: {old}  ->  {new}: {'noticed' if noticed else 'NOT NOTICED'}")
    assert noticed is (old not in EQUIVALENT), run.stdout[-2000:]
