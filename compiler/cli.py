"""The command line: `tidegate COMMAND`, and what its exit codes mean.

0  done                     3  refused: nothing was changed
1  faults in the plan       4  Redis or the store is away, or holds damaged bytes
2  usage                    5  published, but not yet on every gateway
"""

import gc
import os
import sys
from collections.abc import Iterable
from importlib import import_module

import typer
from typer.exceptions import Abort, TyperException

from compiler.commands.console import err
from gateway.errors import TidegateError

PLAN_FAULTS, USAGE, REFUSED, AWAY, A_BUG = 1, 2, 3, 4, 70

CODES = {
    "compiler.diagnostic.PlanError": PLAN_FAULTS,
    "compiler.packaging.members.PackError": PLAN_FAULTS,
    "compiler.refusal.Refused": REFUSED,
    "compiler.packaging.upload_fault.UploadRefusedError": REFUSED,
    "compiler.packaging.upload_fault.UploadError": USAGE,
    "compiler.packaging.claims.SignatureError": REFUSED,
    "compiler.packaging.encryption.EncryptionError": REFUSED,
    "compiler.key_file.KeyFileError": USAGE,
    "gateway.errors.RequestError": USAGE,
    "gateway.errors.StoreError": AWAY,
    "gateway.errors.FormatError": AWAY,
}
"""What a fault's class means for the exit code; by name, so that only what is used is imported."""

app = typer.Typer(
    help="Release mini programs and app bundles: plans in, epochs out.",
    epilog="Start with `tidegate init DIR`. Settings are environment variables too: TIDEGATE_…",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

COMMANDS = {
    "up": "up.up",
    "init": "plans.init",
    "validate": "plans.validate",
    "schema": "plans.schema",
    "diff": "publishing.diff",
    "push": "publishing.push",
    "compile": "plans.compile_plan",
    "pause": "overriding.pause",
    "resume": "overriding.resume",
    "end": "overriding.end",
    "percent": "overriding.percent",
    "withdraw": "overriding.withdraw",
    "reinstate": "overriding.reinstate",
    "check-after": "overriding.check_after",
    "revert": "publishing.revert",
    "restore": "upkeep.restore",
    "pull": "upkeep.pull",
    "gc": "upkeep.gc",
    "status": "watching.status",
    "explain": "explaining.explain",
    "pack": "packages.pack",
    "upload": "packages.upload",
    "keygen": "keys.keygen",
    "sign": "signatures.sign",
    "verify": "signatures.verify",
    "encrypt": "encrypting.encrypt",
    "patch": "patches.patch",
    "census": "counts.census",
    "reports": "counts.reports",
    "control": "controlling.control",
    "redis-acl": "access.redis_acl",
    "history": "past.history_app",
    "allowlist": "lists.allowlist_app",
    "switch": "switches.switch_app",
    "window": "windows.window_app",
    "loadtest": "loadtest.loadtest",
    "capacity": "capacity.capacity",
}
"""Where each command is: to import all of them takes longer than an emergency has."""


@app.callback()
def _named() -> None:
    """Keep the command's name needed: an app of one command alone would go without."""


def register(names: Iterable[str]) -> None:
    """Add commands to the app, if they are not there, importing only theirs."""
    there = {each.name for each in app.registered_commands}
    there |= {each.name for each in app.registered_groups}
    for name in names:
        if name in there:
            continue
        module, _, attribute = COMMANDS[name].partition(".")
        home = import_module(f"compiler.commands.{module}")
        found = getattr(home, attribute)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            # A command that only passes its arguments on says so beside itself.
            app.command(name, **getattr(home, "TYPER", {}))(found)


def main() -> None:
    """Run a command; every fault is a sentence and an exit code, never a traceback."""
    # A plan of 10,000 apps is millions of small objects and no garbage: look for cycles seldom.
    gc.set_threshold(200_000, 20, 50)
    register([sys.argv[1]] if sys.argv[1:2] and sys.argv[1] in COMMANDS else COMMANDS)
    try:
        code = app(standalone_mode=False)
    except (Abort, KeyboardInterrupt):
        code = REFUSED
    except TyperException as fault:
        # Usage errors know how to show themselves, with the command's own --help.
        show = getattr(fault, "show", None)
        if show is None:
            err.print(str(fault), markup=False)
        else:
            show()
        code = USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except TidegateError as fault:
        kinds = (f"{kind.__module__}.{kind.__name__}" for kind in type(fault).__mro__)
        code = next((CODES[kind] for kind in kinds if kind in CODES), A_BUG)
        err.print(str(fault), markup=False)
    except UnicodeEncodeError as fault:
        err.print(f"An argument holds text that is not UTF-8: {fault.object!r:.200}.", markup=False)
        code = USAGE
    except OSError as fault:
        err.print(f"{fault.filename or 'tidegate'}: {fault.strerror or fault}", markup=False)
        code = USAGE
    except Exception as fault:
        if os.environ.get("TIDEGATE_DEBUG"):
            raise
        err.print(
            f"This is a bug in Tidegate: {type(fault).__name__}: {fault}. Nothing else is known "
            "to be wrong. Run it again with TIDEGATE_DEBUG=1 and report what it prints.",
            markup=False,
        )
        code = A_BUG
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
