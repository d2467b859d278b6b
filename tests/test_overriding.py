"""The commands that change one value at once, and what a push, a pull and a revert do with it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

import processes
from compiler.commands.overriding import lay
from compiler.commands.session import Session
from compiler.overrides import What
from compiler.publication.emergency import Wish
from compiler.refusal import Refused
from desks import APP, DONE, RAMP, REFUSED, USAGE, Desk
from gateway.link import parse_url
from gateway.request import parse_body
from gateway.snapshot import build
from interruption import SteppedStore, Steps
from publishing import COFFEE, record


def test_every_value_is_laid_and_lifted(desk: Desk) -> None:
    """Each command makes one epoch, and its opposite leaves nothing laid over the plan."""
    first = desk.workshop.live()
    for line, laid, said in (
        (
            "pause coffee ramp",
            ("state", "ramp", "paused"),
            "ramp is paused; in the plan it is live",
        ),
        ("resume coffee ramp", None, "ramp is live, as the plan says"),
        ("resume coffee staff", ("state", "staff", "live"), "in the plan it is paused"),
        ("pause coffee staff", None, "staff is paused, as the plan says"),
        (f"percent {COFFEE} ramp 12.5", ("percent", "ramp", "1250"), "in the plan it is at 5 %"),
        ("percent coffee ramp 5", None, "ramp is at 5 %, as the plan says"),
        ("percent coffee slow 2", ("percent", "slow", "200"), "in the plan it is a ramp"),
        ("percent coffee slow plan", None, "slow is a ramp, as the plan says"),
        ("percent coffee stable 50", ("percent", "stable", "5000"), "in the plan it is at 100 %"),
        ("percent coffee stable 100", None, "stable is at 100 %, as the plan says"),
        (
            "withdraw coffee 2.0 --yes",
            ("withdrawn", "2", "true"),
            "in the plan it is not withdrawn",
        ),
        ("reinstate coffee 2", None, "2 is not withdrawn, as the plan says"),
        ("check-after 60", ("check_after", "", "60"), "in the plan it is 1800"),
        ("check-after 1800", None, "check_after is 1800, as the plan says"),
    ):
        before = desk.workshop.live().number
        ran = desk.run(*line.split())
        assert ran.err.startswith("workspace demo on redis://"), line
        assert said in ran.out, line
        assert desk.laid() == ([laid] if laid else []), line
        live = desk.workshop.live()
        assert (live.number, live.epoch["author"]) == (before + 1, "ann")
        assert live.epoch["note"] == line.replace(" --yes", "").replace(" plan", " plan")
        if laid is None:
            assert live.epoch["contents"] == first.epoch["contents"]


SWITCHES = """\
switches:
  - key: new-home   # the start page
    variants: {on: true, off: false}
    default: off
    targeting:
      - {variant: on, audience: {same_as: {app: coffee, release: ramp}}}
  - {key: tone, variants: {warm: red, cold: blue}, default: warm, enabled: false}
