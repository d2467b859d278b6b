"""A shop with phones: one app for each thing that can befall a phone, a gateway, and a CDN.

Two epochs: in the first every phone gets what it has *before*; the second brings each app to its
end. A phone's `region` chooses its way to the CDN: through the proxy that does harm, around it.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cdn
from loadtest.client import Client, Installed, Limits, Result, Trust, read_identities, read_keys
from processes import free_port
from stock import editions, packed, publish, run_here, stock
from workplace import REAL, Workplace, workplace

OLD, NEW = "1.0", "2.0"
PLAIN, SIGNED, SECRET, BACK = "plain", "signed", "secret", "back"
GONE, SAME, ENDED, LEFT, COUNTED, VANT = "gone", "same", "ended", "left", "counted", "vant"
VANT_OLD, VANT_NEW = "1.11.0", "1.11.7"
NEAR, DEAD, BOTH, FAR = "near", "dead", "both", "far"
"""Through the proxy only; to nobody; both with nginx as the second base; to nginx itself."""

QUICK = Limits(silence_seconds=20.0, pause_seconds=0.0)
HASTY = Limits(silence_seconds=0.5, pause_seconds=0.0)
"""For the tests of silence alone: on a machine under load an answer may take a second."""
BEFORE = {BACK: NEW, VANT: VANT_OLD}
AFTER = {PLAIN: NEW, SIGNED: NEW, SECRET: NEW, COUNTED: NEW, VANT: VANT_NEW}


@dataclass(frozen=True, slots=True)
class Shop:
    """All of it; `files` are the packages by version, `roots` phones as they were before."""

    place: Workplace
    nginx: cdn.Nginx
    proxy: cdn.Proxy
    gate: cdn.Proxy
    files: Mapping[str, Path]
    roots: Path
    trust: Mapping[str, Trust]

    def phone(self, root: Path, app: str, *, fresh: bool = False, **member: Any) -> "Phone":
        """Give a phone as it was before the second epoch, or with nothing installed."""
        shutil.rmtree(root, ignore_errors=True)
        if fresh:
            root.mkdir(parents=True)
        else:
            shutil.copytree(self.roots / app, root)
        self.proxy.fault = self.gate.fault = cdn.none
        self.proxy.requests.clear()
        self.gate.requests.clear()
        return Phone(self, root, app, {"device": f"d-{root.name}", **member}, fresh=fresh)


@dataclass(slots=True)
class Phone:
    """A phone with one app: what it had, and what it shall have in the end."""

    shop: Shop
    root: Path
    app: str
    members: dict[str, Any]
    fresh: bool = False
    gateway: str = ""
    trust: Trust | None = None
    limits: Limits = field(default=QUICK)

    @property
    def before(self) -> str | None:
        """The version that it had."""
        return None if self.fresh else BEFORE.get(self.app, OLD)

    @property
    def target(self) -> str:
        """The version that it shall have."""
        return AFTER.get(self.app, OLD)

    def client(self, **members: Any) -> Client:
        """Start its client anew."""
        gateway = self.gateway or self.shop.place.gateway.url
        phone = {"region": NEAR, **self.members, **members}
        return Client(self.root, gateway, phone, [self.app], self.whom(), self.limits)

    def whom(self) -> Trust:
        """Say whom it trusts."""
        return self.trust or self.shop.trust.get(self.app, Trust())

    def round(self, **members: Any) -> Result:
        """Do one round; after it the phone has its target or what it had, whole."""
        (result,) = self.client(**members).update()
        found = self.held()
        assert result.version == (found and found.version), result
        return result

    def held(self) -> Installed | None:
        """Hold the phone to law 10: what is installed now is one of two files, byte for byte."""
        found = self.client().installed(self.app)
        if found is None:
            assert self.fresh, "what was installed is gone"
            return None
        assert found.version in (self.before, self.target), found
        data, package = found.path.read_bytes(), self.shop.files[found.version].read_bytes()
        assert data == package, "what is installed is not the package"
        assert (found.size, found.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        return found

    def heal(self) -> Result:
        """Do a round in which nothing goes wrong: the phone ends on its target, and tidy."""
        self.shop.proxy.fault = self.shop.gate.fault = cdn.none
        self.limits = QUICK
        result = self.round()
        found = self.held()
        assert found is not None and found.version == self.target, result
        left = [path for name in ("downloads", "opening") for path in (self.root / name).glob("*")]
        assert left == [], "what was fetched stays for ever"
        return result

    @property
    def version(self) -> str | None:
        """The version that is installed now."""
        found = self.held()
        return found and found.version


def _package(version: str, *, withdrawn: bool = False) -> str:
    return f"  - {{version: {version}{', withdrawn: true' if withdrawn else ''}}}\n"


def _app(app: str, packages: str, offered: str | None, extra: str = "", state: str = "") -> str:
    releases = f"\n  - {{id: stable, package: {offered}, audience: everyone{state}}}\n"
    return f"app: {app}\n{extra}packages:\n{packages}releases:{releases if offered else ' []'}\n"


def _plan(place: Workplace, apps: Mapping[str, Path], recipient: str, *, second: bool) -> None:
    """Write the plan of an epoch."""
    for app in apps:
        low, high = (VANT_OLD, VANT_NEW) if app == VANT else (OLD, NEW)
        both = _package(low) + _package(high)
        extra = f"encryption:\n  {recipient}" if app == SECRET else ""
        offered: str | None = AFTER.get(app, OLD) if second else BEFORE.get(app, OLD)
        state = ""
        if second and app == BACK:
            both = _package(low) + _package(high, withdrawn=True)
        if second and app == GONE:
            both, offered = _package(low, withdrawn=True), None
        if second and app == ENDED:
            state = ", state: ended"
        path = place.plan / "apps" / f"{app}.yaml"
        if second and app == LEFT:
            path.unlink()
            shutil.rmtree(place.plan / "packages" / app)
        else:
            place.write(f"apps/{app}.yaml", _app(app, both, offered, extra, state))


def _packages(folder: Path) -> dict[str, Path]:
    """Pack the made-up versions, and the real ones where they are."""
    found = packed(folder, editions((OLD, NEW)))
    if REAL.is_dir():
        from compiler.packaging.archive import pack

        for version in (VANT_OLD, VANT_NEW):
            found[version] = folder / f"{version}.zip"
            pack(REAL / f"vant-weapp-{version}.tgz", found[version], kind="bundle")
    return found


def _stock(place: Workplace, files: Mapping[str, Path]) -> tuple[dict[str, Any], dict[str, Trust]]:
    """Make keys, upload everything; give the apps' packages and whom their phones trust."""
    keys, made = place.folder / "keys", (OLD, NEW)
    apps: dict[str, Any] = {
        app: {version: files[version] for version in made}
        for app in (PLAIN, BACK, GONE, SAME, ENDED, LEFT, COUNTED)
    }
    if VANT_OLD in files:
        apps[VANT] = {version: files[version] for version in (VANT_OLD, VANT_NEW)}
    run_here(place, "keygen", "dev", "--for", "packages", "--dir", str(keys), "--no-passphrase")
    run_here(place, "keygen", "tea", "--for", "devices", "--dir", str(keys), "--no-passphrase")
    for app in (SIGNED, SECRET):
        signed = place.folder / app
        signed.mkdir()
        apps[app] = {
            version: Path(shutil.copy(files[version], signed / f"{version}.zip"))
            for version in made
        }
        for version, file in apps[app].items():
            names = ("--app", app, "--version", version)
            run_here(place, "sign", str(file), "--key", str(keys / "dev.pem"), *names)
    _plan(place, apps, (keys / "tea.recipient").read_text(), second=False)
    for app, packages in apps.items():
        stock(place, app, packages)
    developer = read_keys(str(keys / "dev.pub"))
    trust = {
        SIGNED: Trust(developer),
        SECRET: Trust(developer, read_identities(keys / "tea.age-key")),
    }
    return apps, trust


