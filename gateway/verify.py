"""A signed blob to an epoch that may be served: whole, signed, ours, and from whom we trust. Pure.

What is left to the caller is history: whether the number is one that may be served next.
"""

from collections.abc import Sequence

from gateway import layout
from gateway.errors import FormatError, OtherFormatError
from gateway.signing import PublicKey, key_id, verify


def verify_epoch(
    blob: layout.Blob, *, digest: bytes, workspace: str, trusted: Sequence[PublicKey]
) -> layout.Epoch:
    """Read an E blob that a pointer named by `digest`. Raises FormatError if it must not be served.

    With `trusted` keys given the signer must be one of them, and the author is that key's name.
    Without, any sound signature does: then Redis is trusted for who may publish.
    """
    if layout.digest_of(blob) != digest:
        raise FormatError(f"the epoch's bytes are not those of digest {digest.hex()[:16]}…")
    signed: layout.Signed = layout.decode(layout.Signed, blob)
    if not verify(signed["key"], signed["signature"], layout.SIGNED_CONTEXT + signed["epoch"]):
        raise FormatError("the epoch's signature does not hold: it was changed, or never signed")
    epoch: layout.Epoch = layout.unpack_map(layout.Epoch, signed["epoch"])
    place = f"epoch {epoch['number']}"
    if epoch["format"] not in layout.FORMATS:
        raise OtherFormatError(
            f"{place} is in data format {epoch['format']}, and {layout.FORMATS_READ}"
        )
    if epoch["workspace"] != workspace:
        raise FormatError(
            f"{place} is of workspace {epoch['workspace'][:80]!r}; this gateway serves {workspace}"
        )
    if not 1 <= epoch["number"] < 1 << 63:
        raise FormatError(f"{place} has a number that no epoch has")
    if len(epoch["contents"]) != layout.DIGEST_BYTES:
        raise FormatError(f"{place} does not name its contents")
    if not trusted:
        return epoch
    name = next((key.name for key in trusted if key.raw == signed["key"]), None)
    if name is None:
        raise FormatError(
            f"{place} is signed by key {key_id(signed['key'])}, which TIDEGATE_TRUSTED_KEYS "
            "does not name"
        )
    return {**epoch, "author": name}
