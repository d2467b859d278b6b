"""`python -m compiler.patching.worker FD PLACE`: makes patches for crew.py, one pair after another.

It is a process of its own because a patch takes much memory: the kernel may kill it, and the crew
goes on. Over the pipe FD come the identities that open encrypted packages, then jobs, and outcomes
go back; when the pipe ends, so does the worker.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

from compiler.packaging.encryption import EncryptionError, Identity, decrypted, encrypted
from compiler.patching import formats
from compiler.patching.formats import Limits
from compiler.patching.job import Failure, Job, Outcome
from compiler.patching.patch_error import PatchError
from compiler.patching.patch_index import Patch, patch_path
from compiler.patching.selection import Pair, Source
from compiler.storage.store import Digest, Store, open_store
from gateway.errors import StoreError


def patch_pair(store: Store, job: Job, identities: Sequence[Identity] = ()) -> Iterator[Outcome]:
    """Make a pair's patches and put those that are worth it into the store.

    What is encrypted is opened by the identities; a patch is encrypted to whom its target is.
    """
    pair = job.pair
    try:
        old, new = (
            _package(store, pair.app, source, identities) for source in (pair.old, pair.new)
        )
        for each in job.formats:
            yield _patch(store, pair, each, old, new)
    except PatchError as fault:
        yield Failure(str(fault))
    except StoreError as fault:
        yield Failure(str(fault), store=True)
    except MemoryError:
        yield Failure(
            f"There was no memory for patching {job.name}; it takes {job.memory / 1e6:,.0f} MB. "
            "Give fewer --jobs, or run it on a larger machine."
        )


def _patch(store: Store, pair: Pair, format_: str, old: bytes, new: bytes) -> Patch:
    data = formats.make(format_, old, new)
    if formats.apply(format_, old, data, Limits(len(new))) != new:
        raise PatchError(
            f"The {format_} patch of {pair.app} {pair.old.version} to {pair.new.version} does not "
            "give the new bytes, and was dropped. Report this, with both packages."
        )
    secret = pair.new.encryption
    if secret is not None:
        data = encrypted(data, secret.recipients)
    ends = pair.old.version, pair.old.sha256, pair.new.sha256
    if len(data) > pair.most:
        return Patch(format_, *ends, len(data))
    digest = Digest(len(data), hashlib.sha256(data).digest())
    sha256 = digest.sha256.hex()
    path = patch_path(sha256, format_, encrypted=secret is not None)
    if store.digest_named(path) != digest:  # not there, or damaged
        store.put_named(path, data)
    return Patch(format_, *ends, len(data), sha256, path, secret)


def _package(store: Store, app: str, source: Source, identities: Sequence[Identity]) -> bytes:
    """Read a package that is what its record says. Raises PatchError, StoreError."""
    stored = source.size if source.stored is None else source.stored
    size = store.size_named(source.path)  # before bytes are read that nobody reckoned with
    data = store.get_named(source.path) if size == stored else None
    if data is not None and source.encryption is not None:
        try:
            data = decrypted(data, identities)
        except EncryptionError as fault:
            raise PatchError(
                f'The file of {app} {source.version}, "{source.path}" in the store {store.name}, '
                f"cannot be decrypted: {fault}. Name its identity with --identity, or upload the "
                "package again."
            ) from fault
    if data is not None and hashlib.sha256(data).hexdigest() == source.sha256:
        return data
    what = f'{app} {source.version}, "{source.path}", is'
    how = "missing" if size is None else "there with other bytes than its record says"
    raise PatchError(
        f"The file of {what} {how} (store {store.name}). Upload the package again: run "
        "`tidegate upload`."
    )


def main() -> None:
    """Work until the pipe ends."""
    pipe = Connection(int(sys.argv[1]))
    try:
        store = open_store(sys.argv[2], create=False)
        identities: tuple[Identity, ...] = pipe.recv()
        while True:
            for outcome in patch_pair(store, pipe.recv(), identities):
                pipe.send(outcome)
            pipe.send(None)
    except (EOFError, ConnectionError):
        return  # the crew is gone
    except StoreError as fault:
        pipe.send(Failure(str(fault), store=True))
    except Exception as fault:
        pipe.send(
            Failure(f"This is a bug in Tidegate: {type(fault).__name__}: {fault}.", store=True)
        )
        if os.environ.get("TIDEGATE_DEBUG"):
            raise


if __name__ == "__main__":
    main()
