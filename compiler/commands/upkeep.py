"""Commands that keep things in order: restore, pull, gc."""

import time
from pathlib import Path
from typing import Annotated

import typer

from compiler.commands.console import counted, progress, say
from compiler.commands.session import (
    DEFAULT_REDIS,
    RedisUrl,
    StorePlace,
    WorkspaceName,
    open_session,
)
from compiler.publication.collection import KEEP, collect
from compiler.publication.history import find_epoch
from compiler.publication.pull import pull as pull_plan
from compiler.publication.restore import restore as restore_redis


def restore(
    redis: RedisUrl = DEFAULT_REDIS, store: StorePlace = "", workspace: WorkspaceName = ""
) -> None:
    """Fill an emptied Redis from the store.

    With the same epoch, number and all; gateways that run serve on meanwhile.
    """
    session = open_session(redis, store, workspace, changes=True)
    with progress() as show:
        done = restore_redis(
            store=session.store, link=session.link, workspace=session.workspace, progress=show
        )
    say(
        f"Redis serves epoch {done.number}: {counted(done.blobs, 'blob')} and "
        f"{counted(done.buckets, 'bucket')} written"
        f"{'' if done.moved else '; its pointer was right already'}."
    )


def pull(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write the plan.")],
    epoch: Annotated[int, typer.Option(help="Default: the live one.", show_default=False)] = 0,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that differ.")] = False,
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Write the plan that is live into a folder.

    Lists and all, as it was pushed. Refused if a file there differs, unless --force.
    """
    session = open_session(redis, store, workspace)
    live = session.live()
    wanted = find_epoch(session.store, live.digest, epoch) if epoch else live
    pulled = pull_plan(wanted, session.store, folder, force=force)
    say(
        f"Epoch {wanted.number}: {counted(len(pulled.written), 'file')} written, "
        f"{len(pulled.same)} same."
    )
    for path in pulled.extra:
        say(f"not in the epoch, but in {folder}: {path}")
    for line in pulled.overrides:
        say(line)


def gc(
    keep: Annotated[int, typer.Option(help="How many of the newest epochs to keep.")] = KEEP,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Delete what no kept epoch needs, from the store and from Redis."""
    session = open_session(redis, store, workspace, changes=not dry_run)
    with progress() as show:
        done = collect(
            store=session.store,
            link=session.link,
            workspace=session.workspace,
            now=int(time.time()),
            keep=keep,
            dry_run=dry_run,
            progress=show,
        )
    verb = "would be deleted" if dry_run else "deleted"
    say(
        f"{counted(done.epochs, 'epoch')} kept, the oldest is {done.oldest}; {verb}: "
        f"{counted(done.blobs, 'blob')} ({done.bytes:,} bytes) in the store, "
        f"{counted(done.redis_keys, 'key')} in Redis."
    )
