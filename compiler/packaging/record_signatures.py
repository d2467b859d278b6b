"""The signatures in a package's record: those that were there, and those that an upload brings.

A version's bytes never change; signatures may be added. A key has one: a newer one takes the
place of its older one, and one of a key that left stays. They stand sorted by key id, and beside
them the host-app range (`clients`) on which all of them agree.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from compiler.packaging.claims import PackageFacts, SignatureError
from compiler.packaging.package_key import PackageKey
from compiler.packaging.package_signature import MOST_SIGNATURES, read_signature
from compiler.packaging.trust import judge, trust_fault
from compiler.packaging.upload_fault import UploadRefusedError

MEMBERS = ("signatures", "clients")
"""A record's members that follow from what was signed."""


def signed_members(
    record: Mapping[str, Any],
    facts: PackageFacts,
    added: Sequence[str],
    keys: Sequence[PackageKey],
) -> dict[str, Any]:
    """Give those members, of a record ({} for a new one) to which signatures are added.

    `keys` are those that the plan names. Raises UploadRefusedError when the signatures do not fit
    the package or each other, or when keys are named and none of them has signed.
    """
    before = {name: record[name] for name in MEMBERS if name in record}
    if not added and not keys:
        return {"signatures": []} | before
    texts = _merged(before.get("signatures", ()), added)
    judged = judge(texts, facts, keys)
    fault = trust_fault(judged, needs_key=bool(keys))
    if fault is not None:
        raise UploadRefusedError(
            f"{facts.app} {facts.version} is refused: {fault}. Sign the file with `tidegate sign`, "
            "and upload it with its .jws file."
        )
    assert judged[0].signature is not None
    clients = judged[0].signature.claims.clients
    return {"signatures": texts} | ({} if clients is None else {"clients": dict(clients)})


def _merged(before: Sequence[str], added: Sequence[str]) -> list[str]:
    by_key: dict[str, str] = {}
    for text in (*before, *added):
        try:
            by_key[read_signature(text).key_id] = text
        except SignatureError as error:
            where = "to be uploaded" if text in added else "in the record"
            raise UploadRefusedError(
                f"A signature {where} cannot be used: {error}. Sign the file again with `tidegate "
                "sign`, or take the record from Git again."
            ) from error
    if len(by_key) > MOST_SIGNATURES:
        raise UploadRefusedError(
            f"The record would have {len(by_key)} signatures, and {MOST_SIGNATURES} may be. Delete "
            "those of keys that left from the record, and commit it."
        )
    return [by_key[key_id] for key_id in sorted(by_key)]
