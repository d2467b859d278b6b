"""`python -m loadtest` and `tidegate loadtest`: Locust with our phones, and good defaults."""

import sys
from argparse import SUPPRESS, ArgumentParser
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HELP = """\
tidegate loadtest [URL] [OPTION…]: phones ask a gateway, and every hundredth answer is judged.

  tidegate loadtest http://127.0.0.1:8080 --store .tidegate/store --workspace demo
  tidegate loadtest URL --shape ramp -u 200       to the breaking point
  tidegate loadtest URL --web                     the same, from Locust's web page
  tidegate loadtest URL --processes 2             a worker a core

It is Locust: whatever `locust --help` lists is an option here, too. Unless they
are given: --headless, -u 20 (streets of 500 phones), all at once, and -t 60s. Ours are below.
Exit codes: 0 all levels held, 1 one was not, 2 usage, 4 gateway or store away.
loadtest/README.md teaches it.
"""
LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_USERS, _SECONDS = "20", "60s"


def locust_arguments(arguments: Sequence[str]) -> list[str]:
    """Give Locust's arguments for ours: a URL first is the host; defaults where none is given."""
    given = list(arguments)
    if given and not given[0].startswith("-"):
        given[:1] = ["--host", given[0]]
    found = ["-f", str(LOCUSTFILE)]
    if "--worker" in given:
        return [*found, *given]
    if "--web" in given:
        given.remove("--web")
    elif "--autostart" not in given:
        found += ["--headless", "--only-summary"]
    users = _value(given, "-u", "--users")
    if users is None:
        found += ["-u", _USERS]
    if _value(given, "-r", "--spawn-rate") is None:
        found += ["-r", str(min(int(users), 100)) if users and users.isdigit() else _USERS]
    if _value(given, "-t", "--run-time") is None and "--web" not in arguments:
        found += ["-t", _SECONDS]
    return [*found, *given]


def options_text() -> str:
    """Say what our options are."""
    from loadtest.options import add_options  # noqa: PLC0415 - Locust patches modules before

    class Parser(ArgumentParser):
        """Knows no web page."""

        def add_argument(self, *names: str, include_in_web_ui: bool = True, **more: Any) -> Any:  # noqa: ARG002
            return super().add_argument(*names, **more)

    parser = Parser(usage=SUPPRESS, add_help=False)
    add_options(parser)
    return parser.format_help()


def _value(given: Sequence[str], short: str, long: str) -> str | None:
    """Give an option's value, in any of the ways to write it."""
    for at, each in enumerate(given):
        if each in {short, long}:
            return given[at + 1] if at + 1 < len(given) else ""
        if each.startswith(f"{long}="):
            return each.partition("=")[2]
        if each.startswith(short) and not each.startswith("--"):
            return each.removeprefix(short)
    return None


def main() -> None:
    """Run Locust; the exit code is its own, which loadtest/conductor.py decides."""
    if find_spec("locust") is None:
        print(
            "Locust is not installed. Type: python -m pip install 'tidegate[loadtest]'",
            file=sys.stderr,
        )
        sys.exit(2)
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(HELP + options_text())
        return
    sys.argv = ["locust", *locust_arguments(arguments)]
    from locust.main import main as run  # noqa: PLC0415 - it patches every module for gevent

    run()


if __name__ == "__main__":
    main()
