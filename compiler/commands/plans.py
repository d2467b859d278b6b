"""Commands on a plan's files: init, validate, schema, compile."""

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from compiler.commands.console import counted, note, progress, say, say_json
from compiler.commands.session import AsJson, PlanFolder, StorePlace
from compiler.compilation import compile_folder, load
from compiler.diagnostic import Severity, has_errors, render
from compiler.image_file import save_image
from compiler.language.schema import json_schema
from compiler.language.starting import FILES, start_plan
from compiler.publication.checkout import read_checkout
from compiler.storage.store import open_store

_HERE = Path()


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Made, if it is not there.")],
) -> None:
    """Start a plan: a first one, with comments that teach.

    Nothing is ever overwritten. Two small versions to pack and upload lie under DIR/bundles.
    Phones download from TIDEGATE_FILES_LISTEN if that is set, as `tidegate up` sets it.
    """
    for line in start_plan(folder, os.environ.get("TIDEGATE_FILES_LISTEN") or FILES):
        say(line)
    say(f"Now: tidegate validate {folder}")


def validate(plan: PlanFolder = _HERE, store: StorePlace = "", as_json: AsJson = False) -> None:
    """Report every fault of a plan at once.

    Each with its file and line, a caret under the fault, and how to mend it. Needs no Redis; the
    store only for lists that are kept there.
    """
    with progress() as show:
        loaded = load(
            plan, open_store(store, create=False) if store else None, int(time.time()), show
        )
    found = loaded.diagnostics
    if as_json:
        say_json([{name: getattr(each, name) for name in each.__slots__} for each in found])
    elif found:
        say(render(found, loaded.sources))
    if has_errors(found):
        raise typer.Exit(1)
    if not as_json:
        for line in loaded.dropped:
            say(line)
        warnings = sum(each.severity is Severity.WARNING for each in found)
        ids = sum(each.count for each in loaded.lists)
        counts = ((len(loaded.plan.apps), "app"), (ids, "listed id"), (warnings, "warning"))
        say(f"The plan is valid: {', '.join(counted(*each) for each in counts)}.")


def schema() -> None:
    """Print the JSON Schema of the plan's files.

    With it an editor completes and checks them: tidegate schema > plan.schema.json
    """
    typer.echo(json.dumps(json_schema(), indent=2))


def compile_plan(
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    plan: PlanFolder = _HERE,
    store: StorePlace = "",
) -> None:
    """Compile a plan into one file, to be pushed later.

    `tidegate push FILE` publishes the same bytes that a push of the plan would publish now, and
    notes the plan's Git commit in the epoch. Needs no Redis.
    """
    with progress() as show:
        image, loaded = compile_folder(
            plan,
            open_store(store, create=False) if store else None,
            int(time.time()),
            progress=show,
        )
    if loaded.diagnostics:
        note(render(loaded.diagnostics, loaded.sources))
    for line in loaded.dropped:
        note(line)
    checkout = read_checkout(plan)
    size = save_image(image, checkout.commit if checkout else "", out)
    apps = counted(len(image.contents["programs"]), "app")
    say(f"{out}: {apps}, {size:,} bytes, {image.root.hex()[:16]}")
