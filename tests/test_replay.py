"""The crowd as a file of requests: wrk sends what the crowd asks, and answers are judged."""

import re
import shutil
import socket
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

import msgpack
import orjson
import pytest

import crowds
import identities
from crowds import COFFEE
from loadtest.population import Population
from loadtest.replay import LEAST_SAMPLE, main, write_requests
from loadtest.tokens import NOBODY
from loadtest.wrk import Failed, load, write_file_script
from processes import Gateway, RedisServer, running_gateway, wait_until
from publishing import Workshop

CROWD = 300
OUTCOMES = re.compile(r'tidegate_identity_tokens_total\{outcome="(\w+)"\} (\S+)')
wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="there is no wrk on this machine")


def requests_in(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Split requests that stand one behind the other into heads and bodies."""
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        size = int(fields[b"Content-Length"])
        yield head, rest[:size]
        data = rest[size:]


@contextmanager
def recorder(most: int) -> Iterator[tuple[int, list[bytes]]]:
    """Answer one connection's requests, and keep the bytes of the first ones."""
    kept: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(30)

    def more(line: bytes) -> bool:
        return line != b"\r\n"

    def serve() -> None:
        # wrk looks first whether anybody is there.
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with suppress(OSError), connection, connection.makefile("rb") as read:
                while head := b"".join(takewhile(more, iter(read.readline, b""))):
                    fields = dict(line.rstrip().split(b": ", 1) for line in head.splitlines()[1:])
                    body = read.read(int(fields[b"Content-Length"]))
                    if len(kept) < most:
                        kept.append(head + b"\r\n" + body)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], kept
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(30)


@pytest.mark.parametrize("dry_run", [True, False])
def test_the_file_holds_what_the_crowd_asks(tmp_path: Path, dry_run: bool) -> None:
    """One request a phone, in their order and notation; dry runs unless told otherwise."""
    crowd = Population(1, CROWD, crowds.plan(), crowds.IDS)
    write_requests(tmp_path / "crowd", crowd, dry_run=dry_run)
    found = list(requests_in((tmp_path / "crowd").read_bytes()))
    assert len(found) == CROWD
    packed = 0
    for number, (head, body) in enumerate(found):
        assert head.startswith(b"POST /v1/check HTTP/1.1\r\n")
        asked = crowd.phone(number) | ({"dry_run": True} if dry_run else {})
        if crowd.packed(number):
            packed += 1
            assert b"\r\nAccept: application/msgpack\r\n" in head
            assert msgpack.unpackb(body) == asked
        else:
            assert b"msgpack" not in head
            assert orjson.loads(body) == asked
    assert 0 < packed < CROWD / 10


@wrk
def test_wrk_sends_the_file_round_and_round(tmp_path: Path) -> None:
    """Every byte of every request arrives, in turn, and after the last one comes the first."""
    crowd = Population(1, 30, crowds.plan(), crowds.IDS)
    path = tmp_path / 'cr"owd\\é'
    write_requests(path, crowd)
    script = tmp_path / "script.lua"
    write_file_script(script, path)
    with recorder(100) as (port, kept):

        def sends() -> bool:
            with suppress(Failed):  # it was told to stop before it got its first answer
                load(port, script, connections=1, seconds=2, start=7)
            return bool(kept)

        wait_until(sends, "wrk sends")
    sent = [b"\r\n\r\n".join(each) for each in requests_in(path.read_bytes())]
    # wrk calls the script once before it begins.
    assert kept[0] == sent[8]
    assert kept == (4 * sent)[8 : 8 + len(kept)]