@contextmanager
def shop(folder: Path, redis_url: str) -> Iterator[Shop]:
    """Open a shop: both epochs published, patches made, a phone of each app as it was before."""
    with (
        cdn.nginx(folder / "nginx", folder / "store") as nginx,
        cdn.proxy(nginx.base) as proxy,
        workplace(folder, redis_url) as place,
        cdn.proxy(place.gateway.url) as gate,
    ):
        dead = f"http://127.0.0.1:{free_port()}"
        rules = {
            NEAR: [proxy.base],
            DEAD: [dead],
            BOTH: [proxy.base, nginx.base],
            "dead-both": [dead, nginx.base],
            "*": [nginx.base],
        }
        lines = [
            f'  - {{regions: ["{name}"], bases: {json.dumps(rules[name])}}}\n' for name in rules
        ]
        place.write("workspace.yaml", f"workspace: demo\ncdn:\n{''.join(lines)}")
        files = _packages(folder / "packages")
        apps, trust = _stock(place, files)
        publish(place)
        found = Shop(place, nginx, proxy, gate, files, folder / "roots", trust)
        for app in apps:
            phone = Phone(found, found.roots / app, app, {"device": "first", "dry_run": True})
            (result,) = phone.client().update()
            assert result.version == BEFORE.get(app, OLD), result
        recipient = (folder / "keys" / "tea.recipient").read_text()
        _plan(place, apps, recipient, second=True)
        census = folder / "census.json"
        census.write_text(json.dumps({app: {BEFORE.get(app, OLD): 9} for app in apps}))
        identity = ("--identity", str(folder / "keys" / "tea.age-key"))
        run_here(place, "patch", "--census", str(census), *identity, str(place.plan))
        publish(place)
        yield found
