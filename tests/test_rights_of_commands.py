"""Every command that asks Redis, under the operator's least rights: none is refused."""

from pathlib import Path

from gateway.rights import Role
from processes import Gateway, running_gateway
from publishing import COFFEE, plan_files
from test_audit import Shop, lay
from test_rights import as_user, one

WINDOW = (
    "audience: {first: 3, until: 2099-01-01T00:00:00Z}, "
    "halt: {failures: 1%, min_reports: 1, within: 5m}"
)
SWITCHES = """\
switches:
  - key: new-home
    variants: {on: true, off: false}
    default: off
    targeting:
      - {variant: on, audience: {lists: [vip]}}
"""
COMMANDS = (
    "status --json",
    "census",
    "reports",
    "history",
    "history verify",
    "pause coffee staff",
    "resume coffee staff",
    "percent coffee r1 50",
    "withdraw coffee 2 --yes",
    "reinstate coffee 2",
    "check-after 60",
    "switch set new-home on",
    "switch disable new-home",
    "switch enable new-home",
    "explain --app coffee --user u-1 --device d-1",
    "allowlist add vip u-9",
    "allowlist show vip",
    "window reopen coffee r2 --yes",
    "revert 1 --yes",
    "restore",
    "end coffee r2",
    "gc --keep 1",
)


def test_commands_work_under_the_least_rights(tmp_path: Path) -> None:
    """Lists, windows, switches, overrides, counts: whatever an operator types is allowed."""
    with one(tmp_path / "redis") as url:
        shop = Shop(tmp_path, as_user(url, Role.OPERATOR), Gateway(tmp_path / "unused", url))
        shop.plan.mkdir()
        shop.git("init", "--quiet")
        shop.run("keygen", "ann", "--dir", str(tmp_path / "keys"), "--no-passphrase")
        files = plan_files(["1", "2"], staff=True)
        app = files["apps/coffee.yaml"]
        files["apps/coffee.yaml"] = app.replace(
            "{id: r2, package: 2, audience: everyone}", f"{{id: r2, package: 2, {WINDOW}}}"
        )
        files["lists/staff.csv"] = "employee_id\nu-1\nu-2\n"
        files["lists.yaml"] += "  - {list: vip, of: user, stored: true}\n"
        files["switches.yaml"] = SWITCHES
        lay(shop, files)
        shop.commit("all kinds of things")
        (tmp_path / "vip.txt").write_text("u-7\nu-8\n")
        shop.run("allowlist", "import", "vip", str(tmp_path / "vip.txt"), "--of", "user")
        shop.run("push", str(shop.plan))
        trusted = str(tmp_path / "keys/ann.pub")
        at = as_user(url, Role.GATEWAY)
        with running_gateway(
            tmp_path / "gateway", at, TRUSTED_KEYS=trusted, LOOKUP_TIMEOUT_MS="10000"
        ) as gateway:
            place = Shop(tmp_path, shop.redis_url, gateway)
            told = [
                place.check(device=f"d-{each}", user="u-5", apps={COFFEE: None})
                for each in range(4)
            ]
            assert [each["apps"][0]["release"] for each in told] == ["r2"] * 3 + ["r1"]
            place.report("failed", "r1", device="d-1")
            for line in COMMANDS:
                # A window that was not lost is not opened again, which is no matter of rights.
                ran = place.run(*line.split(), code=3 if line.startswith("window") else 0)
                assert "ermission" not in ran.err
            gateway.terminate()
            assert gateway.wait() == 0
            assert not [row for row in gateway.events() if "NOPERM" in str(row)]
