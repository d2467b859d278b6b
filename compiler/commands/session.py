"""What a command works on: one workspace, its Redis and its store, from options or environment."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer

from compiler.commands.console import note
from compiler.commands.passphrase import known_passphrase
from compiler.publication.epoch import Publication
from compiler.publication.live import read_live
from compiler.publication.mirror import Mirror
from compiler.publication.publisher_key import PublisherKey, load_key
from compiler.refusal import Refused
from compiler.storage.store import Store, open_store
from gateway.link import Address, SyncLink, connect_sync, parse_url

REDIS_TIMEOUT_SECONDS = 10.0
DEFAULT_REDIS = "redis://127.0.0.1:6379/0"

PlanFolder = Annotated[
    Path, typer.Argument(metavar="PLAN", help="The plan's folder.", show_default="this folder")
]
RedisUrl = Annotated[
    str,
    typer.Option(
        "--redis",
        envvar="TIDEGATE_REDIS",
        help="Where Redis is: redis://, unix://, redis+sentinel://HOST,HOST/SERVICE or "
        "redis+cluster://HOST,HOST; with TLS rediss…, and ?ca=FILE (deploy/README.md).",
        metavar="URL",
    ),
]
StorePlace = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="TIDEGATE_STORE",
        help="A folder, s3://BUCKET/PREFIX, gs://… or az://…: see `tidegate upload --help`.",
    ),
]
WorkspaceName = Annotated[
    str,
    typer.Option(
        "--workspace",
        envvar="TIDEGATE_WORKSPACE",
        help="Default: that of the plan, if one is given.",
    ),
]
KeyFile = Annotated[
    str, typer.Option("--key", envvar="TIDEGATE_KEY", help="Your publisher key (a .pem file).")
]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True)
class Session:
    """One workspace; Redis and the store are opened when they are first needed."""

    workspace: str
    address: Address
    store_place: str
    changes: bool = False

    @cached_property
    def link(self) -> SyncLink:
        """The connection to Redis."""
        return connect_sync(self.address, timeout_seconds=REDIS_TIMEOUT_SECONDS)

    @cached_property
    def mirror(self) -> Mirror:
        """The workspace in Redis."""
        return Mirror(self.link, self.workspace)

    @cached_property
    def store(self) -> Store:
        """The store; who only reads makes no folder. Raises BadParameter when none is named."""
        if not self.store_place:
            raise typer.BadParameter(
                "No store is named. Say --store FOLDER or --store URL, or set TIDEGATE_STORE."
            )
        return open_store(self.store_place, create=self.changes)

    def live(self) -> Publication:
        """Read the live epoch. Raises Refused when there is none."""
        found = read_live(self.store, self.mirror, self.workspace)
        if found is None:
            raise Refused(
                f"Nothing was published in the workspace {self.workspace} yet. Run: tidegate push"
            )
        return found


def open_session(redis: str, store: str, workspace: str, *, changes: bool = False) -> Session:
    """Open a workspace; a command that `changes` it says first which one, and on which Redis."""
    if not workspace:
        raise typer.BadParameter(
            "No workspace is named. Say --workspace, or set TIDEGATE_WORKSPACE."
        )
    try:
        address = parse_url(redis)
    except ValueError as fault:
        raise typer.BadParameter(str(fault)) from None
    if changes:
        note(f"workspace {workspace} on {address.shown}")
    return Session(workspace, address, store, changes)


def open_key(path: str) -> PublisherKey:
    """Open the publisher's key; its passphrase comes from TIDEGATE_KEY_PASSPHRASE or is asked."""
    if not path:
        raise typer.BadParameter(
            "Epochs are signed, and no publisher key is named. Make one with `tidegate keygen`, "
            "then say --key FILE.pem or set TIDEGATE_KEY."
        )
    file = Path(path).expanduser()
    return load_key(file, known_passphrase(file))
