"""`tidegate init`: the first plan is valid, teaches, and never overwrites."""

import json
from pathlib import Path

import pytest

from compiler.commands.plans import init
from compiler.diagnostic import PlanError, has_errors
from compiler.language.reading import read_folder
from compiler.language.starting import SAMPLE, start_plan
from compiler.plan import Audience

NOW = 1_790_000_000
USUAL = "http://127.0.0.1:8090"


def test_the_first_plan_is_valid(tmp_path: Path) -> None:
    """It has no errors; all that is doubted is that nothing was uploaded yet."""
    folder = tmp_path / "new" / "plan"
    written = start_plan(folder)
    assert written == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    reading = read_folder(folder, now=NOW)
    assert not has_errors(reading.diagnostics)
    assert all("tidegate upload" in one.message for one in reading.diagnostics)
    assert reading.plan is not None
    (app,) = reading.plan.apps
    assert [(one.package, one.audience) for one in app.releases] == [
        ("1.0.0.2", Audience(lists=("staff",))),
        ("1.0.0.2", Audience(basis_points=1250)),
        ("1.0.0.1", Audience()),
    ]
    assert reading.plan.workspace.cdn[0].bases == (USUAL,)
    assert all("#" in (folder / file).read_text() for file in written if file.endswith(".yaml"))


@pytest.mark.parametrize(
    ("listen", "base"),
    [("127.0.0.1:9191", "http://127.0.0.1:9191"), (":9191", "http://127.0.0.1:9191"), ("", USUAL)],
)
def test_packages_come_from_where_they_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listen: str, base: str
) -> None:
    """The first plan's downloads come from TIDEGATE_FILES_LISTEN, where that is set."""
    monkeypatch.setenv("TIDEGATE_FILES_LISTEN", listen)
    init(tmp_path / "plan")
    plan = read_folder(tmp_path / "plan", now=NOW).plan
    assert plan is not None
    assert plan.workspace.cdn[0].bases == (base,)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """Every file in the way is named, and nothing else is written."""
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "coffee.yaml").write_text("mine")
    (tmp_path / "rules.yaml").write_text("mine")
    with pytest.raises(PlanError) as raised:
        start_plan(tmp_path)
    assert [one.file for one in raised.value.diagnostics] == [
        str(tmp_path / "apps" / "coffee.yaml"),
        str(tmp_path / "rules.yaml"),
    ]
    assert not (tmp_path / "workspace.yaml").exists()
    assert (tmp_path / "rules.yaml").read_text() == "mine"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file where a folder should be is a sentence, not a traceback."""
    (tmp_path / "plan").write_text("")
    with pytest.raises(PlanError, match="cannot be written"):
        start_plan(tmp_path / "plan")


@pytest.mark.parametrize("version", ["1.0.0.1", "1.0.0.2"])
def test_the_sample_bundles_are_miniapps(version: str) -> None:
    """Their manifests name the app and version of the plan, and files that exist."""
    folder = SAMPLE / "bundles" / version
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["app_id"] == "2021000000000001"
    assert manifest["version"]["name"] == version
    assert {"app.js", "app.css", "pages"} <= {path.name for path in folder.iterdir()}
    assert all(list(folder.glob(f"{page}.*")) for page in manifest["pages"])
    assert all((folder / icon["src"]).is_file() for icon in manifest["icons"])
