"""`push --again`, as the guide to rotating keys has it typed."""

from pathlib import Path

from compiler.publication.publisher_key import create_key
from desks import APP, REFUSED, Desk


def test_the_new_key_signs_what_is_live(desk: Desk, tmp_path: Path) -> None:
    """A plain push of it makes no epoch; with --again it is the new key's, overrides and all."""
    create_key(tmp_path / "keys", "ben", None)
    ben = ("--key", str(tmp_path / "keys/ben.pem"), "-m", "signed by Ben from now on")
    desk.run("pause", "coffee", "ramp")
    before = desk.workshop.live()
    assert "says the same already" in desk.push(APP, *ben).out
    stale = ("push", str(desk.folder), "--base", "1", "--again", *ben)
    desk.run(*stale, code=REFUSED)
    assert desk.workshop.live().digest == before.digest
    desk.push(APP, "--again", *ben)
    after = desk.workshop.live()
    assert (after.number, after.epoch["author"]) == (before.number + 1, "ben")
    assert after.epoch["contents"] == before.epoch["contents"]
