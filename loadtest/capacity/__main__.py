"""`tidegate capacity`: what a release day takes, from the figures of `make bench`.

  tidegate capacity                                   200 million visitors a day, by the defaults
  tidegate capacity --visitors 5e6 --peak 8 --apps 12 a site of your own
  tidegate capacity --storm-phones 20M --storm-seconds 60
  tidegate capacity --core-hour 0.04 --gigabyte 0.02  with your prices
  tidegate capacity --json                            for a script

Numbers are written as 200e6 or 200M, sizes as 300kB, shares as 2% or 0.02. Exit codes: 0 done,
2 usage. It sends nothing and asks nothing: `python -m loadtest.capacity.check` measures whether
what it predicts comes true on the machine at hand.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest import quantity
from loadtest.capacity import figures, text
from loadtest.capacity.availability import Failures, expected
from loadtest.capacity.day import VARIETY, Day, Site, need
from loadtest.capacity.figures import Figures, FiguresError
from loadtest.capacity.storm import Storm
from loadtest.capacity.text import Findings


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute and print; give the exit code."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    try:
        measured = _figures(asked.figures)
    except FiguresError as fault:
        parser.error(str(fault))
    found = _findings(asked, measured)
    if asked.json:
        print(json.dumps(text.as_data(found), indent=1))
    else:
        print(text.as_text(found))
    return 0


def _figures(asked: Path | None) -> Figures:
    """Read the file asked for, else the one that the bench left here, else take the README's."""
    if asked is None and not figures.PLACE.exists():
        return figures.README
    return figures.read(asked or figures.PLACE)


def _findings(asked: argparse.Namespace, measured: Figures) -> Findings:
    day = Day(
        visitors=asked.visitors,
        checks=asked.checks_per_visitor,
        apps=asked.apps,
        variety=asked.variety,
        peak=asked.peak,
        lists=asked.list_ids > 0,
        members=asked.members,
        remembered=asked.remembered,
        fresh=asked.new_connections,
        updates=asked.updates,
        patched=asked.patched,
        package_bytes=asked.package,
        patch_bytes=asked.patch,
        ids=asked.list_ids,
    )
    site = Site(asked.busy, asked.cores_per_machine, asked.zones)
    needed = need(day, site, measured)
    storm = Storm(
        *(asked.storm_phones, asked.storm_seconds, asked.check_after, asked.storm_offered),
        *(day.patched, day.package_bytes, day.patch_bytes),
    )
    often = Failures(
        redis_failovers=asked.redis_failovers,
        redis_seconds=asked.redis_seconds,
        crashes=asked.crashes,
        crash_seconds=asked.crash_seconds,
        deploys=asked.deploys,
        machines_a_year=asked.machine_failures,
        machine_seconds=asked.machine_seconds,
        zones_a_year=asked.zone_failures,
        zone_seconds=asked.zone_seconds,
    )
    failures = expected(
        often,
        machines=needed.machines,
        cores=needed.cores,
        zones=site.zones,
        asked=day.members * (1 - day.remembered) if day.lists else 0.0,
    )
    return Findings(
        *(measured, day, site, needed, storm, failures), asked.core_hour, asked.gigabyte
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidegate capacity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="for a script")
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="FILE",
        help=f"what `make bench` measured ({figures.PLACE}; where there is none, the README's)",
    )
    for title, options in _OPTIONS.items():
        group = parser.add_argument_group(title)
        for name, kind, usual, meaning in options:
            shown = "" if usual is None else f" ({usual})"
            group.add_argument(
                *(f"--{name}",),
                type=kind,
                default=None if usual is None else kind(usual),
                metavar="N",
                help=(meaning + shown).replace("%", "%%"),
            )
    return parser


_OPTIONS = {
    "a day": (
        ("visitors", quantity.above_zero, "200e6", "phones that open the host app in a day"),
        ("checks-per-visitor", quantity.above_zero, "8", "checks a visitor and day"),
        ("apps", quantity.above_zero, "5", "apps in a check"),
        ("variety", quantity.above_zero, f"{VARIETY}", "times the bench's check that yours takes"),
        ("peak", quantity.above_zero, "5", "the busiest second over the mean one"),
        ("new-connections", quantity.share, "20%", "checks that open a connection to a gateway"),
        ("list-ids", quantity.amount, "10M", "ids on all allowlists together; 0: no list is live"),
        ("members", quantity.share, "2%", "checks by someone who is on a list"),
        ("remembered", quantity.share, "50%", "of these, checks that a gateway needs no Redis for"),
        ("updates", quantity.amount, "0.2", "downloads a visitor and day"),
        ("patched", quantity.share, "80%", "of these, patches"),
        ("package", quantity.amount, "1.5MB", "the size of a package"),
        ("patch", quantity.amount, "120kB", "the size of a patch"),
    ),
    "a site": (
        ("busy", quantity.share_above_zero, "60%", "how busy a core may be in the busiest second"),
        ("cores-per-machine", quantity.count, "8", "cores that serve, a machine"),
        ("zones", quantity.count, "3", "one of them may be lost at the peak"),
        ("core-hour", quantity.amount, None, "price of a core's hour"),
        ("gigabyte", quantity.amount, None, "price of a GB from the CDN"),
    ),
    "a storm": (
        ("storm-phones", quantity.above_zero, "20M", "phones that wake together"),
        ("storm-seconds", quantity.above_zero, "60", "within so many seconds"),
        ("storm-offered", quantity.share, "100%", "of them, those who get the new version"),
        ("check-after", quantity.above_zero, "1800", "seconds until a phone asks again"),
    ),
    "failures in a year": (
        ("redis-failovers", quantity.amount, "12", "times that Redis fails over"),
        ("redis-seconds", quantity.amount, "3", "seconds that this takes"),
        ("crashes", quantity.amount, "52", "crashes of a worker, in the whole fleet"),
        ("crash-seconds", quantity.amount, "1", "seconds until another one serves"),
        ("deploys", quantity.amount, "104", "deploys"),
        ("machine-failures", quantity.amount, "0.5", "losses of a machine, for each machine"),
        ("machine-seconds", quantity.amount, "10", "seconds until balancers pass it over"),
        ("zone-failures", quantity.amount, "0.5", "losses of a zone"),
        ("zone-seconds", quantity.amount, "30", "seconds until the others have its traffic"),
    ),
}


if __name__ == "__main__":
    sys.exit(main())
