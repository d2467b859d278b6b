"""`tidegate upload`: packages go to the store in every form, and their records into the plan.

    store   files/<2 hex>/<64 hex>.zip       a form's bytes under their SHA-256; a CDN serves this
            files/<2 hex>/<64 hex>.zip.age   the same of an encrypted app: an age file
    plan    packages/<app>/<version>.json    the record (record_file.py), committed with the plan

Everything is looked at before anything is sent. Then forms are made (forms.py) by as many threads
as there are cores, while others send them; each is read back from the store, and a record is
written once all forms of its version are there. What is there already is read, not sent again: so
whenever an upload ends early, the same command goes on where it stopped.

An encrypted app's package is sent in encrypted forms alone. Encrypting twice gives other bytes, so
the record says what is right: what it names and the store has is kept, a form that the store lacks
is made anew, and all are when the plan names other recipients.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from compiler.packaging.encryption import encryption_member, encryption_of, is_for
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
    recorded_encryption,
    recorded_forms,
    refuse_equal_version,
    write_record,
)
from compiler.packaging.record_signatures import MEMBERS, signed_members
from compiler.packaging.signature_file import beside, read_texts
from compiler.packaging.upload_fault import UploadError, UploadRefusedError
from compiler.packaging.uploaded import Uploaded
from compiler.packaging.version_codes import refuse_code
from compiler.plan import Encryption, Form, Recipient
from compiler.progress import Progress, quiet
from compiler.storage.parallel import in_parallel
from compiler.storage.store import Digest, Store
from gateway.cores import cores
from gateway.errors import StoreError
from gateway.version import PLAN_PARTS, parse_version

_RENEWED = (*MEMBERS, "encryption")

SENDERS = 4
"""Files sent at once, each in parts: so many as fill a line, and few enough for the memory."""


def upload(
    package: Path,
    *,
    app: str,
    version: str | None,
    plan: Path,
    store: Store,
    encryption: Mapping[str, Sequence[Recipient]] | None = None,
) -> Uploaded:
    """Upload one package; see `upload_all`."""
    return upload_all(
        [package], app=app, version=version, plan=plan, store=store, encryption=encryption
    )[0]


def upload_all(
    files: Sequence[Path],
    *,
    app: str | None,
    version: str | None,
    plan: Path,
    store: Store,
    signatures: Path | None = None,
    keys: Sequence[PackageKey] = (),
    encryption: Mapping[str, Sequence[Recipient]] | None = None,
    progress: Progress = quiet,
) -> list[Uploaded]:
    """Put packages into the store, read them back, and write their records into the plan's folder.

    `app` and `version` may be None for MiniApps, which name their own; a version is for one file.
    Signatures are those in FILE.jws beside each file, or of one file those in `signatures`; `keys`
    are those that the plan names, `encryption` says by app whom it is encrypted to, the newest
    first; an app that is not in it is not encrypted. `progress` hears of bytes.
    Raises UploadError (an input is wrong), UploadRefusedError (a version has other bytes, or is
    not signed as it must be), SignatureError (signatures cannot be read), StoreError; what was
    finished before stays, records and all.
    """
    if not plan.is_dir():
        raise UploadError(f"There is no plan at {plan}. Name the plan's folder.")
    packages = list(in_parallel(lambda file: read_package(file, app, version), files, cores()))
    _refuse_twice(packages)
    orders = [
        _order(
            package,
            plan,
            signatures or beside(package.file),
            keys,
            encryption_of((encryption or {}).get(package.app, ())),
        )
        for package in packages
    ]
    with TemporaryDirectory(prefix="tidegate-") as folder:
        return _Line(store, Path(folder), Meter(progress)).upload(orders)


@dataclass(frozen=True, slots=True)
class _Order:
    """One package, the place of its record, the forms that it names already, and who signed.

    Forms that are encrypted otherwise than they shall be are not among them.
    """

    package: PackageFile
    record: Path
    recorded: dict[str, Form]  # by compression
    added: Sequence[str]  # signatures
    keys: Sequence[PackageKey]
    encryption: Encryption | None

    @property
    def compressions(self) -> tuple[str, ...]:
        """The forms to be made: none if the record names some, which is followed instead."""
        if self.encryption is not None:
            return () if self.recorded else (IDENTITY, *COMPRESSIONS)
        return () if self.recorded.keys() - {IDENTITY} else COMPRESSIONS


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
        tasks = [(order, each) for order in orders for each in order.compressions]
        for order, _ in tasks:
            self._meter.expect("compressing", order.package.digest.size)
        with closing(in_parallel(self._make, tasks, cores(), self._meter.stop)) as made:
            for order in orders:
                for form, file in _forms(order, made):
                    self._meter.expect("uploading", form.size)
                    yield _Step(order, form, file)
                yield _Step(order)

    def _make(self, task: tuple[_Order, str]) -> MadeForm:
        order, compression = task
        taken = partial(self._meter.add, "compressing")
        recipients = order.encryption.recipients if order.encryption else ()
        return make_form(order.package, compression, self._folder, taken, recipients)

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
            if file is None:
                form, file = self._make_again(step.order, form)
                expected = Digest(form.size, bytes.fromhex(form.sha256))
            as_it_is = file == package.file
            self._store.put_file(
                form.path,
                file,
                media_type=package.media_type if as_it_is else None,
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
        if file is not None and file != step.order.package.file:
            file.unlink()
        return replace(step, form=form), not there

    def _make_again(self, order: _Order, form: Form) -> MadeForm:
        self._meter.expect("compressing", order.package.digest.size)
        made = self._make((order, form.compression))
        same = (made.form.size, made.form.sha256) == (form.size, form.sha256)
        if not same and order.encryption is None:
            raise UploadRefusedError(
                f"The store {self._store.name} lacks {form.path}, which {order.record} names, and "
                f"{form.compression} gives other bytes on this machine. Copy that file from the "
                "store of the first upload, or upload from the machine that was used then."
            )
        return made


def _forms(order: _Order, made: Iterator[MadeForm]) -> Iterator[tuple[Form, Path | None]]:
    """Give the forms of an order to be sent; without a file where the store should have it.

    `made` gives the fresh ones. Of an encrypted app nothing but encrypted forms may get this far.
    """
    recorded = order.recorded.copy()
    if order.encryption is None:
        whole = identity_form(order.package)
        yield recorded.pop(IDENTITY, whole.form), whole.file
    if not order.compressions:
        yield from ((form, None) for form in recorded.values())
    for form, file in islice(made, len(order.compressions)):
        if form.compression == IDENTITY or form.size < order.package.digest.size:
            yield form, file
        else:
            file.unlink()


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
    package: PackageFile,
    plan: Path,
    signatures: Path,
    keys: Sequence[PackageKey],
    encryption: Encryption | None,
) -> _Order:
    record = record_path(plan, package.app, package.version)
    refuse_equal_version(record, package.version)
    refuse_code(record, package.version, package.code)
    before = read_record(record, package.digest)
    forms: tuple[Form, ...] = ()
    if before is not None and is_for(recorded_encryption(before), encryption):
        forms = recorded_forms(before)
    added = read_texts(signatures) or ()
    signed_members(before or {}, package.facts, added, keys)  # refuses before anything is sent
    recorded = {form.compression: form for form in forms}
    return _Order(package, record, recorded, added, keys, encryption)


def _finish(order: _Order, forms: tuple[Form, ...], *, stored: bool) -> Uploaded:
    package = order.package
    with locked_record(order.record):
        # Another upload may have written it since the order was made.
        refuse_equal_version(order.record, package.version)
        refuse_code(order.record, package.version, package.code)
        before = read_record(order.record, package.digest)
        signed = signed_members(before or {}, package.facts, order.added, order.keys)
        secret = _encryption(before, order.encryption)
        value = {
            "format": FORMAT,
            "size": package.digest.size,
            "sha256": package.digest.sha256.hex(),
            **{name: each for name, each in (before or {}).items() if name not in _RENEWED},
            **signed,
            **({} if package.code is None else {"code": package.code}),
            **({} if secret is None else {"encryption": encryption_member(secret)}),
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
        encryption=secret,
        clients=signed.get("clients", {}),
        clients_before=None if before is None else before.get("clients", {}),
    )


def _encryption(before: dict[str, Any] | None, wanted: Encryption | None) -> Encryption | None:
    """Say how the forms are encrypted: as recorded if that is as wanted, in its order."""
    found = recorded_encryption(before) if before is not None else None
    return found if is_for(found, wanted) else wanted
