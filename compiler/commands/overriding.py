"""Commands that change one value of the live epoch at once: pause, percent, withdraw, and so on."""

import time
from dataclasses import replace
from typing import Annotated

import typer

from compiler.commands.console import confirm, say
from compiler.commands.going_live import Note, Wait, publish_on_top
from compiler.commands.naming import (
    app_id,
    refuse_unknown_release,
    refuse_unknown_switch,
    refuse_unknown_version,
)
from compiler.commands.session import (
    DEFAULT_REDIS,
    KeyFile,
    RedisUrl,
    Session,
    StorePlace,
    WorkspaceName,
    Yes,
    open_session,
)
from compiler.image import Image
from compiler.language.schema import MOST_CHECK_AFTER
from compiler.language.shapes import RefusalError
from compiler.language.words import PERCENT
from compiler.overrides import SWITCHED, What, in_words, lay_over
from compiler.plan import Plan, State
from compiler.publication.emergency import (
    Standing,
    Wish,
    fulfil,
    outcome,
    same_version,
    standing,
)
from compiler.publication.epoch import Publication, Reader, described
from compiler.publication.stranding import strandings
from compiler.publication.windows import settle
from compiler.refusal import Refused
from gateway.version import parse_version

_PLAN = "plan"
_OF_NO_APP = (What.CHECK_AFTER, *SWITCHED)
REFUSED = 3

AppName = Annotated[
    str, typer.Argument(metavar="APP", help="The app's id, or its file's name.", show_default=False)
]
ReleaseId = Annotated[str, typer.Argument(metavar="RELEASE", help="The release's id.")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="The package's version.")]


