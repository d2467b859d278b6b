"""`tidegate upload`: packages go to the store in every form, and their records into the plan.

    store   files/<2 hex>/<64 hex>.zip       a form's bytes under their SHA-256; a CDN serves this
    plan    packages/<app>/<version>.json    the record (record_file.py), committed with the plan

Everything is looked at before anything is sent. Then forms are made (forms.py) by as many threads
as there are cores, while others send them; each is read back from the store, and a record is
written once all forms of its version are there. What is there already is read, not sent again: so
whenever an upload ends early, the same command goes on where it stopped.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from compiler.cores import cores
from compiler.packaging.forms import COMPRESSIONS, MadeForm, identity_form, make_form
from compiler.packaging.meter import Meter
from compiler.packaging.package_file import PackageFile, read_package
from compiler.packaging.package_key import PackageKey
from compiler.packaging.record_file import (
    FORMAT,
    IDENTITY,
    locked_record,
    read_record,
    record_entry,
    record_path,
    recorded_forms,
    refuse_equal_version,
    write_record,
)
from compiler.packaging.record_signatures import MEMBERS, signed_members
from compiler.packaging.signature_file import beside, read_texts
from compiler.packaging.upload_fault import UploadError, UploadRefusedError
from compiler.plan import Form
from compiler.progress import Progress, quiet
from compiler.storage.parallel import in_parallel
from compiler.storage.store import Digest, Store
from gateway.errors import StoreError
from gateway.version import PLAN_PARTS, parse_version

SENDERS = 4
"""Files sent at once, each in parts: so many as fill a line, and few enough for the memory."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What is so now: the record's file, the object's path in the store, and the version.

    `size` is in bytes, `sha256` in hex, both of the file as it is installed. `recorded` and
    `stored` tell what this call did itself: a record written or completed, any form sent.
    """

    app: str
    version: str
    record: Path
    path: str
    size: int
    sha256: str
    forms: tuple[Form, ...]
    signatures: int
    recorded: bool
    stored: bool

    @property
    def message(self) -> str:
        """Say in a sentence what was done."""
        sizes = [f"{self.size:,} bytes"]
        sizes += [f"{each.size:,} as {each.compression}" for each in self.forms[1:]]
        if self.signatures:
            sizes.append(f"signed by {self.signatures} key{'s' if self.signatures > 1 else ''}")
        what = f"{self.app} {self.version} ({', '.join(sizes)})"
        if self.recorded:
            return f"{what} is uploaded; commit {self.record} with the plan."
        if self.stored:
            return f"{what} was recorded already; its file is in this store now."
        return f"{what} is there already, with the same bytes: nothing changed."


def upload(package: Path, *, app: str, version: str | None, plan: Path, store: Store) -> Uploaded:
    """Upload one package; see `upload_all`."""
    return upload_all([package], app=app, version=version, plan=plan, store=store)[0]


def upload_all(
    files: Sequence[Path],
    *,
    app: str | None,
    version: str | None,
    plan: Path,
    store: Store,
    signatures: Path | None = None,
    keys: Sequence[PackageKey] = (),
    progress: Progress = quiet,
) -> list[Uploaded]:
    """Put packages into the store, read them back, and write their records into the plan's folder.

    `app` and `version` may be None for MiniApps, which name their own; a version is for one file.
    Signatures are those in FILE.jws beside each file, or of one file those in `signatures`; `keys`
    are those that the plan names. `progress` hears of bytes.
    Raises UploadError (an input is wrong), UploadRefusedError (a version has other bytes, or is
    not signed as it must be), SignatureError (signatures cannot be read), StoreError; what was
    finished before stays, records and all.
    """
    if not plan.is_dir():
        raise UploadError(f"There is no plan at {plan}. Name the plan's folder.")
    packages = list(in_parallel(lambda file: read_package(file, app, version), files, cores()))
    _refuse_twice(packages)
    orders = [
        _order(package, plan, signatures or beside(package.file), keys) for package in packages
    ]
    with TemporaryDirectory(prefix="tidegate-") as folder:
        return _Line(store, Path(folder), Meter(progress)).upload(orders)


@dataclass(frozen=True, slots=True)
class _Order:
    """One package, the place of its record, the forms that it names already, and who signed."""

    package: PackageFile
    record: Path
    recorded: dict[str, Form]  # by compression
    added: Sequence[str]  # signatures
    keys: Sequence[PackageKey]

    @property
    def is_fresh(self) -> bool:
        """Tell whether forms are to be made: a record that names some is followed instead."""
        return not self.recorded.keys() - {IDENTITY}


@dataclass(frozen=True, slots=True)
class _Step:
    """One form of an order to be sent; `file` None: made only if the store lacks it.

    Without a form: all forms of the order have been named.
    """

    order: _Order
    form: Form | None = None
    file: Path | None = None


class _Line:
    """The line that packages pass through: made into forms, sent, recorded."""

    def __init__(self, store: Store, folder: Path, meter: Meter) -> None:
        self._store = store
        self._folder = folder
        self._meter = meter

    def upload(self, orders: Sequence[_Order]) -> list[Uploaded]:
        """Do all of it; each record is written as soon as its forms are there."""
        done: list[Uploaded] = []
        forms: list[Form] = []
        stored = False
        with closing(self._steps(orders)) as steps:
            for step, sent in in_parallel(self._send, steps, SENDERS, self._meter.stop):
                stored |= sent
                if step.form is not None:
                    forms.append(step.form)
                else:
                    done.append(_finish(step.order, tuple(forms), stored=stored))
                    forms, stored = [], False
        return done

    def _steps(self, orders: Sequence[_Order]) -> Generator[_Step, None, None]:
        tasks = [(order, each) for order in orders if order.is_fresh for each in COMPRESSIONS]
        for order, _ in tasks:
            self._meter.expect("compressing", order.package.digest.size)
        with closing(in_parallel(self._make, tasks, cores(), self._meter.stop)) as made:
            for order in orders:
                whole = identity_form(order.package)
                yield self._step(order, order.recorded.get(IDENTITY, whole.form), whole.file)
                if order.is_fresh:
                    for form, file in islice(made, len(COMPRESSIONS)):
                        if form.size < whole.form.size:
                            yield self._step(order, form, file)
                        else:
                            file.unlink()
                else:
                    for form in order.recorded.values():
                        if form.compression != IDENTITY:
                            yield self._step(order, form, None)
                yield _Step(order)

    def _step(self, order: _Order, form: Form, file: Path | None) -> _Step:
        self._meter.expect("uploading", form.size)
        return _Step(order, form, file)

    def _make(self, task: tuple[_Order, str]) -> MadeForm:
        order, compression = task
        taken = partial(self._meter.add, "compressing")
        return make_form(order.package, compression, self._folder, taken)

    def _send(self, step: _Step) -> tuple[_Step, bool]:
        """Put the form there unless it is already, whole; read it back. False: it was there."""
        form = step.form
        if form is None:
            return step, False
        expected = Digest(form.size, bytes.fromhex(form.sha256))
        file = step.file
        there = self._store.digest_named(form.path) == expected
        if there:
            self._meter.add("uploading", form.size)
        else:
            package = step.order.package
            file = file or self._make_again(step.order, form)
            self._store.put_file(
                form.path,
                file,
                media_type=package.media_type if form.compression == IDENTITY else None,
                progress=partial(self._meter.add, "uploading"),
            )
            if self._store.digest_named(form.path) != expected:
                # What is below files/ may be kept for ever: no wrong bytes may stay there.
                self._store.delete_named(form.path)
                raise StoreError(
                    f'The store {self._store.name} did not keep "{form.path}" as it was sent, or '
                    f"{package.file} changed meanwhile. Run the upload again; if it fails again, "
                    "check the disk."
                )
        if form.compression != IDENTITY and file is not None:
            file.unlink()
        return step, not there

    def _make_again(self, order: _Order, form: Form) -> Path:
        self._meter.expect("compressing", order.package.digest.size)
        made = self._make((order, form.compression))
        if (made.form.size, made.form.sha256) != (form.size, form.sha256):
            raise UploadRefusedError(
                f"The store {self._store.name} lacks {form.path}, which {order.record} names, and "
                f"{form.compression} gives other bytes on this machine. Copy that file from the "
                "store of the first upload, or upload from the machine that was used then."
            )
        return made.file


def _refuse_twice(packages: Sequence[PackageFile]) -> None:
    """Refuse two files of one version: which of them is meant, nobody knows."""
    seen: dict[object, PackageFile] = {}
    for package in packages:
        key = package.app, parse_version(package.version, PLAN_PARTS)
        other = seen.setdefault(key, package)
        if other is not package:
            raise UploadError(
                f"{other.file} and {package.file} are both version {package.version} of "
                f"{package.app}. Name one of them."
            )


def _order(
    package: PackageFile, plan: Path, signatures: Path, keys: Sequence[PackageKey]
) -> _Order:
    record = record_path(plan, package.app, package.version)
    refuse_equal_version(record, package.version)
    before = read_record(record, package.digest)
    forms = recorded_forms(before) if before is not None else ()
    added = read_texts(signatures) or ()
    signed_members(before or {}, package.facts, added, keys)  # refuses before anything is sent
    return _Order(package, record, {form.compression: form for form in forms}, added, keys)


def _finish(order: _Order, forms: tuple[Form, ...], *, stored: bool) -> Uploaded:
    package = order.package
    with locked_record(order.record):
        # Another upload may have written it since the order was made.
        refuse_equal_version(order.record, package.version)
        before = read_record(order.record, package.digest)
        signed = signed_members(before or {}, package.facts, order.added, order.keys)
        value = {
            "format": FORMAT,
            "size": package.digest.size,
            "sha256": package.digest.sha256.hex(),
            **{name: each for name, each in (before or {}).items() if name not in MEMBERS},
            **signed,
            "forms": [record_entry(form) for form in forms],
        }
        recorded = value != before
        if recorded:
            write_record(order.record, value)
    return Uploaded(
        app=package.app,
        version=package.version,
        record=order.record,
        path=forms[0].path,
        size=package.digest.size,
        sha256=package.digest.sha256.hex(),
        forms=forms,
        signatures=len(signed["signatures"]),
        recorded=recorded,
        stored=stored,
    )
