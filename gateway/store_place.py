"""Where the store is: a folder, or a bucket by its URL. For gateways and commands alike.

/srv/tidegate, file:///srv/tidegate   a folder
s3://BUCKET/PREFIX                    Amazon S3, and what speaks its language (AWS_ENDPOINT_URL)
gs://BUCKET/PREFIX                    Google Cloud Storage
az://CONTAINER/PREFIX                 Azure Blob Storage, of the account that the environment names

Buckets are reached by obstore, which is imported only where a URL asks for it: a gateway whose
store is a folder, or that has none, does without. Credentials come from the environment, in the
variables that each vendor's own tools read, or from the machine's role; never from the URL.

obstore runs threads of its own that a fork does not copy: open no bucket before a bare fork.
"""

import importlib.util
import os
import re
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from gateway.errors import StoreError

if TYPE_CHECKING:
    from obstore.store import AzureStore, ClientConfig, GCSStore, RetryConfig, S3Store

PLACES = "a folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"

_NEEDS = "A store at a URL needs the package obstore. Install it: pip install 'tidegate[store]'"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}\Z")
_PREFIX = re.compile(r"(?:[A-Za-z0-9._+@=,~-]{1,200}/)*\Z")

_CONNECT = timedelta(seconds=5)


class _Patience(NamedTuple):
    """How long one request may take, and how often it is tried again when it fails."""

    request: timedelta
    retries: int


# For commands: a part of 5 MiB on a slow line takes its time.
_PATIENT = _Patience(timedelta(seconds=120), 4)
# For gateways: while one waits for the store, it does not see that Redis is back.
_BRIEF = _Patience(timedelta(seconds=10), 1)

_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")

_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist")
_CAUSES = (
    (_NO_BUCKET, "there is no such bucket. Create it, or correct the store's URL."),
    (
        re.compile(r"PermanentRedirect|Received redirect without LOCATION"),
        "the bucket is in another region. Set AWS_REGION to it.",
    ),
    (
        re.compile(r"RequestTimeTooSkewed"),
        "this machine's clock is wrong, so that the service takes no signature. Set it.",
    ),
    (
        re.compile(
            r"Account must be specified"
            r"|169\.254\.169\.254|/latest/api/token|metadata\.google\.internal"
        ),
        "there are no credentials. Set {keys}, or run where the machine's role has the right.",
    ),
    (
        re.compile(
            r"SignatureDoesNotMatch|InvalidAccessKeyId|AuthenticationFailed|ExpiredToken"
            r"|status code: 401|invalid_grant"
        ),
        "the service refuses the credentials. Check {keys}.",
    ),
    (
        re.compile(r"status code: 403"),
        "access is denied. Give these credentials the right to list, read, write and delete there.",
    ),
    (
        re.compile(r"kind: Timeout|operation timed out"),
        "the service did not answer in time. Check the network, then run it again.",
    ),
    (
        re.compile(r"kind: Connect\b"),
        "the service cannot be reached. Check the network, and the endpoint if one is set.",
    ),
    (
        re.compile(r"HTTP error: "),
        "the connection to the service broke. Check the network, then run it again.",
    ),
)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket and the folder in it: `prefix` is "" or ends with a slash."""

    scheme: str
    name: str
    prefix: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.name}/{self.prefix}".rstrip("/")

    def get(self, path: str) -> bytes | None:
        """Give an object's bytes, or None when there is none. Raises StoreError."""
        store = open_bucket(self, _BRIEF)
        from obstore import get  # noqa: PLC0415 - it is there, as the bucket is open
        from obstore.exceptions import BaseError  # noqa: PLC0415

        try:
            return bytes(get(store, path).bytes())
        except (BaseError, OSError) as fault:
            if isinstance(fault, FileNotFoundError) and not lacks_bucket(fault):
                return None
            raise StoreError(
                f'the store {self} could not read "{path}": {bucket_cause(self, fault)}'
            ) from None


def parse_place(text: str) -> Path | Bucket:
    """Read a folder's path or a URL. Raises ValueError with a sentence; never shows a password."""
    scheme, found, _ = text.partition("://")
    if not found:
        return Path(text)
    parts = urlsplit(text)
    if scheme == "file":
        if parts.netloc not in {"", "localhost"} or not parts.path:
            raise ValueError(f"{text:.200} names no folder. Write it as file:///srv/tidegate.")
        return Path(unquote(parts.path))
    if scheme not in _KEYS:
        raise ValueError(f"No store can be at {scheme:.20}://. Give {PLACES}.")
    if "@" in parts.netloc:
        raise ValueError(f"A store's URL holds no credentials. Set {_KEYS[scheme]} instead.")
    shape = f"{scheme}://{'CONTAINER' if scheme == 'az' else 'BUCKET'}/PREFIX"
    prefix = parts.path.strip("/")
    bucket = Bucket(scheme, parts.netloc, prefix + "/" if prefix else "")
    dots = {".", ".."} & set(prefix.split("/"))
    if parts.query or parts.fragment or dots or not _PREFIX.match(bucket.prefix):
        raise ValueError(f"{text:.200} is no place for a store. Write {shape}.")
    if not _BUCKET.match(bucket.name):
        raise ValueError(f"{text:.200} names no bucket. Write {shape}.")
    return bucket


def check_installed() -> None:
    """Raise ValueError with a sentence where obstore is missing."""
    if importlib.util.find_spec("obstore") is None:
        raise ValueError(_NEEDS)


@cache
def open_bucket(
    bucket: Bucket, patience: _Patience = _PATIENT
) -> "S3Store | GCSStore | AzureStore":
    """Open a bucket, without asking it anything yet. Raises StoreError."""
    try:
        from obstore import store as vendors  # noqa: PLC0415 - only a URL needs it
        from obstore.exceptions import BaseError  # noqa: PLC0415
    except ImportError:
        raise StoreError(_NEEDS) from None
    patience = patience or _PATIENT
    retries: RetryConfig = {"max_retries": patience.retries, "retry_timeout": patience.request}
    client: ClientConfig = {"connect_timeout": _CONNECT, "timeout": patience.request}
    # Whoever writes http:// for a server of their own means it.
    if any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS):
        client["allow_http"] = True
    kind = {"s3": vendors.S3Store, "gs": vendors.GCSStore, "az": vendors.AzureStore}[bucket.scheme]
    try:
        opened: S3Store | GCSStore | AzureStore = kind(
            bucket.name, prefix=bucket.prefix or None, client_options=client, retry_config=retries
        )
    except (BaseError, OSError, ValueError) as fault:
        raise StoreError(
            f"The store {bucket} cannot be opened: {bucket_cause(bucket, fault)}"
        ) from None
    return opened


def lacks_bucket(fault: Exception) -> bool:
    """Tell a missing bucket from a missing object, which both are "not found"."""
    return _NO_BUCKET.search(str(fault)) is not None


def bucket_cause(bucket: Bucket, fault: Exception) -> str:
    """Say why a service failed, in lower case after a colon, and how to mend it."""
    text = str(fault)
    for pattern, sentence in _CAUSES:
        if pattern.search(text):
            return sentence.format(keys=_KEYS[bucket.scheme])
    # Below its first line obstore prints its own structures, which tell a user nothing.
    first = text.partition("\n")[0].rstrip(".")
    return f"{first:.300}. Check the store's URL and {_KEYS[bucket.scheme]}, then run it again."