def pause(
    app: AppName,
    release: ReleaseId,
    message: Note = "",
    wait: Wait = 10.0,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Offer a release to nobody until it is resumed.

    At once, whatever the plan says; a push of the plan keeps it paused, and says so.
    """
    session = open_session(redis, store, workspace, changes=True)
    wish = Wish(What.STATE, State.PAUSED.value, app, release)
    lay(session, wish, f"pause {app} {release}", key=key, wait=wait, message=message)


def resume(
    app: AppName,
    release: ReleaseId,
    message: Note = "",
    wait: Wait = 10.0,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Offer a paused release again."""
    session = open_session(redis, store, workspace, changes=True)
    wish = Wish(What.STATE, State.LIVE.value, app, release)
    lay(session, wish, f"resume {app} {release}", key=key, wait=wait, message=message)


def end(
    app: AppName,
    release: ReleaseId,
    message: Note = "",
    wait: Wait = 10.0,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Offer a release to nobody any more: only a plan takes that back."""
    session = open_session(redis, store, workspace, changes=True)
    wish = Wish(What.STATE, State.ENDED.value, app, release)
    lay(session, wish, f"end {app} {release}", key=key, wait=wait, message=message)


def percent(
    app: AppName,
    release: ReleaseId,
    share: Annotated[str, typer.Argument(metavar="P", help="0 to 100 in steps of 0.01; or: plan.")],
    message: Note = "",
    wait: Wait = 10.0,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Set the percentage of a release.

    It takes the place of the plan's, of a whole ramp too; `plan` brings that back.
    """
    value = None
    if share != _PLAN:
        try:
            value = str(PERCENT.parse(share))
        except RefusalError as fault:
            raise typer.BadParameter(str(fault)) from None
    session = open_session(redis, store, workspace, changes=True)
    wish = Wish(What.PERCENT, value, app, release)
    lay(session, wish, f"percent {app} {release} {share}", key=key, wait=wait, message=message)


def withdraw(
    app: AppName,
    version: Version,
    message: Note = "",
    wait: Wait = 10.0,
    yes: Yes = False,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Take a version back: nobody is offered it, and who has it must leave it.

    Host apps that no other release serves are named first; then it asks, or needs --yes.
    """
    session = open_session(redis, store, workspace, changes=True)
    wish = Wish(What.WITHDRAWN, "true", app, version)
    said = f"withdraw {app} {version}"
    lay(session, wish, said, key=key, wait=wait, message=message, yes=yes)


def reinstate(
    app: AppName,
    version: Version,
    message: Note = "",
    wait: Wait = 10.0,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Take back the withdrawal of a version."""
    session = open_session(redis, store, workspace, changes=True)
    wish = Wish(What.WITHDRAWN, "false", app, version)
    lay(session, wish, f"reinstate {app} {version}", key=key, wait=wait, message=message)


def check_after(
    seconds: Annotated[int, typer.Argument(metavar="S", min=0, max=MOST_CHECK_AFTER)],
    message: Note = "",
    wait: Wait = 10.0,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Set how many seconds a client waits before it asks again; the plan's number ends that."""
    session = open_session(redis, store, workspace, changes=True)
    wish = Wish(What.CHECK_AFTER, str(seconds))
    lay(session, wish, f"check-after {seconds}", key=key, wait=wait, message=message)


def lay(
    session: Session,
    wish: Wish,
    said: str,
    *,
    key: str,
    wait: float,
    message: str,
    yes: bool = False,
) -> None:
    """Fulfil a wish on the live epoch, and on the next one if somebody else was faster.

    Raises Refused when that one has changed the very same value, or for what it does not have.
    """
    live = session.live()
    gone = any(each["app"] == wish.app for each in live.tree["overrides"])
    if wish.what not in _OF_NO_APP and not gone:
        wish = replace(wish, app=app_id(live.tree["apps"], wish.app))
    apps = [wish.app] if wish.app in live.tree["apps"] else []
    before: Standing | None = None
    agreed: set[str] = set()

    def relay(live: Publication, plan: Plan, blob: Reader) -> tuple[Image | None, str]:
        nonlocal wish, before
        wish = replace(wish, name=_name(plan, wish))
        stands = standing(live, plan, wish)
        _refuse_unknown(plan, wish, stands)
        if before is not None and stands != before and stands.value != wish.value:
            raise Refused(
                f"{described(live.epoch)} has changed it meanwhile: it "
                f"{in_words(wish.what, stands.value)}. Nothing of yours is published."
            )
        before = stands
        image = fulfil(live, plan, blob, wish)
        if image is None:
            # It may have been published by a command that was killed before the records of time
            # windows followed.
            settle(session.mirror, session.store.get_blob, [live])
        else:
            _agree(live, plan, wish, agreed, yes=yes)
        return image, outcome(wish, stands.own)

    publish_on_top(session, live, apps, relay, key=key, wait=wait, note=message or said)


def _name(plan: Plan, wish: Wish) -> str:
    return same_version(plan, wish.app, wish.name) if wish.what is What.WITHDRAWN else wish.name


def _refuse_unknown(plan: Plan, wish: Wish, stands: Standing) -> None:
    """Refuse what the live epoch does not have; but an override of it can be taken back."""
    if wish.what is What.VARIANT and wish.value is not None:
        refuse_unknown_switch(plan, wish.app, wish.value)
    if stands.own is not None or (stands.laid is not None and wish.takes_back):
        return
    if wish.what in SWITCHED:
        refuse_unknown_switch(plan, wish.app, None)
    elif wish.what is What.WITHDRAWN:
        refuse_unknown_version(plan, wish.app, wish.name)
    else:
        refuse_unknown_release(plan, wish.app, wish.name)


def _agree(live: Publication, plan: Plan, wish: Wish, agreed: set[str], *, yes: bool) -> None:
    """Name the host apps that a withdrawal strands, and ask; what was agreed is not asked again."""
    if wish.what is not What.WITHDRAWN or wish.value != "true":
        return
    laid = lay_over(plan, wish.laid(live.tree["overrides"], standing(live, plan, wish).own))
    found = strandings(laid, wish.app, parse_version(wish.name), int(time.time()))
    lines = [str(each) for each in found if str(each) not in agreed]
    for line in lines:
        say(f"stranded: {line}")
    agreed.update(lines)
    if lines and not confirm(f"Withdraw {wish.app} {wish.name}?", yes=yes):
        raise typer.Exit(REFUSED)