"""


def _flag(desk: Desk, key: str, device: str = "d-1") -> Any:
    """Evaluate a switch of the live epoch as a gateway does."""
    live = desk.workshop.live()
    snapshot = build(b"", live.epoch, live.contents, desk.workshop.store.get_blob, None)
    check = parse_body(f'{{"device":"{device}","switches":true}}'.encode(), packed=False)
    snapshot.probes(check)
    body, _ = snapshot.answer(check, {}, 1_800_000_000, msgpack=False)
    return orjson.loads(body)["switches"][key]["variant"]


def test_switches_are_set_and_taken_back(desk: Desk) -> None:
    """A variant for everybody, off and on, at once; an override of the release is followed."""
    (desk.folder / "switches.yaml").write_text(SWITCHES)
    desk.push()
    first = desk.workshop.live()
    assert {_flag(desk, "new-home", f"d-{n}") for n in range(200)} == {"on", "off"}
    for line, flag, variant, laid in (
        ("switch set new-home on", "new-home", "on", [("variant", "", "on")]),
        ("switch set new-home --as-planned", "new-home", "off", []),
        ("switch disable new-home", "new-home", "off", [("enabled", "", "false")]),
        ("switch enable new-home", "new-home", "off", []),
        ("switch set tone cold", "tone", "cold", [("variant", "", "cold")]),
        ("switch set tone warm", "tone", "warm", []),
    ):
        desk.run(*line.split())
        assert (_flag(desk, flag, "d-1"), desk.laid()) == (variant, laid), line
        if not laid:
            assert desk.workshop.live().contents["switches"] == first.contents["switches"]
    desk.run("percent", "coffee", "ramp", "100")
    assert {_flag(desk, "new-home", f"d-{n}") for n in range(200)} == {"on"}
    unknown = desk.run("switch", "set", "new-home", "no", code=USAGE)
    assert "There is no variant 'no' in switch new-home" in unknown.err
    assert "no switch 'new-hom'" in desk.run("switch", "disable", "new-hom", code=USAGE).err


def test_a_push_keeps_what_is_laid_over_switches(desk: Desk) -> None:
    """A push of another app keeps a switch set; a plan that changes it itself is refused."""
    (desk.folder / "switches.yaml").write_text(SWITCHES)
    desk.push()
    desk.run("switch", "set", "new-home", "on")
    desk.run("switch", "enable", "tone")
    said = desk.push(APP.replace("percent: 5", "percent: 6"))
    assert "new-home/variant gives everybody on" in said.out + said.err
    assert _flag(desk, "new-home") == "on"
    (desk.folder / "switches.yaml").write_text(SWITCHES.replace("default: off", "default: on"))
    refused = desk.push(code=REFUSED)
    assert "--take-plan new-home/variant" in refused.err
    desk.push(APP, "--take-plan", "new-home/variant")
    assert desk.laid() == [("enabled", "", "true")]
    desk.run("pull", str(desk.folder), "--force")
    text = (desk.folder / "switches.yaml").read_text()
    assert "# the start page" in text
    assert "enabled: true" in text


def test_what_is_so_already_makes_no_epoch(desk: Desk) -> None:
    """Pausing twice says who has done it, and publishes nothing."""
    desk.run("pause", "coffee", "ramp", "-m", "it burns")
    assert desk.offered() == {"slow", "stable"}
    again = desk.run("pause", "coffee", "ramp")
    assert "that is so already in epoch 2 (ann, " in again.out
    assert '"it burns")' in again.out
    assert desk.workshop.live().number == 2


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("pause coffe ramp", USAGE, "There is no app 'coffe' in the live epoch. Did you mean"),
        ("pause coffee ramq", USAGE, f"no release 'ramq' in app {COFFEE}. Did you mean ramp?"),
        ("withdraw coffee 4", USAGE, "There is no version '4'"),
        ("percent coffee ramp 101", USAGE, '"101" is no percentage'),
        ("check-after 90000", USAGE, "less than or equal to 86400"),
        ("resume coffee old", REFUSED, "write `state: live` in apps/coffee.yaml and push; or"),
        ("pause coffee old", REFUSED, "was ended, which is final"),
        ("percent coffee staff 5", REFUSED, "Write `percent: …` into its audience in apps/coffee"),
    ],
)
def test_what_cannot_be_is_refused(desk: Desk, line: str, code: int, sentence: str) -> None:
    """With a sentence that says what to write, and without an epoch."""
    ran = desk.run(*line.split(), code=code)
    assert sentence in " ".join(ran.err.replace("│", " ").split())
    assert desk.workshop.live().number == 1


def test_an_end_is_final(desk: Desk) -> None:
    """Nobody resumes what was ended; the plan takes it back, when it is told to."""
    desk.run("end", "coffee", "ramp")
    ran = desk.run("resume", "coffee", "ramp", code=REFUSED)
    assert f"with --take-plan {COFFEE}/ramp" in ran.err
    assert "kept from before" in desk.push(APP + "# again\n").err
    assert "ramp" not in desk.offered()
    taken = desk.push(APP + "# and again\n", "--take-plan", "coffee/ramp")
    assert f"taken from the plan: {COFFEE}/ramp is live" in taken.err
    assert "ramp" in desk.offered()


def test_a_withdrawal_names_whom_it_strands(desk: Desk) -> None:
    """Nothing happens without a yes, which nobody can give here; where none are, none is asked."""
    asked = desk.run("withdraw", "coffee", "3", code=REFUSED)
    assert "stranded: any host app not named here: only those whom stable reaches" in asked.out
    assert "say --yes" in asked.err
    assert desk.workshop.live().number == 1
    desk.push(APP.replace(", when: [{attribute: platform, in: android}]", ""))
    assert "stranded" not in desk.run("withdraw", "coffee", "3").out
    assert desk.laid() == [("withdrawn", "3", "true")]


def test_a_push_keeps_what_it_does_not_touch(desk: Desk) -> None:
    """A push of the plan does not undo a pause: it says so; nor does one of a compiled file."""
    desk.run("pause", "coffee", "ramp")
    desk.run("check-after", "60")
    pushed = desk.push(APP.replace("the newest", "the latest"))
    assert f"kept from before: {COFFEE}/ramp is paused (the plan: live)" in pushed.err
    assert "kept from before: check_after is 60 (the plan: 1800)" in pushed.err
    assert "ramp" not in desk.offered()
    (desk.folder / "apps/coffee.yaml").write_text(APP)
    desk.run("compile", str(desk.folder), "--out", str(desk.folder / "image"))
    base = str(desk.workshop.live().number)
    assert "ramp is paused" in desk.run("push", str(desk.folder / "image"), "--base", base).err
    assert len(desk.laid()) == 2


def test_a_plan_that_says_the_same_ends_it(desk: Desk) -> None:
    """Then the plan alone says it, and the next plan may say otherwise."""
    desk.run("percent", "coffee", "ramp", "12.5")
    said = APP.replace("{percent: 5}", "{percent: 12.50}")
    shown = desk.push(said).err
    assert f"no longer laid over: {COFFEE}/ramp is at 12.5 %; the plan says the same now" in shown
    assert desk.laid() == []
    desk.push(said.replace("12.50", "20"))


def test_a_plan_that_changes_the_very_value_is_refused(desk: Desk) -> None:
    """It is named, with both ways out; `diff` says so before; what is taken is taken alone."""
    desk.run("percent", "coffee", "ramp", "1")
    desk.run("pause", "coffee", "ramp")
    changed = APP.replace("{percent: 5}", "{percent: 20}")
    refused = desk.push(changed, code=REFUSED).err
    assert f"{COFFEE}/ramp is at 1 % by an override" in refused
    assert f"from 5 % to 20 %. To take the plan's value, push with --take-plan {COFFEE}/ramp; " in (
        refused
    )
    assert "A push would be refused." in desk.run("diff", str(desk.folder)).err
    assert desk.workshop.live().number == 3
    unknown = desk.push(changed, "--take-plan", "coffee/romp", code=REFUSED).err
    assert "Nothing is overridden at coffee/romp. Overridden now: " in unknown
    taken = desk.push(changed, "--take-plan", f"{COFFEE}/ramp").err
    assert f"taken from the plan: {COFFEE}/ramp is at 20 %" in taken
    assert desk.laid() == [("state", "ramp", "paused")]


def test_pull_writes_overrides_into_the_files(desk: Desk, tmp_path: Path) -> None:
    """Comments and order stay; the next push of what was pulled ends every override."""
    for line in (
        "pause coffee ramp",
        "percent coffee ramp 0.5",
        "percent coffee slow 3",
        "withdraw coffee 2 --yes",
        "check-after 600",
    ):
        desk.run(*line.split())
    offered = desk.workshop.live().contents["programs"]
    pulled = desk.run("pull", str(tmp_path / "pulled"))
    assert (
        f"written into apps/coffee.yaml, so that a push ends the override: {COFFEE}" in pulled.out
    )
    text = (tmp_path / "pulled/apps/coffee.yaml").read_text()
    assert text == APP.replace("watch it\n", "watch it\n    state: paused\n").replace(
        "{percent: 5}", "{percent: 0.5}"
    ).replace(RAMP, "percent: 3").replace("{version: 2, ", "{version: 2, withdrawn: true, ")
    base = str(desk.workshop.live().number)
    pushed = desk.run("push", str(tmp_path / "pulled"), "--base", base)
    assert pushed.err.count("the plan says the same now") == 5
    assert desk.laid() == []
    assert desk.workshop.live().contents["programs"] == offered


def test_pull_writes_what_can_be_written(desk: Desk) -> None:
    """Into a clean checkout without `--force`; what nobody can write keeps nothing else back."""
    (desk.folder / "switches.yaml").write_text(SWITCHES)
    desk.push()
    for line in ("set new-home on", "enable tone", "set tone cold"):
        desk.run("switch", *line.split())
    pulled = desk.run("pull", str(desk.folder)).out
    assert "not written into it: new-home/variant gives everybody on" in pulled
    assert (desk.folder / "switches.yaml").read_text() == SWITCHES.replace(
        "default: warm, enabled: false", "default: cold, enabled: true"
    )
    desk.push()
    assert desk.laid() == [("variant", "", "on")]
    (desk.folder / "switches.yaml").write_text("# mine\n" + SWITCHES)
    assert "differ from the epoch's: switches.yaml" in (
        desk.run("pull", str(desk.folder), code=REFUSED).err
    )


def test_what_lies_over_an_app_that_is_gone_can_be_lifted(desk: Desk) -> None:
    """By the app's id, as its file is gone; and nothing else can be laid over it."""
    tea = "2021000000000009"
    (desk.folder / "apps/tea.yaml").write_text(
        f"app: {tea}\npackages: [{{version: 1}}]\nreleases:\n"
        "  - {id: ramp, package: 1, audience: everyone}\n"
    )
    for name, text in record("1", tea).items():
        (desk.folder / name).parent.mkdir(parents=True)
        (desk.folder / name).write_text(text)
        path = json.loads(text)["forms"][0]["path"]
        desk.workshop.store.put_named(path, b"nine byte")
    desk.push()
    desk.run("pause", "tea", "ramp")
    desk.run("withdraw", "tea", "1", "--yes")
    (desk.folder / "apps/tea.yaml").unlink()
    shutil.rmtree(desk.folder / "packages" / tea)
    desk.push()
    assert len(desk.laid()) == 2
    assert "no release 'ramp'" in desk.run("end", tea, "ramp", code=USAGE).err
    said = desk.run("resume", tea, "ramp").out
    assert f"nothing is laid over {tea} ramp any more, which the plan does not have" in said
    desk.run("reinstate", tea, "1.0")
    assert desk.laid() == []


