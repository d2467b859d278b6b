"""Commands that keep things in order: restore, pull, gc, reinstate."""

import time
from pathlib import Path
from typing import Annotated

import typer

from compiler.commands.console import counted, progress, say
from compiler.commands.naming import app_id
from compiler.commands.publishing import Note, Wait, publish_and_wait
from compiler.commands.session import (
    DEFAULT_REDIS,
    KeyFile,
    RedisUrl,
    StorePlace,
    WorkspaceName,
    open_session,
)
from compiler.explanation import plan_of
from compiler.image import rebuild_image
from compiler.publication.collection import KEEP, collect
from compiler.publication.history import find_epoch
from compiler.publication.pull import pull as pull_plan
from compiler.publication.restore import restore as restore_redis
from compiler.refusal import Refused
from compiler.storage.spool import Spool
from gateway.version import parse_version


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
    for each in wanted.tree["withdrawals"]:
        say(
            f"laid over the plan: {each['app']} {each['version']} is withdrawn. "
            "Write `withdrawn: true` into its package to say so in the plan."
        )


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


def reinstate(
    app: Annotated[str, typer.Argument(help="The app's id, or its file's name.")],
    version: Annotated[str, typer.Argument(help="The withdrawn version.")],
    message: Note = "",
    wait: Wait = 10.0,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Take back a withdrawal that a revert laid over the plan."""
    session = open_session(redis, store, workspace, changes=True)
    live = session.live()
    wanted = app_id(plan_of(live, session.store.get_blob), app)
    lifted = [
        each
        for each in live.tree["withdrawals"]
        if each["app"] == wanted and parse_version(each["version"]) == parse_version(version)
    ]
    if not lifted:
        raise Refused(
            f"No withdrawal of {wanted} {version} is laid over the plan. If the plan itself says "
            "`withdrawn: true`, change it there and push."
        )
    image = rebuild_image(
        live.tree,
        live.contents["membership"],
        session.store.get_blob,
        [each for each in live.tree["withdrawals"] if each not in lifted],
        Spool(),
    )
    publish_and_wait(
        session,
        image,
        key=key,
        wait=wait,
        note=message or f"reinstate {wanted} {version}",
        commit=live.epoch["commit"],
        force=True,
        onto=live,
        lifted=[(each["app"], each["version"]) for each in lifted],
    )