@wrk
def test_the_command_says_by_its_exit_code_whether_all_is_right(
    workshop: Workshop, server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 for a right gateway, 1 for a wrong one, whose phones and faults it names.

    The answers judged are those of a sample that asks while wrk loads.
    """
    image = crowds.image()
    workshop.push(image)
    said = {}
    for name, module in {"right": ("gateway",), "wrong": crowds.wrong_module(image)}.items():
        gateway = Gateway(tmp_path / name, server.url)
        gateway.module = module
        try:
            gateway.start()
            where = ("--store", str(workshop.folder), "--workspace", "demo")
            out = ("--out", str(tmp_path / "crowd"), "--count", "2000")
            how = ("--target", gateway.url, "--connections", "2", "--seconds", "2")

            def answered(name: str = name, given: Sequence[str] = (*where, *out, *how)) -> bool:
                said[name] = (main(given), *capsys.readouterr())
                return "wrk got no answer" not in said[name][2]  # within its two seconds

            wait_until(answered, "wrk is answered")
        finally:
            gateway.stop()
    assert said["right"][0] == 0, said["right"][1]
    assert "2,000 requests by the plan of epoch 1" in said["right"][1]
    judged = re.search(
        r"([\d,]+) right, 0 unconfirmed, 0 wrong, 0 failed; [\d,]+ µs", said["right"][1]
    )
    assert judged is not None, said["right"][1]
    assert int(judged[1].replace(",", "")) >= LEAST_SAMPLE
    assert said["wrong"][0] == 1, said["wrong"][1]
    assert f": wrong: app {COFFEE}: `" in said["wrong"][1]


@wrk
def test_the_phones_of_a_file_prove_who_they_are(
    workshop: Workshop, server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the provider's key each request has a token, which counts; without it all are nobody."""
    files = crowds.FILES | {
        "workspace.yaml": f"{crowds.FILES['workspace.yaml']}identity: {identities.plan_text()}\n"
    }
    workshop.push(crowds.image(files))
    key, path = tmp_path / "key.pem", tmp_path / "crowd"
    key.write_bytes(identities.key("ed").export_to_pem(private_key=True, password=None))
    where = ("--store", str(workshop.folder), "--workspace", "demo", "--out", str(path))
    counted, said = [], []
    with running_gateway(tmp_path / "gateway", server.url) as gateway:
        for more in ((), ("--token-key", str(key))):
            how = ("--target", gateway.url, "--connections", "2", "--seconds", "1")
            code = main((*where, "--count", "300", *how, *more))
            said.append(capsys.readouterr().out)
            assert code == 0, said
            with_token = [
                b"\r\nAuthorization: Bearer " in head for head, _ in requests_in(path.read_bytes())
            ]
            counted.append(sum(with_token))
        with urllib.request.urlopen(f"{gateway.admin_url}/metrics", timeout=30) as answer:
            counts = dict(OUTCOMES.findall(answer.read().decode()))
    assert [NOBODY in each for each in said] == [True, False]
    assert counted[0] == 0
    assert counted[1] > 250, "nearly every phone has an id"
    assert float(counts["verified"]) > 0
    assert float(counts["missing"]) >= LEAST_SAMPLE
    odd = counts.keys() - {"verified", "remembered", "missing"}
    assert not [name for name in odd if float(counts[name])]
    with pytest.raises(SystemExit) as ended:
        main((*where, "--token-key", str(path)))
    assert ended.value.code == 2
    assert "it is no private key" in capsys.readouterr().err


def test_the_command_writes_a_file_for_others_to_send(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a target it says how to send the file; what it cannot do, it says in a sentence."""
    where = ("--store", str(workshop.folder), "--workspace", "demo")
    out = ("--out", str(tmp_path / "crowd"), "--count", "20", "--seed", "3")
    assert main((*where, *out)) == 3
    assert "Nothing was published in this store yet" in capsys.readouterr().err
    workshop.push(crowds.image())
    assert main((*where, *out)) == 0
    assert f"-s {tmp_path / 'crowd'}.lua URL" in capsys.readouterr().out
    assert len(list(requests_in((tmp_path / "crowd").read_bytes()))) == 20
    assert main(("--store", str(tmp_path / "nowhere"), "--workspace", "demo", *out)) == 4
    assert "nowhere" in capsys.readouterr().err
    for wrong in (("--target", "http://example.com"), ("--count", "0"), ("--members", "2")):
        with pytest.raises(SystemExit) as ended:
            main((*where, *out, *wrong))
        assert ended.value.code == 2
