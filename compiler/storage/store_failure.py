"""Why a store failed, and what to do: obstore's and the system's errors as sentences."""

import errno
import re

from gateway.store_place import Bucket, bucket_cause, lacks_bucket

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_CAUSES = {
    errno.EACCES: "permission is denied. Give this user the right to read and write there.",
    errno.EPERM: "permission is denied. Give this user the right to read and write there.",
    errno.EROFS: "the disk is mounted read-only. Mount it for writing, or name another store.",
    errno.ENOSPC: "the disk is full. Free some space, then run the command again.",
    errno.EDQUOT: "the disk quota is used up. Free some space, then run the command again.",
    errno.ENOTDIR: "a file stands where a folder is needed. Move that file away.",
    errno.EEXIST: "a file stands where a folder is needed. Move that file away.",
    errno.EISDIR: "a folder stands where a file is needed. Move that folder away.",
    errno.EMFILE: "too many files are open. Raise the limit with `ulimit -n`.",
    errno.EIO: "the disk reports an error. Check the disk, then restore the store from a copy.",
}


def _os_error(error: Exception) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _OS_ERROR.search(str(error))
    return int(found[1]) if found else None


def is_absent(error: Exception) -> bool:
    """Tell whether a bucket would say "not found" here: a folder is no object, nor has one."""
    if isinstance(error, FileNotFoundError):
        return not lacks_bucket(error)
    return _os_error(error) in {errno.ENOTDIR, errno.EISDIR}


def cause(error: Exception, bucket: Bucket | None = None) -> str:
    """Say why a folder failed, or that bucket: in lower case after a colon, and how to mend it."""
    if bucket is not None:
        return bucket_cause(bucket, error)
    code = _os_error(error)
    if code in _CAUSES:
        return _CAUSES[code]
    # Below its first line obstore prints its own structures, which tell a user nothing.
    first = str(error).partition("\n")[0].rstrip(".")
    return f"{first}. Check that the store is there and whole, then run the command again."
