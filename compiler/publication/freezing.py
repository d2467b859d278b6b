"""Full and finished windows become lists without a push: for whoever watches over the epochs."""

from compiler.image import relay_image
from compiler.progress import Progress, quiet
from compiler.publication.live import read_live
from compiler.publication.mirror import Mirror
from compiler.publication.publisher import Published, publish
from compiler.publication.publisher_key import PublisherKey
from compiler.publication.windows import carry_over
from compiler.storage.spool import Spool
from compiler.storage.store import Store
from compiler.windows import frozen_of
from gateway.link import SyncLink


def freeze_due(
    *,
    store: Store,
    link: SyncLink,
    key: PublisherKey,
    workspace: str,
    now: int,
    progress: Progress = quiet,
) -> Published | None:
    """Publish the live epoch again with the windows frozen that are full or over; None: none is.

    Raises Refused (LostRaceError if a push came first: then it has frozen them), PlanError,
    StoreError and FormatError.
    """
    mirror = Mirror(link, workspace)
    live = read_live(store, mirror, workspace)
    if live is None:
        return None
    windows = live.tree["windows"]
    frozen = carry_over(mirror, windows, windows, store.get_blob, progress)
    due = frozen.keys() - frozen_of(windows).keys()
    if not due:
        return None
    overrides = live.tree["overrides"]
    image = relay_image(
        live.contents, live.tree, store.get_blob, overrides, frozen, progress, Spool()
    )
    return publish(
        image,
        store=store,
        link=link,
        key=key,
        workspace=workspace,
        now=now,
        note=f"full or over: {', '.join(sorted(due))}",
        commit=live.epoch["commit"],
        force=True,
        allow_shrink=True,
        onto=live,
        progress=progress,
    )
