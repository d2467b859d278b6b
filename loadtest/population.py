"""The crowd: phones drawn from a seed, as skewed as real ones, and near what a plan asks about.

    crowd = Population(seed=1, size=50_000, plan=plan, members={"staff": ["u-8841", …]})
    crowd.phone(7)     the JSON object of phone 7's check; the same at every call, in every process
    crowd.packed(7)    whether phone 7 speaks MessagePack

Platforms have their own brands, models and versions; new versions are commoner than old ones; how
many apps a phone has, and which, follow Zipf's law. A quarter of every attribute's values are those
that the plan's conditions and host-app ranges name, so that a run reaches their releases and stands
on their bounds. A few phones are odd, as a few always are: see the shares below.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from random import Random
from typing import Any

from compiler.plan import App, Condition, Operator, Plan
from gateway.attribute import CUSTOM

MEMBERS = 0.01
"""The share of phones that are on one of the plan's lists, unless told."""

PACKED = 0.03
"""The share that speaks MessagePack."""

NAMED = 0.25
"""The share of an attribute's values that the plan itself names."""

SIGNED_IN, NO_DEVICE, PLACEHOLDER = 0.8, 0.01, 0.003
"""The shares that send a user id, that send no device id, that send a placeholder in its place."""

ODD_VALUE, STRANGE_APP, SWITCHES, ABLE = 0.01, 0.01, 0.05, 0.4
"""The shares with an unreadable attribute, that ask for an app that is not there, that ask for
switches where the plan has some, and that say what they can open."""

MOST_APPS = 20
"""Apps of one phone, at most."""

_NETWORKS = {"WIFI": 62, "5G": 22, "4G": 15, "3G": 1}
_LOCALES = {"zh-CN": 90, "zh-HK": 3, "en-US": 5, "ug-CN": 2}
_CHANNELS = {"store": 70, "vendor": 25, "web": 5}
_CITIES = {
    ("CN-GD", "Shenzhen"): 12, ("CN-GD", "Guangzhou"): 11, ("CN-JS", "Nanjing"): 9,
    ("CN-SD", "Jinan"): 8, ("CN-ZJ", "Hangzhou"): 9, ("CN-SH", "Shanghai"): 8,
    ("CN-BJ", "Beijing"): 8, ("CN-HA", "Zhengzhou"): 7, ("CN-SC", "Chengdu"): 7,
    ("CN-HB", "Wuhan"): 6, ("CN-XJ", "Urumqi"): 2, ("HK", "Hong Kong"): 2, (None, None): 11,
}  # fmt: skip
_PLATFORMS = {"android": 60, "ios": 34, "harmony": 6}
_MODELS: dict[str, dict[tuple[str | None, str | None], int]] = {
    "android": {
        ("Xiaomi", "2304FPN6DC"): 14, ("Redmi", "23049RAD8C"): 13, ("OPPO", "PHZ110"): 17,
        ("vivo", "V2302A"): 18, ("HONOR", "MAA-AN00"): 14, ("HUAWEI", "ALN-AL00"): 12,
        ("samsung", "SM-S9180"): 4, ("realme", "RMX3820"): 4, (None, None): 4,
    },
    "ios": {
        ("Apple", "iPhone15,2"): 20, ("Apple", "iPhone14,5"): 30, ("Apple", "iPhone16,1"): 25,
        ("Apple", "iPhone12,1"): 15, ("Apple", "iPad13,1"): 10,
    },
    "harmony": {("HUAWEI", "ALN-AL80"): 60, ("HUAWEI", "BRA-AL00"): 40},
}  # fmt: skip
_OS_VERSIONS = {
    "android": ("15", "14", "13", "12", "11", "10", "9", "8.1.0"),
    "ios": ("18.1", "17.6.1", "17.2", "16.7", "15.8", "14.8"),
    "harmony": ("5.0.0", "4.2.0", "4.0.0", "3.0.0"),
}
_ROMS: dict[str, dict[str | None, int]] = {
    "android": {"V816.0.5": 3, "OS1.0.12": 4, "14.0.0.300": 3},
    "ios": {None: 1},
    "harmony": {"4.2.0.130": 1},
}
_CLIENTS = ("10.5.20", "10.5.0", "10.3.2", "10.2.3", "10.2.0", "10.1.0", "9.8.6", "8.0.0")
_OPENS: tuple[list[Any], ...] = (
    ["zstd", "bsdiff4"],
    ["gzip", "zstd", "bsdiff4", "zstd-patch"],
    ["gzip"],
    [],
    ["br", 7],
)
_ODD = (7, "", None, ["x"], {"a": 1}, "?" * 300)
_NEITHER = "neither"

