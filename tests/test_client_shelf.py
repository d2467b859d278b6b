"""What a client says is installed: beside a running update, and when the record rots."""

import json
import subprocess
import sys
import time
from pathlib import Path

from loadtest.client.answer import Offer
from loadtest.client.shelf import Installed, Shelf
from stub_gateway import APP, package, sha256

ROOT = Path(__file__).parent.parent
PACKAGES = [package(number, 30_000) for number in range(3)]
MANY = 100
READER = """
import sys
from pathlib import Path
from loadtest.client.shelf import Shelf
shelf, asked, missed = Shelf(Path(sys.argv[1])), 0, 0
print("ready", flush=True)
while asked <= 50 or not Path(sys.argv[3]).exists():
    asked += 1
    missed += shelf.installed(sys.argv[2]) is None
print(asked, missed)
"""


def installed(folder: Path, number: int) -> Shelf:
    """Install a package; the files of the one before the last are deleted, as in a round."""
    data = PACKAGES[number % len(PACKAGES)]
    shelf = Shelf(folder / "apps")
    before = shelf.installed(APP)
    file = folder / "file"
    file.write_bytes(data)
    offered = Offer(str(number), "stable", len(data), sha256(data), (), info={"a": [1.5, "é"]})
    shelf.install(APP, file, offered)
    shelf.tidy(APP, {sha256(data), before.sha256 if before else ""})
    return shelf


def test_beside_an_update_there_is_always_a_package(tmp_path: Path) -> None:
    """Another process that asks while packages come and go is told of a whole one each time."""
    installed(tmp_path, 0)
    enough = tmp_path / "enough"
    command = [sys.executable, "-c", READER, str(tmp_path / "apps"), APP, str(enough)]
    reader = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert reader.stdout is not None and reader.stdout.readline() == "ready\n"
        number = 0
        while reader.poll() is None:
            installed(tmp_path, number := number + 1)
            if number == MANY:
                enough.touch()
        asked, missed = map(int, reader.stdout.read().split())
    finally:
        reader.kill()
        reader.communicate()
    assert (missed, number >= MANY, asked > 50) == (0, True, True)


def test_a_record_that_changes_is_read_again(tmp_path: Path) -> None:
    """Where the file of the record that was read is gone, the newer record counts; it ends, too."""
    shelf = installed(tmp_path, 1)
    record = tmp_path / "apps" / APP / "installed.json"
    older = record.read_bytes()
    installed(tmp_path, 2)
    (tmp_path / "apps" / APP / sha256(PACKAGES[1])).unlink()
    texts = [older, record.read_bytes()]

    class Raced(Shelf):
        def _read(self, app: str) -> bytes | None:
            return texts.pop(0)

    found = Raced(tmp_path / "apps").installed(APP)
    assert found is not None and found.version == "2"
    record.write_bytes(older)
    began = time.monotonic()
    assert shelf.installed(APP) is None
    assert time.monotonic() - began < 20


def test_no_flipped_bit_of_the_record_is_believed(tmp_path: Path) -> None:
    """Of every third: what is said to be installed is what was installed, or nothing."""
    shelf = installed(tmp_path, 1)
    record = tmp_path / "apps" / APP / "installed.json"
    true, data = shelf.installed(APP), record.read_bytes()
    assert isinstance(true, Installed)
    for bit in range(0, len(data) * 8, 3):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        record.write_bytes(bad)
        assert shelf.installed(APP) in (None, true)
    found = json.loads(data)
    for value in ({**found, "version": "9"}, {n: found[n] for n in found if n != "digest"}):
        record.write_bytes(json.dumps(value).encode())
        assert shelf.installed(APP) is None
