"""Kinds of broken plan, each with its place and its sentence, and what no broken plan may do.

data/broken_plans.txt holds the kinds. One is a name, the files that differ from BASE (`- ` lines
are replaced by the `+ ` lines; without `- ` lines the file is new), and what is then rendered:

    == percent sign
    @ apps/coffee.yaml
    -   - {id: stable, package: 1.0.0.1, audience: everyone}
    +   - {id: stable, package: 1.0.0.1, audience: {percent: 12.5%}}
    >
    apps/coffee.yaml:5:56: error: "12.5%" is no percentage. Write 12.5 without the percent sign.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.diagnostic import Severity, render
from compiler.language.reading import Reading, read_files

NOW = 1_790_000_000
SHA = "ab" * 32
APP = "apps/coffee.yaml"
RECORD = "packages/2021000000000001/1.0.0.1.json"
RELEASE = "  - {id: stable, package: 1.0.0.1, audience: everyone}\n"
PATH = f"files/ab/{SHA}.zip"
FORM = f'{{"compression": "identity", "size": 9, "sha256": "{SHA}", "path": "{PATH}"}}'
BASE = {
    "workspace.yaml": "workspace: demo\n",
    APP: "app: 2021000000000001\npackages:\n  - version: 1.0.0.1\nreleases:\n" + RELEASE,
    RECORD: f'{{"format": 1, "size": 9, "sha256": "{SHA}", "forms": [{FORM}]}}\n',
}


@dataclass(frozen=True)
class Broken:
    """A plan that is broken in one way, and what `validate` renders of it."""

    name: str
    files: dict[str, str]
    rendered: str

    @property
    def release(self) -> str | None:
        """The one release, if that line alone is what is broken."""
        head = BASE[APP].removesuffix(RELEASE)
        text = self.files[APP]
        alone = text.startswith(head) and len(text.splitlines()) == len(BASE[APP].splitlines())
        return text.removeprefix(head) if alone and text != BASE[APP] else None


def kinds() -> list[Broken]:
    """Read the table of kinds."""
    text = (Path(__file__).parent / "data" / "broken_plans.txt").read_text()
    found = []
    for block in text.removeprefix("== ").split("\n== "):
        change, _, rendered = block.partition("\n>\n")
        name, *files = change.split("\n@ ")
        broken = dict(BASE)
        for part in files:
            file, *lines = part.split("\n")
            old = "\n".join(line[2:] for line in lines if line.startswith("- "))
            new = "\n".join(line[2:] for line in lines if line.startswith("+ "))
            assert old in BASE.get(file, ""), f"{name}: {file}"
            broken[file] = BASE[file].replace(old, new, 1) if old else new + "\n"
        found.append(Broken(name, broken, rendered.rstrip()))
    return found


BROKEN = kinds()
SAMPLE = Path(__file__).parent.parent / "compiler" / "sample"
SAMPLE_FILES = {
    path.relative_to(SAMPLE).as_posix(): path.read_text() for path in SAMPLE.rglob("*.yaml")
}


def errors_of(reading: Reading) -> list[str]:
    """Give the sentences of the errors."""
    return [one.message for one in reading.diagnostics if one.severity is Severity.ERROR]


def test_the_base_plan_is_sound() -> None:
    """What the kinds break has no fault and no doubt itself."""
    reading = read_files(BASE, now=NOW)
    assert reading.diagnostics == ()
    assert reading.plan is not None


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_broken_plan_is_told_where_and_how_to_mend_it(broken: Broken) -> None:
    """Each kind gives exactly its errors: place, sentence with a mend, line and caret."""
    reading = read_files(broken.files, now=NOW)
    errors = [one for one in reading.diagnostics if one.severity is Severity.ERROR]
    assert render(errors, reading.sources) == broken.rendered
    assert reading.plan is None


def test_every_sentence_says_how_to_mend() -> None:
    """At least 35 kinds, and each message says what is wrong and then, imperatively, what to do."""
    assert len({broken.name for broken in BROKEN}) == len(BROKEN) >= 35
    mends = "Write Add Delete Use Close Keep Put Give Indent Rename Move Correct Shorten Save"
    mends += " Flatten Check Narrow Take Update Let Make Run Name until Replace"
    for broken in BROKEN:
        for message in errors_of(read_files(broken.files, now=NOW)):
            assert set(mends.split()) & set(message.replace(",", "").split()), message
            assert message.endswith("."), message


def test_all_faults_of_a_plan_are_reported_at_once() -> None:
    """Releases broken in many ways, all in one file, give every error that each gives alone."""
    releases, expected = [], []
    not_together = {"unclosed bracket", "bad id"}  # no YAML any more; has no id to rename
    for broken in BROKEN:
        if broken.release is None or broken.name in not_together:
            continue
        releases.append(broken.release.replace("id: stable,", f"id: r{len(releases)},"))
        expected += errors_of(read_files(broken.files, now=NOW))
    text = BASE[APP].removesuffix(RELEASE) + "".join(releases)
    found = errors_of(read_files({**BASE, APP: text}, now=NOW))
    assert len(releases) >= 25
    assert sorted(found) == sorted(expected)


def test_faults_of_all_files_are_reported_at_once() -> None:
    """A syntax fault in one file hides nothing that is wrong in another."""
    files = {**BASE, APP: "app: [", "rules.yaml": "rule: {}\n", "workspace.yaml": "keys: 1\n"}
    found = read_files(files, now=NOW).diagnostics
    assert [one.file for one in found] == [APP, "rules.yaml", "rules.yaml", *["workspace.yaml"] * 2]


def test_names_of_a_broken_file_are_not_called_unknown() -> None:
    """When rules.yaml or lists.yaml is no YAML, who names a rule or list of it is not to blame."""
    text = BASE[APP].replace("everyone", "{lists: [staff]}, when: [wifi]")
    found = read_files({**BASE, APP: text, "rules.yaml": "[", "lists.yaml": "["}, now=NOW)
    assert [one.file for one in found.diagnostics] == ["lists.yaml", "rules.yaml"]


@pytest.mark.parametrize(
    ("files", "place", "part"),
    [
        ({"workspace.yaml": "workspace: de\0mo\n"}, "workspace.yaml:1:14", "U+0000 cannot be seen"),
        ({"workspace.yaml": "workspace: d\u2028\n"}, "workspace.yaml:1:13", "U+2028 cannot be"),
        ({"workspace.yaml": "workspace: a\n" * 999_999}, "workspace.yaml", "too large"),
        ({"rules.yaml": "[" * 100_000}, "rules.yaml:1:65", "more than 64 levels"),
        ({"rules.yaml": "- " * 70 + "a"}, "rules.yaml:1:129", "more than 64 levels"),
        ({"workspace.yaml": "workspace: [demo"}, "workspace.yaml:1:17", "closing bracket"),
        ({RECORD: BASE[RECORD][:60]}, f"{RECORD}:1:36", "never closed"),
        (
            {APP: BASE[APP].replace("0.0.1\n", f"0.0.1\n    info: {{a: {'x' * 4096}}}\n", 1)},
            f"{APP}:4:5",
            "info has more than 4096 bytes",
        ),
        (
            {"lists.yaml": f"lists:\n  - {{list: a, of: user, regex: [{'a, ' * 21}]}}\n"},
            "lists.yaml:2:32",
            "has 21 items; at most 20",
        ),
    ],
)
def test_limits(files: dict[str, str], place: str, part: str) -> None:
    """What is too large, too deep, cut or invisible is told like any other fault."""
    reading = read_files({**BASE, **files}, now=NOW)
    first = next(one for one in reading.diagnostics if one.severity is Severity.ERROR)
    assert render([first], {}).startswith(f"{place}: error: ")
    assert part in first.message


def test_one_mistake_made_often_is_told_often_enough() -> None:
    """A file of conflict markers or control characters gives 20 lines of each, at once."""
    reading = read_files({**BASE, "rules.yaml": "=======\n\x01\n" * 100_000}, now=NOW)
    assert len(reading.diagnostics) == 40


FRAGMENTS = ["\t", "- ", ": ", "[", "]", "{", "}", "'", '"', "*a", "&a", "!t", "<<", "|", ">", "~"]
FRAGMENTS += ["\n", "  ", "#", "---", "%", "@", "\\", "1e999", "0x", "9" * 30, "\ud800", "\0", "é"]


@settings(max_examples=1000, deadline=None)
@given(st.text(), st.sampled_from(sorted(SAMPLE_FILES)))
def test_any_text_gives_diagnostics(text: str, file: str) -> None:
    """Arbitrary text in any file never raises: it gives a plan or errors, which can be shown."""
    _read_anything({**SAMPLE_FILES, file: text})


@settings(max_examples=1500, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(sorted(SAMPLE_FILES)))
def test_any_mutated_plan_gives_diagnostics(chance: random.Random, file: str) -> None:
    """The sample plan with fragments put in, cut out or doubled never raises either."""
    text = SAMPLE_FILES[file]
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.randrange(30))
        put = chance.choice([*FRAGMENTS, text[start:end] * 2, ""])
        text = text[:start] + put + text[chance.choice([start, end]) :]
    _read_anything({**SAMPLE_FILES, file: text})


def _read_anything(files: dict[str, str]) -> None:
    reading = read_files(files, now=NOW)
    assert (reading.plan is None) == bool(errors_of(reading))
    assert isinstance(render(reading.diagnostics, reading.sources), str)
    for one in reading.diagnostics:
        assert one.message.isprintable()
        assert one.line <= len(reading.sources.get(one.file, "").splitlines()) + 1