def test_what_lies_over_a_switch_that_is_gone_can_be_lifted(desk: Desk) -> None:
    """Or it would lie over the next switch of that key."""
    switches = "switches:\n  - {key: gone, variants: {on: true, off: false}, default: off}\n"
    (desk.folder / "switches.yaml").write_text(switches)
    desk.push()
    desk.run("switch", "set", "gone", "on")
    desk.run("switch", "disable", "gone")
    (desk.folder / "switches.yaml").write_text("switches: []\n")
    desk.push()
    assert desk.laid() == [("enabled", "", "false"), ("variant", "", "on")]
    assert "no switch" in desk.run("switch", "set", "gone", "off", code=USAGE).err
    said = desk.run("switch", "enable", "gone").out
    assert "nothing is laid over gone any more, which the plan does not have" in said
    desk.run("switch", "set", "gone", "--as-planned")
    assert desk.laid() == []


def test_saying_it_again_lifts_nothing(desk: Desk) -> None:
    """After a revert to a plan that pauses too, a pause stays for the plan that does not."""
    desk.push(APP.replace("    package: 2\n", "    package: 2\n    state: paused\n"))
    desk.push(APP)
    desk.run("pause", "coffee", "ramp")
    desk.run("revert", "2")
    assert "that is so already" in desk.run("pause", "coffee", "ramp").out
    assert desk.laid() == [("state", "ramp", "paused")]
    assert "by an override, and this plan changes" in desk.push(APP, code=REFUSED).err


