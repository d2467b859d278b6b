"""Whether what a plan offers is signed: where keys are named, each package on offer must be.

A package is on offer while a release that has not ended names it: a paused one may be resumed
without this check. Only these are verified, as a signature costs some 0.1 ms.
"""

from compiler.language.checker import Records
from compiler.language.draft import Draft, PackageDraft, RecordDraft
from compiler.language.faults import Faults
from compiler.packaging.claims import PackageFacts
from compiler.packaging.package_key import PackageKey
from compiler.packaging.trust import judge, trust_fault


def check_signatures(draft: Draft, records: Records, faults: Faults) -> None:
    """Report every package on offer that no key of the plan has signed as it is recorded.

    One without a record is left to the others: it cannot be pushed either.
    """
    if draft.workspace is None or not draft.workspace.keys:
        return
    keys = [key.value for key in draft.workspace.keys]
    for app in draft.apps:
        offered = app.on_offer()
        for package in app.packages:
            record = records.get((app.id.value, package.key)) if app.id else None
            if record is None or package.key not in offered or package.withdrawn:
                continue
            fault = _fault(record, keys)
            if fault is not None:
                _report(package, record, fault, faults)


def _fault(draft: RecordDraft, keys: list[PackageKey]) -> str | None:
    record = draft.record
    facts = PackageFacts(draft.app, draft.version, record.size, record.sha256)
    judged = judge(record.signatures, facts, keys)
    fault = trust_fault(judged, needs_key=True)
    if fault is not None:
        return fault
    signed = judged[0].signature
    assert signed is not None
    if signed.claims.ranges != draft.clients:
        return "its clients are not those that were signed"
    return None


def _report(package: PackageDraft, record: RecordDraft, fault: str, faults: Faults) -> None:
    mend = "Take the record from Git again; or sign" if record.record.signatures else "Sign"
    faults.error(
        package.version.span,
        f"{package.version.value} is on offer, and its record, {record.file}, is not trusted: "
        f"{fault}. {mend} the package's file (`tidegate sign`) and run `tidegate upload` again.",
    )
