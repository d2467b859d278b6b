"""The reference client as a command: `python -m loadtest.client --help`."""

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtest.client.answer import shown
from loadtest.client.fault import UnusableError
from loadtest.client.limits import MIB, Limits
from loadtest.client.opening import FORMS
from loadtest.client.result import Outcome, Result
from loadtest.client.trust import PublicKey, Trust, read_identities, read_keys
from loadtest.client.update import Client

DONE, NOT_DONE, USAGE, INTERRUPTED = 0, 1, 2, 130
LEAST_WAIT = 1.0
"""Seconds between rounds of --watch, however small check_after is."""

_MEMBERS = {
    *("user", "device", "platform", "os_version", "client_version", "brand", "model", "network"),
    *("city", "region", "locale", "rom_version", "channel", "dry_run"),
}
"""Those of a check, but for apps, accept and custom."""
_MOST_LINE = 2_000  # characters of a detail; each URL that failed is in it
_NOT_DONE = (Outcome.FAILED, Outcome.UNANSWERED, Outcome.INVALID, Outcome.BUSY)

_ABOUT = """\
A phone: asks a Tidegate gateway about apps, and keeps their packages in a folder.

One round: check; for each app with an update fetch the patch, else the full package; verify
size, SHA-256 and signature; decrypt, decompress or patch; install at one stroke; report. What
goes wrong leaves what is installed. Without --watch it does one round, due or not, and ends.
"""

_EXAMPLES = """\
examples:
  python -m loadtest.client --gateway http://127.0.0.1:8080 --root /tmp/phone \\
      --app 2021000000000001 --phone user=u-1001 --phone platform=android \\
      --phone client_version=10.2.3 --phone network=WIFI --phone custom.tier=gold
  … --key keys/dev-ann.pub --key plan/workspace.yaml      only what one of these keys has signed
  … --identity phones.txt --watch                         open encrypted packages; go on asking

under --root: apps/APP/SHA256 are the packages, apps/APP/installed.json says which is installed
exit codes: 0 all apps are as the gateway wants them, 1 not all, 2 usage
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.client",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--gateway", required=True, metavar="URL", help="such as http://127.0.0.1:8080")
    add("--root", required=True, type=Path, metavar="DIR", help="the phone's own folder")
    add("--app", required=True, action="append", metavar="APP", help="an app's id; again for more")
    add(
        "--phone",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a member of the check: user, device, platform, os_version, client_version, brand, "
        "model, network (WIFI), city, region, locale, …, or custom.NAME, whose value is a number, "
        "true or false where it looks like one",
    )
    add(
        "--accept",
        metavar="NAMES",
        help="what may be offered, of gzip,zstd,bsdiff4,zstd-patch (all); '' for plain files only",
    )
    add(
        "--key",
        action="append",
        default=[],
        metavar="FILE|ID=BASE64",
        help="trusted keys: the NAME.pub of `tidegate keygen NAME --for packages`, a "
        "workspace.yaml with keys:, or one key; with any, nothing unsigned is installed",
    )
    add(
        "--identity",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="age identities (AGE-SECRET-KEY-1…) that open encrypted packages",
    )
    add(
        "--token",
        type=Path,
        metavar="FILE",
        help="the token (JWT) that says who the phone's user is, read anew for each request: for a "
        "workspace with identity:",
    )
    add("--most", type=int, default=512, metavar="MIB", help="refuse larger packages (512)")
    add("--watch", action="store_true", help="ask every check_after, kept over restarts")
    add("--json", action="store_true", help="a line of JSON for each app and round")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; give its exit code."""
    options = _parser().parse_args(arguments)
    try:
        client = _client(options)
    except (UnusableError, OSError) as error:
        said = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        print(f"Error: {said}.", file=sys.stderr)
        return USAGE
    for warning in _warnings(options):
        print(f"Warning: {warning}.", file=sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an app may say more than ASCII
    try:
        while True:
            if options.watch:
                _wait(client.seconds_left())
            results = client.update()
            for result in results:
                print(_line(result, as_json=options.json), flush=True)
            if not options.watch:
                return NOT_DONE if any(each.outcome in _NOT_DONE for each in results) else DONE
            time.sleep(LEAST_WAIT)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # who read the lines has gone; at the end they would be written again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_DONE


def _client(options: argparse.Namespace) -> Client:
    """Make the client. Raises UnusableError, OSError."""
    phone = _phone(options.phone)
    if options.accept is not None:
        phone["accept"] = [name.strip() for name in options.accept.split(",") if name.strip()]
    keys: dict[str, PublicKey] = {}
    for text in options.key:
        keys |= read_keys(text)
    identities = [line for file in options.identity for line in read_identities(file)]
    limits = Limits(package_bytes=options.most * MIB)
    if options.token is not None:
        options.token.read_bytes()  # a name that is wrong is said at once
    trust = Trust(keys, identities)
    return Client(options.root, options.gateway, phone, options.app, trust, limits, options.token)


def _warnings(options: argparse.Namespace) -> list[str]:
    """Name what is sent and probably not meant, or left out: a later gateway may know it."""
    names = (pair.partition("=")[0] for pair in options.phone)
    unknown = [name for name in names if name not in _MEMBERS and not name.startswith("custom.")]
    said = [
        f"--phone {name}: gateways know no such member (custom.{name} may be meant)"
        for name in unknown
    ]
    accept = [name.strip() for name in (options.accept or "").split(",")]
    closed = [name for name in accept if name and name not in FORMS]
    said += [
        f"--accept {name} is left out: this client opens {', '.join(FORMS)}" for name in closed
    ]
    return said


def _phone(pairs: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs. Raises UnusableError."""
    phone: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise UnusableError(f"--phone {pair} is not written as NAME=VALUE")
        if name in ("apps", "accept", "custom"):
            raise UnusableError(
                f"--phone {name} is no such member: use --app, --accept, custom.NAME"
            )
        if name.startswith("custom."):
            custom[name.removeprefix("custom.")] = _scalar(value)
        else:
            phone[name] = value == "true" if name == "dry_run" else value
    return {**phone, "custom": custom} if custom else phone


def _scalar(text: str) -> Any:
    """Read a value as JSON reads numbers, true, false and quoted text; all else is text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str | int | float) else text


def _wait(seconds: float) -> None:
    """Sleep; in slices, as a machine's own sleep does not count in a longer one."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, 30.0))


def _line(result: Result, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(asdict(result))
    version = shown(result.version or "nothing", most=80)
    detail = f" ({shown(result.detail, _MOST_LINE)})" if result.detail else ""
    return f"{result.app}: {result.outcome}, has {version}{detail}"


if __name__ == "__main__":
    sys.exit(main())
