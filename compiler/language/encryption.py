"""Whether what an app offers is encrypted as the app's `encryption:` says.

Only what is on offer counts, as with signatures (signatures.py). An app that names nobody any more
may still offer what was encrypted: its phones open it.
"""

from compiler.language.checker import Records
from compiler.language.draft import Draft, PackageDraft, RecordDraft
from compiler.language.faults import Faults, listed, quote
from compiler.packaging.encryption import encryption_of, is_for
from compiler.plan import Encryption


def check_encryption(draft: Draft, records: Records, faults: Faults) -> None:
    """Report every package on offer that is not encrypted though its app's packages are to be.

    One that is encrypted to others than the plan names now is doubted: it may be on its way.
    """
    for app in draft.apps:
        wanted = encryption_of([each.value for each in app.encryption])
        if wanted is None or app.id is None:
            continue
        offered = app.on_offer()
        for package in app.packages:
            record = records.get((app.id.value, package.key))
            if record is not None and package.key in offered and not package.withdrawn:
                _check(package, record, wanted, faults)


def _check(package: PackageDraft, record: RecordDraft, wanted: Encryption, faults: Faults) -> None:
    version, found = package.version.value, record.record.encryption
    again = "Run `tidegate upload` again with the package's file"
    if found is None:
        faults.error(
            package.version.span,
            f"{version} is on offer, and its record, {record.file}, is of plain files, though this "
            f"app names encryption. {again}, which encrypts it.",
        )
    elif not is_for(found, wanted):
        lacking = [each for each in wanted.recipients if each not in found.recipients]
        what = f"not encrypted to {listed(lacking, 'and')}" if lacking else "encrypted to others"
        faults.warning(
            package.version.span,
            f"{version} is on offer, and by its record, {record.file}, it is {what}: it was "
            f"uploaded when {quote(found.key_id)} was the newest key, or others were named. "
            f"{again}.",
        )