def test_a_revert_keeps_overrides(desk: Desk) -> None:
    """Also one that the old plan says itself: the next push knows nothing of that plan."""
    desk.push(APP.replace("    package: 2\n", "    package: 2\n    state: paused\n"))
    desk.push(APP)
    desk.run("pause", "coffee", "ramp")
    desk.run("check-after", "60")
    reverted = desk.run("revert", "2")
    assert f"kept: {COFFEE}/ramp is paused" in reverted.out
    assert desk.laid() == [("check_after", "", "60"), ("state", "ramp", "paused")]
    assert "ramp" not in desk.offered()
    assert "by an override, and this plan changes" in desk.push(APP, code=REFUSED).err
    assert "+check_after is 60" in desk.run("history").out
    assert f"laid over the plan: {COFFEE}/ramp is paused" in desk.run("history", "show", "5").out
    assert (
        f"laid over the plan: {COFFEE}/ramp is paused" in desk.run("explain", "--app", "coffee").out
    )


def test_many_at_once_lose_nothing(desk: Desk) -> None:
    """Four operators pause, withdraw and slow down at one moment: all of it holds in the end."""
    lines = (
        "pause coffee ramp",
        "percent coffee stable 50",
        "withdraw coffee 2 --yes",
        "check-after 5",
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "compiler.cli", *line.split()],
            cwd=processes.ROOT,
            env=dict(os.environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in lines
    ]
    said = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [DONE] * len(lines), said
    assert len(desk.laid()) == len(lines)
    assert desk.workshop.live().number == 1 + len(lines)


