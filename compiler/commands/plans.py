"""Commands on a plan's files: init, validate, schema, compile."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from compiler.commands.console import note, progress, say, say_json
from compiler.commands.session import AsJson, PlanFolder, StorePlace
from compiler.compilation import compile_folder, load
from compiler.diagnostic import Severity, has_errors, render
from compiler.image_file import save_image
from compiler.language.schema import json_schema
from compiler.language.starting import start_plan
from compiler.publication.checkout import read_checkout
from compiler.storage.store import open_store

_HERE = Path()


def init(folder: Annotated[Path, typer.Argument(metavar="DIR")]) -> None:
    """Start a plan: a commented first one that is valid as it stands."""
    for line in start_plan(folder):
        say(line)
    say(f"Now: tidegate validate {folder}")


def validate(plan: PlanFolder = _HERE, store: StorePlace = "", as_json: AsJson = False) -> None:
    """Report every fault of a plan at once: file, line, caret, and how to mend it."""
    with progress() as show:
        loaded = load(plan, open_store(store) if store else None, int(time.time()), show)
    found = loaded.diagnostics
    if as_json:
        say_json([{name: getattr(each, name) for name in each.__slots__} for each in found])
    elif found:
        say(render(found, loaded.reading.sources))
    if has_errors(found):
        raise typer.Exit(1)
    if not as_json:
        warnings = sum(each.severity is Severity.WARNING for each in found)
        apps = len(loaded.plan.apps)
        ids = sum(each.count for each in loaded.lists)
        say(f"The plan is valid: {apps} apps, {ids:,} listed ids, {warnings} warnings.")


def schema() -> None:
    """Print the JSON Schema of the plan files, so that editors complete and check them."""
    typer.echo(json.dumps(json_schema(), indent=2))


def compile_plan(
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    plan: PlanFolder = _HERE,
    store: StorePlace = "",
) -> None:
    """Compile a plan into one file, to be pushed later with `tidegate push FILE`."""
    with progress() as show:
        image, loaded = compile_folder(
            plan, open_store(store) if store else None, int(time.time()), progress=show
        )
    if loaded.diagnostics:
        note(render(loaded.diagnostics, loaded.reading.sources))
    checkout = read_checkout(plan)
    size = save_image(image, checkout.commit if checkout else "", out)
    say(f"{out}: {len(image.contents['programs'])} apps, {size:,} bytes, {image.root.hex()[:16]}")
