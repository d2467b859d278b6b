"""What the client's command says, to a person at a terminal."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compiler.packaging.package_key import generate
from loadtest.client.__main__ import main
from stub_gateway import APP, StubGateway, stub_gateway

ROOT = Path(__file__).parent.parent
TEXTS = ["\ud800", "\x1b]0;owned\x07\x1b[2J", "a\nb\r\x00\x9b", "\u202eolleh", "x" * 200_000, "☃"]


@pytest.fixture(scope="module")
def gateway() -> Iterator[StubGateway]:
    with stub_gateway() as found:
        yield found


def common(gateway: StubGateway, root: Path) -> list[str]:
    return ["--gateway", gateway.url, "--root", str(root), "--app", APP]


@pytest.mark.parametrize("as_json", [False, True])
def test_no_answer_reaches_the_terminal_as_it_is(
    gateway: StubGateway, tmp_path: Path, as_json: bool
) -> None:
    """Wherever a gateway writes lone surrogates, escape codes or without end, a short line is said.

    Also on a terminal that knows ASCII alone.
    """
    entries = [{"app": APP, "status": "invalid", "detail": text} for text in TEXTS]
    entries += [{"app": APP, "status": text, "detail": text} for text in TEXTS]
    package = {"size": 1, "sha256": "0" * 64, "urls": ["http://127.0.0.1:1/"]}
    offer = {"app": APP, "status": "update", "version": "1", "release": "r", "package": package}
    for text in TEXTS:
        entries += [{**offer, "version": text}, {**offer, "release": text}]
        entries += [{**offer, "package": {**package, "compression": text}}]
        entries += [{**offer, "package": {**package, "urls": [f"http://{text[:9000]}/"]}}]
        entries += [{**offer, "patch": {**package, "from": text, "format": text}}]
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        for entry in entries:
            gateway.apps = [entry]
            main([*common(gateway, tmp_path), *(["--json"] if as_json else [])])
        out.flush()
    assert isinstance(out.buffer, io.BytesIO)
    lines = out.buffer.getvalue().decode("ascii").split("\n")
    assert len(lines) == len(entries) + 1
    assert all(line.isprintable() and len(line) < 3000 for line in lines)
    assert "olleh" in lines[3]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (["--phone", "foo=bar"], "--phone foo: "),
        (["--phone", "User=u"], "--phone User: "),
        (["--accept", "zstd,foo"], "--accept foo "),
    ],
)
def test_what_is_hardly_meant_is_warned_of(
    gateway: StubGateway,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    wrong: list[str],
    named: str,
) -> None:
    """A member that gateways do not know, a form that this client does not open: one line each."""
    gateway.apps = [{"app": APP, "status": "latest"}]
    assert main([*common(gateway, tmp_path), *wrong]) == 0
    assert capsys.readouterr().err.startswith(f"Warning: {named}")
    right = ["--phone", "user=u", "--phone", "custom.foo=1", "--accept", "zstd,"]
    assert main([*common(gateway, tmp_path), *right]) == 0
    assert capsys.readouterr().err == ""


def test_files_are_named_as_they_were_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key or identity that is missing, or of another kind: its file is in the sentence."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dev-ann.pub").write_text(generate("EdDSA", "ann").public.line + "\n")
    (tmp_path / "cut.pub").write_text("- {key: ann, public: MCow}\n")
    (tmp_path / "none.txt").write_text("nothing\n")
    cases = [("--key", "nosuch"), ("--key", "cut.pub"), ("--key", "none.txt")]
    cases += [("--identity", "nosuch"), ("--identity", "dev-ann.pub")]
    for option, name in cases:
        code = main(["--gateway", "http://a", "--root", "p", "--app", APP, option, name])
        said = capsys.readouterr().err
        assert (code, said.startswith(f"Error: {name}")) == (2, True), said


def test_a_reader_that_goes_away_is_no_crash(gateway: StubGateway, tmp_path: Path) -> None:
    """`… | head -0`: no traceback."""
    gateway.apps = [{"app": APP, "status": "latest"}]
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "loadtest.client", *common(gateway, tmp_path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
    )
    os.close(writer)
    assert (done.stderr, done.returncode) == ("", 1)
    assert json.loads((tmp_path / "diary.json").read_text())