def meanwhile(desk: Desk, wish: Wish, *line: str) -> Any:
    """Fulfil a wish while somebody else's command is faster."""
    steps = Steps(1, lambda: desk.run(*line) and None)
    url = parse_url(os.environ["TIDEGATE_REDIS"])
    session = Session("demo", url, str(desk.workshop.folder))
    session.__dict__["store"] = SteppedStore(desk.workshop.store, steps)
    key = os.environ["TIDEGATE_KEY"]
    lay(session, wish, "mine", key=key, wait=0, message="")


def test_a_loser_goes_on_top_of_the_winner(desk: Desk) -> None:
    """Whoever touched something else, by override or by push, is told and kept."""
    wish = Wish(What.STATE, "paused", "coffee", "ramp")
    meanwhile(desk, wish, "pause", "coffee", "slow", "-m", "first")
    assert desk.laid() == [("state", "ramp", "paused"), ("state", "slow", "paused")]
    (desk.folder / "apps/coffee.yaml").write_text(APP.replace("{percent: 5}", "{percent: 6}"))
    wish = Wish(What.STATE, "ended", "coffee", "stable")
    meanwhile(desk, wish, "push", str(desk.folder), "--base", "3")
    assert desk.laid()[1:] == [("state", "slow", "paused"), ("state", "stable", "ended")]


def test_a_loser_does_not_overrule_the_winner(desk: Desk) -> None:
    """Who resumed in that moment what I mean to slow down has it his way, and I am told."""
    desk.run("percent", "coffee", "ramp", "3")
    wish = Wish(What.PERCENT, "100", "coffee", "ramp")
    with pytest.raises(Refused, match=r"epoch 3 \(ann.* it is at 50 %\. Nothing of yours"):
        meanwhile(desk, wish, "percent", "coffee", "ramp", "50")
    same = Wish(What.PERCENT, "700", "coffee", "ramp")
    meanwhile(desk, same, "percent", "coffee", "ramp", "7")
    assert desk.laid() == [("percent", "ramp", "700")]
    assert desk.workshop.live().number == 4


def test_a_push_goes_under_an_override_of_that_moment(desk: Desk) -> None:
    """A pause between a push's look and its commit is kept by the push, which goes on by itself."""
    from compiler.commands.publishing import publish_under_overrides
    from compiler.compilation import compile_folder

    (desk.folder / "apps/coffee.yaml").write_text(APP.replace("{percent: 5}", "{percent: 6}"))
    image, _ = compile_folder(desk.folder, desk.workshop.store, 0)
    live = desk.workshop.live()
    steps = Steps(1, lambda: desk.run("pause", "coffee", "ramp") and None)
    session = Session("demo", parse_url(os.environ["TIDEGATE_REDIS"]), str(desk.workshop.folder))
    session.__dict__["store"] = SteppedStore(desk.workshop.store, steps)
    key = os.environ["TIDEGATE_KEY"]
    publish_under_overrides(
        session, image, live, [], checkout=None, base=1, force=False, key=key, wait=0, note="mine"
    )
    assert desk.laid() == [("state", "ramp", "paused")]
    assert desk.workshop.live().epoch["note"] == "mine"
    assert desk.workshop.live().number == 3
