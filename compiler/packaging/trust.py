"""Whether a package's signatures hold: by which keys, over these very facts. No I/O.

One rule for `verify`, `upload` and `validate`: every signature says of the package what is known
of it, and the same of host apps; each by a trusted key verifies; and at least one is by a trusted
key. So a phone that trusts any one of the keys finds a good signature, whichever it looks at
first. Signatures by other keys (one that left, one still to come) only have to say what is so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from compiler.packaging.claims import PackageFacts, SignatureError, difference
from compiler.packaging.package_key import PackageKey
from compiler.packaging.package_signature import Signature, read_signature, verify


@dataclass(frozen=True, slots=True)
class Judged:
    """One signature: `key` is the trusted key that it names, `fault` why it cannot be used.

    `signature` is None when it cannot be read. A fault has no capital and no full stop.
    """

    signature: Signature | None
    key: PackageKey | None
    fault: str | None

    @property
    def holds(self) -> bool:
        """Whether a trusted key has signed just this package."""
        return self.key is not None and self.fault is None

    @property
    def by(self) -> str:
        """Whose it says it is: a trusted key's name, else the key's id."""
        if self.key is not None:
            return self.key.name
        return self.signature.key_id if self.signature is not None else "nobody known"


def judge(
    texts: Sequence[str], package: PackageFacts, keys: Sequence[PackageKey]
) -> tuple[Judged, ...]:
    """Judge each signature by itself."""
    return tuple(_judge(text, package, keys) for text in texts)


def _judge(text: str, package: PackageFacts, keys: Sequence[PackageKey]) -> Judged:
    signature = key = None
    try:
        signature = read_signature(text)
        key = next((key for key in keys if key.id == signature.key_id), None)
        if key is not None:
            verify(signature, key)
    except SignatureError as error:
        return Judged(signature, key, str(error))
    return Judged(signature, key, difference(signature.claims, package))


def trust_fault(judged: Sequence[Judged], *, needs_key: bool) -> str | None:
    """Say why a package with these signatures is not to be trusted; None when it is.

    With `needs_key` a trusted key must be among them; without, there may be no signature at all.
    The sentence has no capital and no full stop.
    """
    if not judged:
        return "it is not signed" if needs_key else None
    for number, each in enumerate(judged, 1):
        if each.fault is not None:
            return f"signature {number}, by {each.by}, cannot be used: {each.fault}"
    ranges = [each.signature.claims.ranges for each in judged if each.signature]
    for each, found in zip(judged, ranges, strict=True):
        if found != ranges[0]:
            return (
                f"the signatures by {judged[0].by} and {each.by} differ about the host apps "
                "(clients)"
            )
    if needs_key and not any(each.holds for each in judged):
        return f"no trusted key has signed it, only {', '.join(each.by for each in judged)}"
    return None