Weighted = tuple[Any, float]
"""A value, None for "not sent", and its weight."""


class _Pool:
    """Values by weight; a draw costs one number and one search."""

    __slots__ = ("_last", "_values", "bounds")

    def __init__(self, weighted: Iterable[Weighted]) -> None:
        values, weights = zip(*weighted, strict=True)
        total = sum(weights)
        self._values = values
        self.bounds = list(accumulate(each / total for each in weights))
        self._last = len(values) - 1

    def draw(self, number: float) -> Any:
        """Give the value at a number from 0 to below 1."""
        return self._values[min(bisect_right(self.bounds, number), self._last)]


class Population:
    """So many phones for a plan, numbered from 0; pure, and for one thread at a time."""

    def __init__(
        self,
        seed: int,
        size: int,
        plan: Plan,
        members: Mapping[str, Sequence[str]] | None = None,
        *,
        member_share: float = MEMBERS,
        most_apps: int = MOST_APPS,
    ) -> None:
        """Draw from `seed`; `members` are ids of the plan's lists, by name, a sample will do.

        Of all phones the share `member_share` sends an id of one of those lists, each list as
        often as another. Raises ValueError for a plan without apps, or sizes that cannot be.
        """
        if size < 1 or not 0 <= member_share <= 1 or most_apps < 1:
            raise ValueError("a population has a phone at least, and a share of 0 to 1 on lists")
        if not plan.apps:
            raise ValueError("the plan has no apps to ask about")
        # In one order, however the plan was read: chance goes by it.
        plan = replace(plan, apps=tuple(sorted(plan.apps, key=lambda app: app.id)))
        self.seed = seed
        self.size = size
        self._random = Random()
        kinds = {source.name: source.of for source in plan.lists}
        self._members = [
            (kinds[name], list(ids)) for name, ids in sorted((members or {}).items()) if ids
        ]
        self._member_share = member_share if self._members else 0.0
        self._switches = SWITCHES if plan.switches else 0.0
        self._placeholders = plan.workspace.placeholders or ("",)
        # Zipf's law: the app of rank r weighs 1 / r, and so does a phone with r apps.
        self._apps = _Pool((app, 1 / rank) for rank, app in enumerate(plan.apps, 1))
        most = min(most_apps, len(plan.apps))
        self._sizes = _Pool((each, 1 / each) for each in range(1, most + 1))
        self._installed: dict[str, _Pool] = {}
        named = _named(plan)
        self._platforms = _Pool(_mix([*_PLATFORMS.items()], named.get("platform", ()), NAMED))
        self._pools = {name: _pools_of(name, named) for name in _PLATFORMS}
        self._custom = [
            _Pool(_sent(name.removeprefix(CUSTOM), [(None, 3), (_NEITHER, 2)], values, 0.5))
            for name, values in sorted(named.items())
            if name.startswith(CUSTOM)
        ]

    def packed(self, number: int) -> bool:
        """Tell whether a phone asks, and wants to be answered, in MessagePack."""
        # A multiplicative hash spreads neighbours; it need not be more than even.
        spread = (number * 2_654_435_761 + self.seed * 40_503) & 0xFFFF_FFFF
        return spread < PACKED * 2**32

    def phone(self, number: int) -> dict[str, Any]:
        """Draw a phone: the object of its check, without `dry_run`, for the caller to keep."""
        if not 0 <= number < self.size:
            raise ValueError(f"there is no phone {number} among {self.size}")
        self._random.seed(self.seed << 40 | number)
        draw = self._random.random
        platform = self._platforms.draw(draw())
        phone: dict[str, Any] = {}
        self._identify(phone, number)
        if platform is not None:
            phone["platform"] = platform
        for pool in self._pools.get(platform) or self._pools["android"]:
            phone.update(pool.draw(draw()))
        if self._custom:
            phone["custom"] = custom = {}
            for pool in self._custom:
                custom.update(pool.draw(draw()))
        if draw() < ABLE:
            phone["accept"] = [*_OPENS[int(draw() * len(_OPENS))]]
        if draw() < self._switches:
            phone["switches"] = True
        if draw() < ODD_VALUE:
            phone[("network", "os_version", "custom")[int(draw() * 3)]] = self._random.choice(_ODD)
        phone["apps"] = self._choose_apps()
        return phone

    def _identify(self, phone: dict[str, Any], number: int) -> None:
        """Say who it is: ids that name the seed and the number, or a member's of some list."""
        draw = self._random.random
        if draw() < SIGNED_IN:
            phone["user"] = f"u-{self.seed}-{number}"
        roll = draw()
        if roll < PLACEHOLDER:
            phone["device"] = self._placeholders[number % len(self._placeholders)]
        elif roll >= PLACEHOLDER + NO_DEVICE:
            phone["device"] = f"d-{self.seed}-{number}"
        if draw() < self._member_share:
            kind, ids = self._members[int(draw() * len(self._members))]
            phone[kind] = ids[int(draw() * len(ids))]

    def _choose_apps(self) -> dict[str, Any]:
        draw = self._random.random
        apps: dict[str, Any] = {}
        # The most popular apps are drawn again and again: so often, then it has fewer.
        wanted = self._sizes.draw(draw())
        for _ in range(4 * wanted):
            app = self._apps.draw(draw())
            if app.id not in apps:
                pool = self._installed.get(app.id) or self._learn(app)
                apps[app.id] = pool.draw(draw())
                if len(apps) == wanted:
                    break
        if draw() < STRANGE_APP:
            apps["strange"] = "1.0.0"
        return apps

    def _learn(self, app: App) -> _Pool:
        """Make the pool of an app's installed versions: each twice as common as the one before."""
        newest = sorted(app.packages, key=lambda package: package.key, reverse=True)
        weights = [(each.version, 0.85 / 2**rank) for rank, each in enumerate(newest)]
        rest = [(None, 0.25), ("0.0.1", 0.03), ("junk", 0.005), (7, 0.002)]
        self._installed[app.id] = pool = _Pool([*weights, *rest])
        return pool


