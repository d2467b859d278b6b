"""May this image take the live epoch's place? What is refused before anything is written.

A push must know what it replaces: its checkout contains the live epoch's commit, its overrides
are those of the live epoch, and its lists did not vanish by accident.
"""

from compiler.amendments import laid_lines
from compiler.language.faults import listed
from compiler.lists import shrinking
from compiler.overrides import place_of
from compiler.publication.checkout import Checkout, Standing
from compiler.publication.epoch import Publication, Reader, described
from compiler.refusal import Refused
from gateway import layout
from gateway.version import VersionKey, parse_version

_SHOWN = 5


def check_base(
    live: Publication | None, checkout: Checkout | None, base: int | None, *, force: bool
) -> None:
    """Refuse a stale plan, as a non-fast-forward push is refused. Raises Refused.

    Inside Git the live epoch's commit must be an ancestor of HEAD. Outside, or when the live
    epoch came from outside, `base` must be the live number. `force` overrides both.
    """
    if force or live is None:
        return
    number, commit = live.number, live.epoch["commit"]
    if base is not None and base != number:
        raise Refused(
            f"This push was made for epoch {base}, but {described(live.epoch)} is live. "
            f"Look at `tidegate diff`, then push with --base {number}."
        )
    if checkout is None or not commit:
        if base is None:
            where = (
                "No Git checkout here has this plan"
                if checkout is None
                else "It was pushed outside Git"
            )
            raise Refused(
                f"{described(live.epoch)} is live. {where}, so nothing tells whether this "
                f"plan contains it. Look at `tidegate diff`, then push with --base {number}."
            )
        return
    standing = checkout.standing(commit)
    if standing is not Standing.CONTAINS:
        mend = (
            "Run `git fetch` and `git pull` (`git fetch --unshallow` in a shallow clone) first"
            if standing is Standing.UNKNOWN
            else "Pull or merge it first"
        )
        raise Refused(
            f"This checkout is stale: {described(live.epoch)} is live, and its commit is "
            f"{commit[:12]}; {checkout.head[:12]} {standing.value}. {mend}, or push with --force."
        )


def check_shrink(live: Publication | None, tree: layout.Tree, *, allow_shrink: bool) -> None:
    """Refuse lists that lost half of their ids or more since the live epoch. Raises Refused."""
    if allow_shrink or live is None:
        return
    before = live.tree["lists"]
    found = [
        shrinking.check_shrink(name, before[name]["count"], after["count"])
        for name, after in sorted(tree["lists"].items())
        if name in before
    ]
    shrunk = [each.message for each in found if each is not None]
    if shrunk:
        raise Refused("\n".join(shrunk))


def check_overrides(live: Publication | None, tree: layout.Tree) -> None:
    """Refuse an image that was made without an override of the live epoch. Raises Refused."""
    kept = {place_of(each) for each in tree["overrides"]}
    overrides = live.tree["overrides"] if live is not None else []
    lost = laid_lines(each for each in overrides if place_of(each) not in kept)
    if live is not None and lost:
        raise Refused(
            f"Live epoch {live.number} holds overrides that this push would lose: "
            f"{listed(lost[:_SHOWN], 'and')}. Run the push again, so that it is laid under them."
        )


def withdrawn_keys(contents: layout.Contents, app: str, blob: Reader) -> set[VersionKey]:
    """Give the keys of an app's versions that its compiled program holds for withdrawn."""
    digest = contents["programs"].get(app)
    if digest is None:
        return set()
    program: layout.Program = layout.decode(layout.Program, blob(digest))
    keys = {parse_version(version) for version in program["withdrawn"]}
    return {key for key in keys if key is not None}
