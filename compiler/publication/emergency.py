"""One value of the live epoch is changed at once: pause, resume, end, percent, withdraw, and so on.

The next epoch is made from the live one's own tree, by compiling again only what the value
touches: no checkout is needed, and ten thousand apps cost no more than one. A value is set by an
override, and by none where the plan says the same.
"""

from dataclasses import dataclass

from compiler.image import Image, relay_image
from compiler.overrides import (
    Place,
    What,
    drop,
    find_app,
    find_release,
    in_words,
    place_of,
    put,
    said,
)
from compiler.plan import Audience, Plan, State
from compiler.publication.epoch import Publication, Reader
from compiler.refusal import Refused
from gateway import layout
from gateway.version import parse_version


@dataclass(frozen=True, slots=True)
class Wish:
    """One value that an operator wants, as an override's; None: what the plan says."""

    what: What
    value: str | None
    app: str = ""
    name: str = ""

    @property
    def place(self) -> Place:
        """Which value it is."""
        return place_of(self._override(""))

    @property
    def takes_back(self) -> bool:
        """Whether it lifts an override, and lays none on what is not there."""
        return self.what is What.ENABLED or self.value in (None, State.LIVE.value, "false")

    def _override(self, value: str) -> layout.Override:
        return {"what": self.what.value, "app": self.app, "name": self.name, "value": value}

    def laid(self, overrides: list[layout.Override], own: str | None) -> list[layout.Override]:
        """Give the overrides under which it holds over a plan that says `own`.

        One that says so already stays, over the same in the plan too: after a revert the next plan
        may say otherwise.
        """
        if any(place_of(each) == self.place and each["value"] == self.value for each in overrides):
            return overrides if own is not None else drop(overrides, self.place)
        if own is None or self.value in (None, own):
            return drop(overrides, self.place)
        return put(overrides, self._override(self.value))


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds of a value now: what the plan says of it, and what an override says, if any."""

    own: str | None
    laid: str | None

    @property
    def value(self) -> str | None:
        """What holds; None when the epoch has no such release or version."""
        return self.own if self.laid is None or self.own is None else self.laid


def standing(live: Publication, plan: Plan, wish: Wish) -> Standing:
    """Look what holds of the wished value; `plan` is the live one as it is written."""
    laid = [each["value"] for each in live.tree["overrides"] if place_of(each) == wish.place]
    return Standing(said(plan, wish.place), laid[0] if laid else None)


def fulfil(live: Publication, plan: Plan, blob: Reader, wish: Wish) -> Image | None:
    """Make the image in which the wish holds; None when it does already.

    `plan` is the live one, of that app, as it is written; `blob` reads the live epoch. Publish it
    with `onto=live`. Raises Refused, PlanError (a package without a record) and what `blob` raises.
    """
    stands = standing(live, plan, wish)
    refuse(plan, wish, stands)
    overrides = wish.laid(live.tree["overrides"], stands.own)
    if overrides == live.tree["overrides"]:
        return None
    return relay_image(live.contents, live.tree, blob, overrides)


def refuse(plan: Plan, wish: Wish, stands: Standing) -> None:
    """Raise Refused for a wish that only a plan can grant, with what to write there."""
    app = find_app(plan, wish.app)
    file = app.file if app is not None else ""
    release = find_release(plan, wish.app, wish.name)
    if wish.what is What.STATE and stands.value == State.ENDED and wish.value != State.ENDED:
        push = "and push"
        if stands.laid is not None:
            push = f"and push with --take-plan {wish.app}/{wish.name}"
        raise Refused(
            f"Release {wish.name} of {wish.app} was ended, which is final. To offer it again, "
            f"write `state: live` in {file} {push}; or write a release with a new id."
        )
    if wish.what is What.PERCENT and release is not None and wish.value is not None:
        audience = release.audience
        if audience.basis_points is None and not audience.ramp and audience != Audience():
            raise Refused(
                f"The audience of release {wish.name} has no percent, and is not everyone. "
                f"Write `percent: …` into its audience in {file} and push."
            )
    if wish.what is What.WITHDRAWN and wish.value == "false" and stands.own == "true":
        raise Refused(
            f"The plan itself withdraws {wish.app} {wish.name}. Delete `withdrawn: true` "
            f"in {file} and push."
        )


def outcome(wish: Wish, own: str | None) -> str:
    """Say what holds once the wish is fulfilled, and what the plan says where that differs."""
    value = own if wish.value is None else wish.value
    subject = f"{wish.app} {wish.name}".strip() or wish.what.value
    if own is None:
        return f"nothing is laid over {subject} any more, which the plan does not have"
    text = f"{subject} {in_words(wish.what, value)}"
    if wish.value is None or own == value:
        return f"{text}, as the plan says"
    return f"{text}; in the plan it {in_words(wish.what, own)}"


def same_version(plan: Plan, app: str, version: str) -> str:
    """Give a version as the plan writes it, if the plan knows it."""
    found = find_app(plan, app)
    key = parse_version(version)
    texts = [each.version for each in found.packages if each.key == key] if found else []
    return texts[0] if texts else version