def _pools_of(platform: str, named: Mapping[str, Sequence[Any]]) -> list[_Pool]:
    """Give the pools of what a phone of a platform sends, each value as members of the check."""
    models = [(_members(brand=b, model=m), share) for (b, m), share in _MODELS[platform].items()]
    cities = [(_members(region=r, city=c), share) for (r, c), share in _CITIES.items()]
    plain: dict[str, Iterable[Weighted]] = {
        "os_version": _newer(_OS_VERSIONS[platform]),
        "client_version": _newer(_CLIENTS),
        "network": _NETWORKS.items(),
        "locale": _LOCALES.items(),
        "rom_version": _ROMS[platform].items(),
        "channel": _CHANNELS.items(),
    }
    # A brand has its models, a region its cities; what the plan names may take their place.
    plain |= {each: [(None, 1)] for each in ("brand", "model", "region", "city") if each in named}
    mixed = (_sent(name, usual, named.get(name, ())) for name, usual in plain.items())
    return [_Pool(models), _Pool(cities), *map(_Pool, mixed)]


def _members(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _sent(
    name: str, usual: Iterable[Weighted], named: Sequence[Any], share: float = NAMED
) -> list[Weighted]:
    return [
        (_members(**{name: value}), weight) for value, weight in _mix(list(usual), named, share)
    ]


def _newer(newest_first: Sequence[str]) -> list[Weighted]:
    """Weigh versions: each three fifths of the one after it; a few phones do not say."""
    return [(None, 0.02), *((text, 0.6**rank) for rank, text in enumerate(newest_first))]


def _mix(usual: Sequence[Weighted], named: Sequence[Any], share: float) -> list[Weighted]:
    """Mix what is usual with what the plan names, of which each is as likely as another."""
    part = sum(weight for _, weight in usual) * share / (1 - share)
    return [*usual, *((value, part / len(named)) for value in named)]


def _named(plan: Plan) -> dict[str, list[Any]]:
    """Gather the values that a plan names, by attribute; a pattern's signs become letters."""
    found: dict[str, dict[tuple[type, Any], Any]] = {}
    for attribute, value in _operands(plan):
        found.setdefault(attribute, {})[type(value), value] = value
    return {attribute: list(values.values()) for attribute, values in found.items()}


def _operands(plan: Plan) -> Iterator[tuple[str, Any]]:
    for condition in _conditions(plan):
        for operand in condition.operands:
            if condition.operator is Operator.MATCHES:
                yield condition.attribute, str(operand).replace("*", "x").replace("?", "x")
            else:
                yield condition.attribute, operand
    for package in (package for app in plan.apps for package in app.packages):
        for platform, comparisons in (package.clients or {}).items():
            yield "platform", platform
            yield from (("client_version", each.version) for each in comparisons)


def _conditions(plan: Plan) -> Iterator[Condition]:
    for app in plan.apps:
        for release in app.releases:
            yield from release.conditions
    for switch in plan.switches:
        for row in switch.targeting:
            yield from row.conditions
