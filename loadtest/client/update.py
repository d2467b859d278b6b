"""One round of a client: check, fetch, verify, install, report.

root/lock             held during a round, so that two processes never work in one folder
root/diary.json       when to ask next, and reports that are still to be sent
root/apps/            what is installed (shelf.py)
root/downloads/       what is being fetched, by SHA-256, kept over restarts
root/opening/         what is being opened; emptied at each round
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import urllib3

from loadtest.client.answer import IDENTITY, Answer, AppAnswer, Download, Offer
from loadtest.client.diary import Diary
from loadtest.client.durable import PRIVATE_FOLDER, make_folder, private
from loadtest.client.fault import UnusableError
from loadtest.client.gateway import Gateway
from loadtest.client.limits import Limits
from loadtest.client.opening import FORMS, make_package
from loadtest.client.result import Outcome, Result
from loadtest.client.shelf import Installed, Shelf, is_whole
from loadtest.client.transfer import fetch
from loadtest.client.trust import Trust
from loadtest.client.version import is_lower, same_version

MOST_APPS = 100
"""That one check may ask about."""
REPORTS_AT_ONCE = 40
"""In one request: a gateway takes 100, and 64 KiB."""

_APP_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_STATUSES = {"latest", "none", "withdrawn", "unknown", "invalid"}
"""Those that bring no package; more may come with later gateways."""
_FAULTS = (UnusableError, OSError, MemoryError)
_MOST_OVERHEAD = 17 << 10
_OVERHEAD_SHIFT = 7
"""What a package may grow by on its way: 17 KiB and a 128th. age's head may have 16 KiB of it, its
body a 4096th; gzip and zstd take less than a 250th of what they cannot compress."""


class Client:
    """A phone: it keeps packages of `apps` under `root`, as a gateway tells it to.

    `phone` has the check's members, such as user, device, platform, network, custom. Its
    `accept`, by default all that this client opens, is what the gateway may choose from. `token`
    is the file of the token that proves who it is, for a workspace with an identity provider.
    Raises UnusableError for a gateway, apps or a phone that no check can be made of.
    """

    def __init__(
        self,
        root: Path,
        gateway: str,
        phone: Mapping[str, Any],
        apps: Sequence[str],
        trust: Trust,
        limits: Limits | None = None,
        token: Path | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._root = root
        if not gateway.lower().startswith(("http://", "https://")):
            raise UnusableError(
                f"{gateway!r:.80} is no gateway's URL: it begins with http:// or https://"
            )
        self._apps = _checked_apps(apps)
        self._phone = _checked_phone(phone)
        self._trust = trust
        self._pool = urllib3.PoolManager()
        self._gateway = Gateway(gateway, self._pool, self.limits, token)
        self._shelf = Shelf(root / "apps")
        self._diary = Diary(root / "diary.json")

    def installed(self, app: str) -> Installed | None:
        """Give the installed package, read from the disk and verified; None for no whole one."""
        return self._shelf.installed(app) if app in self._apps else None

    def seconds_left(self) -> float:
        """Say how many seconds to wait before the next round, also over restarts."""
        return self._diary.seconds_left()

    def update(self) -> list[Result]:
        """Do one round now, due or not. Never raises for what gateway, CDN or disk do."""
        try:
            with self._alone():
                return self._round()
        except BlockingIOError:
            return self._all(Outcome.BUSY, "another client is at work in this folder")
        except OSError as error:
            return self._all(Outcome.FAILED, _said(error))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes out of the folder. Raises BlockingIOError when one is in."""
        self._root.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        with open(self._root / "lock", "wb", opener=private) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    def _all(self, outcome: Outcome, detail: str) -> list[Result]:
        return [Result(app, outcome, _version(self.installed(app)), detail) for app in self._apps]

    def _round(self) -> list[Result]:
        shutil.rmtree(self._root / "opening", ignore_errors=True)
        have = {app: self.installed(app) for app in self._apps}
        try:
            versions = {app: _version(package) for app, package in have.items()}
            answer = self._gateway.check(self._phone, versions)
        except UnusableError as error:
            self._diary.unanswered()
            self._diary.save()
            return self._all(Outcome.UNANSWERED, str(error))
        self._diary.answered(answer.check_after)
        self._diary.save()  # now: who is killed while fetching still asks no earlier
        results = [self._treat(app, answer, have[app]) for app in self._apps]
        self._forget_downloads(answer)
        self._forget_packages(results, answer, have)
        shutil.rmtree(self._root / "opening", ignore_errors=True)
        self._report()
        return results

    def _treat(self, app: str, answer: Answer, have: Installed | None) -> Result:
        """Do what the answer says of one app. What goes wrong leaves what is installed."""
        said = answer.apps.get(app, AppAnswer("invalid", detail="the answer leaves this app out"))
        try:
            match said.status:
                case "update" | "rollback":
                    if said.status == "update" and not said.forced and have is not None:
                        self._shelf.mark(have, may_open=True)  # reinstated, like below
                    return self._install(app, said, have)
                case "withdrawn":
                    if have is not None:
                        self._shelf.mark(have, may_open=False)
                case "latest" | "none":
                    if have is not None:  # it may have been withdrawn, and reinstated since
                        self._shelf.mark(have, may_open=True)
        except OSError as error:
            return Result(app, Outcome.FAILED, _version(have), _said(error))
        known = said.status in _STATUSES
        outcome = Outcome(said.status) if known else Outcome.IGNORED
        detail = said.detail if known else f"the status {said.status!r:.40} is not known here"
        return Result(app, outcome, _version(have), detail)

    def _install(self, app: str, said: AppAnswer, have: Installed | None) -> Result:
        """Bring the offered package, or say why it is not here."""
        offer, before = said.offer, _version(have)
        if offer is None:
            return Result(app, Outcome.FAILED, before, said.detail)
        if offer.wifi_only and str(self._phone.get("network")).casefold() != "wifi":
            detail = f"{offer.version} is to be fetched over Wi-Fi only"
            return Result(app, Outcome.WAITING, before, detail)
        try:
            if offer.size > self.limits.package_bytes:
                raise UnusableError(f"a package of {offer.size:,} bytes is too large")
            if said.status != "rollback" and have and is_lower(offer.version, have.version):
                raise UnusableError(f"{offer.version} is lower, and only a rollback goes down")
            # Before the download: what the signature says is compared with the answer, and the
            # file with the answer once it is here. So a forged answer costs no byte.
            self._trust.check(app, offer)
            place = self._shelf.place(app, offer.sha256)
            came, reason = "it was here already", ""
            if not is_whole(place, offer.size, offer.sha256):
                place, came, reason = self._bring(app, offer, have)
            self._shelf.install(app, place, offer)
        except _FAULTS as error:
            self._diary.note(app, "failed", before, offer, _said(error))
            return Result(app, Outcome.FAILED, before, _said(error))
        outcome = Outcome.ROLLED_BACK if said.status == "rollback" else Outcome.INSTALLED
        self._diary.note(app, outcome, before, offer, reason)
        return Result(app, outcome, offer.version, f"{reason}; {came}" if reason else came)

    def _bring(self, app: str, offer: Offer, have: Installed | None) -> tuple[Path, str, str]:
        """Give a verified file, how it came, and what failed before: the first way that leads.

        Raises UnusableError with why each of them does not.
        """
        reasons = []
        for download in offer.downloads:
            kind = "the full package" if download.base is None else "the patch"
            try:
                file = self._open(app, offer, download, have)
            except _FAULTS as error:
                reasons.append(f"{kind}: {_said(error)}")
            else:
                came = f"by {kind} ({download.form}, {download.size:,} bytes)"
                return file, came, "; ".join(reasons)
        raise UnusableError("; ".join(reasons))

    def _open(self, app: str, offer: Offer, download: Download, have: Installed | None) -> Path:
        """Fetch one download, and make the package of it. Raises UnusableError, OSError."""
        self._refuse(download, offer.size, have)
        work, partial = self._root / "opening", self._partial(download)
        for folder in (work, partial.parent):
            make_folder(folder)
        fetch(self._pool, download, partial, self.limits)
        self._diary.note(app, "downloaded", _version(have), offer)
        old = have.path if have is not None else None
        file = make_package(download, partial, old, offer.size, work, self._trust)
        if not is_whole(file, offer.size, offer.sha256):
            raise UnusableError("it makes another file than the gateway announced")
        return file

    def _refuse(self, download: Download, size: int, have: Installed | None) -> None:
        """Refuse, before anything is fetched, what could not be opened, or is too much.

        `size` is the package's. Raises UnusableError.
        """
        if download.form not in (IDENTITY, *self._phone["accept"]):
            raise UnusableError(f"this client does not open {download.form:.40}")
        if download.encrypted and not self._trust.identities:
            raise UnusableError("it is encrypted, and there is no identity to open it with")
        if download.size > self.limits.package_bytes:
            raise UnusableError(f"a download of {download.size:,} bytes is too large")
        if download.base is not None and download.size >= size:
            raise UnusableError("it is as large as the package itself")
        if download.size > size + (size >> _OVERHEAD_SHIFT) + _MOST_OVERHEAD:
            raise UnusableError(
                f"a download of {download.size:,} bytes is too large for {size:,} of a package"
            )
        if download.base is not None and (
            have is None or not same_version(download.base, have.version)
        ):
            raise UnusableError(f"it is for {download.base:.40}, which is not installed")

    def _partial(self, download: Download) -> Path:
        return self._root / "downloads" / download.sha256

    def _forget_downloads(self, answer: Answer) -> None:
        """Delete what was fetched of packages that are installed, or offered no more."""
        kept = {
            download.sha256
            for app in self._apps
            if (said := answer.apps.get(app)) is not None and said.offer is not None
            for download in said.offer.downloads
            if not self._shelf.place(app, said.offer.sha256).exists()
        }
        with suppress(OSError):  # the next round tries again
            for partial in (self._root / "downloads").iterdir():
                if partial.name not in kept:
                    partial.unlink()

    def _forget_packages(
        self, results: Sequence[Result], answer: Answer, had: Mapping[str, Installed | None]
    ) -> None:
        """Delete all packages but those installed now, or as the round began, or offered."""
        for result in results:
            said, before = answer.apps.get(result.app), had[result.app]
            if before is not None or result.outcome in (Outcome.INSTALLED, Outcome.ROLLED_BACK):
                offer = said.offer if said is not None else None
                kept = {package.sha256 for package in (before, offer) if package is not None}
                self._shelf.tidy(result.app, kept)

    def _report(self) -> None:
        """Send what is to be reported; what does not arrive is kept for the next round."""
        if self._phone.get("dry_run") is True:
            self._diary.reports = []
        while reports := self._diary.reports:
            self._diary.save()
            if not self._gateway.report(self._phone, reports[:REPORTS_AT_ONCE]):
                return
            self._diary.reports = reports[REPORTS_AT_ONCE:]
        self._diary.save()


def _checked_apps(apps: Sequence[str]) -> tuple[str, ...]:
    if not 0 < len(apps) <= MOST_APPS:
        raise UnusableError(f"{len(apps)} apps are named, and 1 to {MOST_APPS} can be")
    for app in apps:
        if not 0 < len(app) <= 64 or not _APP_CHARS.issuperset(app) or app in (".", ".."):
            raise UnusableError(f"{app!r:.80} is no app id: up to 64 letters, digits and ._-")
    return tuple(dict.fromkeys(apps))


def _checked_phone(phone: Mapping[str, Any]) -> dict[str, Any]:
    accept = phone.get("accept", FORMS)
    found = {**phone, "accept": [form for form in accept if form in FORMS]}
    try:
        json.dumps(found)
    except (TypeError, ValueError) as error:
        raise UnusableError(f"the phone cannot be written as JSON: {error}") from error
    return found


def _version(package: Installed | None) -> str | None:
    return None if package is None else package.version


def _said(error: BaseException) -> str:
    """Say what went wrong; a disk says it in the system's words."""
    if isinstance(error, OSError):
        return f"the disk refused: {error.strerror or type(error).__name__}"
    if isinstance(error, MemoryError):
        return "there is too little memory"
    return str(error)
