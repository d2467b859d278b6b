"""The edge of deploy/nginx, run for real: TLS, HTTP/2, limits, a CDN's files, lost gateways."""

import base64
import json
import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread

import pytest

from edge import Edge, running_edge
from epochs import make_epoch
from gateway.cdn import secure_link
from phones import Phones, answered_by
from processes import Gateway, RedisServer, free_port, running_gateway, wait_until
from publishing import COFFEE, Workshop, image_of, plan_files, publisher_key
from tools import tool

SECRET = "a-secret-of-23-letters"
CHECK = json.dumps({"apps": {COFFEE: None}, "user": "u-1"}).encode()
BURST = 400
PAUSE = 0.005
"""Between two checks of a phone, in seconds: below the limit of an address."""


def address(gateway: Gateway) -> str:
    """Give where a gateway listens for clients."""
    return gateway.url.removeprefix("http://")


@pytest.fixture(scope="module")
def shop(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Publish one package behind signed URLs, and run a gateway that signs them."""
    folder = tmp_path_factory.mktemp("shop")
    files = plan_files()
    files["workspace.yaml"] = files["workspace.yaml"].replace("}", ", expires: 600}", 1)
    with server.client() as client:
        Workshop(folder / "store", client).push(image_of(files))
        trusted = f"{publisher_key().public.name}:" + _base64(publisher_key().public.raw)
        with running_gateway(folder, server.url, URL_SECRET=SECRET, TRUSTED_KEYS=trusted) as found:
            yield found


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@pytest.fixture(scope="module")
def edge(shop: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Run an edge before that gateway; its files can be fetched with signed URLs only."""
    folder = tmp_path_factory.mktemp("edge")
    with running_edge(folder / "nginx", [address(shop)], folder / "store", SECRET) as found:
        yield found


def test_a_check_is_answered_as_by_the_gateway(edge: Edge, shop: Gateway) -> None:
    """Through the edge the body, type and status are the gateway's; TLS is 1.3 and no older."""
    answer, body = edge.ask("POST", "/v1/check", CHECK)
    assert answer.status == 200
    assert answer.getheader("Content-Type") == "application/json"
    assert answer.getheader("Cache-Control") == "no-store"
    assert json.loads(body)["apps"][0]["status"] == "update"
    connection = edge.connect()
    connection.connect()
    assert connection.sock is not None
    assert connection.sock.version() == "TLSv1.3"  # type: ignore[attr-defined]
    connection.close()
    old = ssl.create_default_context(cafile=str(edge.certificate))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    connection = edge.connect()
    connection._context = old  # type: ignore[attr-defined]
    with pytest.raises(ssl.SSLError):
        connection.connect()
    connection.close()


def ask_by_curl(edge: Edge, curl: str, option: str) -> None:
    """Ask by curl in one version of HTTP, the option's last digit, and hold it to the answer."""
    done = subprocess.run(
        [
            *(curl, "--silent", option, "--cacert", str(edge.certificate)),
            *("--data-binary", "@-", "--write-out", "\n%{http_version} %{http_code}"),
            f"https://127.0.0.1:{edge.port}/v1/check",
        ],
        input=CHECK,
        capture_output=True,
        check=True,
    )
    body, _, said = done.stdout.rpartition(b"\n")
    version = re.findall("[0-9]", option)[-1]
    assert said.decode() == f"{version} 200"
    assert json.loads(body)["apps"] == json.loads(edge.ask("POST", "/v1/check", CHECK)[1])["apps"]


def test_http_2_is_spoken(edge: Edge) -> None:
    """A client that offers HTTP/2 gets it, and the same answer."""
    ask_by_curl(edge, tool("curl", "Debian's curl"), "--http2")


def test_http_3_is_spoken_where_nginx_has_it(shop: Gateway, tmp_path: Path) -> None:
    """A build with HTTP/3 runs with listen-http3.conf, offers it to others, and answers in it."""
    nginx = tool("nginx", "Debian's nginx-light")
    built = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=True).stderr
    if "http_v3_module" not in built:
        pytest.skip("This nginx is built without HTTP/3; Debian 13's has it.")
    folder = tmp_path / "nginx"
    with running_edge(folder, [address(shop)], tmp_path, listen="listen-http3.conf") as edge:
        command = [nginx, "-t", "-c", str(folder / "nginx.conf"), "-e", "stderr"]
        tried = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "[warn]" not in tried.stderr
        answer, _ = edge.ask("POST", "/v1/check", CHECK)
        assert "h3=" in str(answer.getheader("Alt-Svc"))
        curl = tool("curl", "Debian's curl")
        ask_by_curl(edge, curl, "--http2")
        told = subprocess.run([curl, "--version"], capture_output=True, text=True, check=True)
        if "HTTP3" not in told.stdout:
            pytest.skip("It is offered; this curl cannot try it, Debian 13's can.")
        ask_by_curl(edge, curl, "--http3-only")


def test_only_what_clients_need_can_be_reached(edge: Edge) -> None:
    """Health, metrics and the rest of the store stand behind the edge, and stay there."""
    for path in ("/metrics", "/health/ready", "/live", "/blobs/", "/packages/", "/files/../live"):
        assert edge.ask("GET", path)[0].status in (400, 404), path
    answer, body = edge.ask("GET", "/metrics")
    assert answer.getheader("Content-Type") == "application/problem+json"
    assert json.loads(body)["status"] == answer.status
    assert edge.ask("GET", "/openapi.json")[0].status == 200


def test_a_body_over_the_limit_is_refused(edge: Edge) -> None:
    """64 KiB reach the gateway; a byte more is refused by the edge, in problem+json."""
    fits, _ = edge.ask("POST", "/v1/check", CHECK.ljust(65_536))
    assert fits.status == 200
    answer, body = edge.ask("POST", "/v1/check", CHECK.ljust(65_537))
    assert answer.status == 413
    assert answer.getheader("Content-Type") == "application/problem+json"
    assert json.loads(body)["status"] == 413


def test_a_client_that_stands_still_is_let_go(tmp_path: Path) -> None:
    """Half a head, and half a body, hold a connection for seconds, not for nginx's minute."""
    with running_edge(tmp_path / "nginx", ["127.0.0.1:1"], tmp_path) as edge:
        text = (tmp_path / "nginx/conf.d/tidegate.conf").read_text()
        (tmp_path / "nginx/conf.d/tidegate.conf").write_text(text.replace("t 10s;", "t 1s;"))
        main = str(tmp_path / "nginx/nginx.conf")
        subprocess.run([edge.nginx, "-c", main, "-e", "stderr", "-s", "reload"], check=True)
        time.sleep(0.5)  # the worker before it would do as well, in 10 s
        head = b"POST /v1/check HTTP/1.1\r\nHost: edge\r\nContent-Length: 9\r\n"
        for half in (head, head + b"\r\n{"):
            connection = edge.connect()
            connection.connect()
            connection.sock.settimeout(30)
            connection.sock.sendall(half)
            with suppress(ConnectionError):  # it may be reset
                while connection.sock.recv(4096):
                    pass
            connection.close()


def flood(edge: Edge, client: str, count: int) -> list[tuple[int, str | None]]:
    """Send checks down one connection without waiting; give each status and Retry-After."""
    request = (
        f"GET /v1/check/{COFFEE}?user=u-1&dry_run=true HTTP/1.1\r\nHost: edge\r\n"
        f"X-Forwarded-For: {client}\r\n\r\n"
    ).encode()
    connection = edge.connect()
    connection.connect()
    sender = Thread(target=connection.sock.sendall, args=(request * count,))
    sender.start()
    reader = connection.sock.makefile("rb")
    found = []
    for _ in range(count):
        status = int(reader.readline().split()[1])
        headers = {}
        while (line := reader.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        reader.read(int(headers["content-length"]))
        found.append((status, headers.get("retry-after")))
    sender.join()
    reader.close()
    connection.close()
    return found


def test_a_flood_is_turned_away_and_a_neighbour_is_not(edge: Edge) -> None:
    """Beyond its burst an address gets 429 and when to come back; another behind it is served.

    The address is the client's, as the trusted proxy in front has passed it on.
    """
    found: list[tuple[int, str | None]] = []

    def is_turned_away() -> bool:
        found.extend(flood(edge, "203.0.113.7", 2 * BURST))
        return 429 in [status for status, _ in found]

    # A flood that stood still for seconds meanwhile was below the limit.
    wait_until(is_turned_away, "a flood is turned away")
    assert [status for status, _ in found[:BURST]] == [200] * BURST
    assert {status for status, _ in found} == {200, 429}
    assert {retry for status, retry in found if status == 429} == {"30"}
    assert edge.ask("POST", "/v1/check", CHECK, X_Forwarded_For="203.0.113.8")[0].status == 200


def test_who_is_no_trusted_proxy_is_not_believed(edge: Edge) -> None:
    """An address that an untrusted client claims is neither limited by nor logged."""
    connection = edge.connect(source="127.0.0.2")
    connection.request("POST", "/v1/check", CHECK, {"X-Forwarded-For": "198.51.100.9"})
    assert connection.getresponse().status == 200
    connection.close()
    edge.ask("POST", "/v1/check", CHECK, X_Forwarded_For="198.51.100.10")
    rows = wait_until(
        lambda: [line for line in edge.log().splitlines() if "198.51.100.10" in line], "its log"
    )
    said = [json.loads(line) for line in edge.log().splitlines()]
    assert json.loads(rows[0])["status"] == 200
    assert {"127.0.0.2", "198.51.100.10"} <= {each["address"] for each in said}
    assert "198.51.100.9" not in {each["address"] for each in said}
    assert "u-1" not in edge.log()


def target(edge: Edge, **headers: str) -> str:
    """Ask for an update; give path and query of the URL that is answered."""
    _, body = edge.ask("POST", "/v1/check", CHECK, **headers)
    (url,) = json.loads(body)["apps"][0]["package"]["urls"]
    return "/" + str(url).split("/", 3)[3]


def put(edge: Edge, path: str, text: bytes) -> None:
    """Lay a file into the store that the edge serves."""
    place = edge.folder.parent / "store" / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(text)


def test_a_signed_url_opens_its_file_alone(edge: Edge) -> None:
    """The URL of a gateway's answer is served; forged, foreign, unsigned or expired ones never."""
    url = target(edge)
    path, _, query = url.partition("?")
    put(edge, path, b"a package")
    put(edge, "/files/00/other.zip", b"another")
    answer, body = edge.ask("GET", url)
    assert (answer.status, body) == (200, b"a package")
    forged = query.replace("md5=", "md5=A")[: len(query)]
    assert edge.ask("GET", f"{path}?{forged}")[0].status == 403
    assert edge.ask("GET", f"/files/00/other.zip?{query}")[0].status == 403
    assert edge.ask("GET", path)[0].status == 403
    later = query.replace("expires=", "expires=9")
    assert edge.ask("GET", f"{path}?{later}")[0].status == 403
    old = secure_link(path, SECRET, int(time.time()) - 5)
    refused, _ = edge.ask("GET", old)
    assert refused.status == 410
    assert refused.getheader("Cache-Control") is None


def test_files_are_served_as_a_cdn_wants_them(shop: Gateway, tmp_path: Path) -> None:
    """Media type, for-ever caching, ranges and validators are there; bytes are never encoded."""
    text = b"0123456789" * 1_000
    kinds = {"zip": "application/zip", "zip.gz": "application/gzip", "zip.zst": "application/zstd"}
    kinds |= {"bsdiff4": "application/octet-stream", "zip.zst.age": "application/octet-stream"}
    with running_edge(tmp_path / "nginx", [address(shop)], tmp_path / "store") as edge:
        put(edge, "/live", b"the pointer")
        for suffix, kind in kinds.items():
            put(edge, f"/files/ab/{suffix}/x.{suffix}", text)
            answer, body = edge.ask(
                "GET", f"/files/ab/{suffix}/x.{suffix}", Accept_Encoding="gzip, zstd"
            )
            assert (answer.status, body) == (200, text)
            assert answer.getheader("Content-Type") == kind
            assert answer.getheader("Content-Encoding") is None
            assert answer.getheader("Cache-Control") == "public, max-age=31536000, immutable"
        path = "/files/ab/zip/x.zip"
        part, body = edge.ask("GET", path, Range="bytes=5-14")
        assert (part.status, body) == (206, b"5678901234")
        assert part.getheader("Content-Range") == "bytes 5-14/10000"
        tag = str(part.getheader("ETag"))
        assert edge.ask("GET", path, If_None_Match=tag)[0].status == 304
        assert edge.ask("HEAD", path)[0].getheader("Content-Length") == "10000"
        assert edge.ask("PUT", path, b"x")[0].status == 403
        missing, _ = edge.ask("GET", "/files/ab/none.zip")
        assert (missing.status, missing.getheader("Cache-Control")) == (404, None)
        assert edge.ask("GET", "/files/%2e%2e/live")[0].status in (400, 404)


def test_without_a_gateway_clients_are_told_to_wait(tmp_path: Path) -> None:
    """An edge with no gateway behind it answers 503 at once, and when to ask again."""
    with running_edge(tmp_path / "nginx", [f"127.0.0.1:{free_port()}"], tmp_path) as edge:
        answer, body = edge.ask("POST", "/v1/check", CHECK)
        assert (answer.status, answer.getheader("Retry-After")) == (503, "30")
        assert json.loads(body)["status"] == 503


def test_a_gateway_that_stops_or_dies_costs_no_check(server: RedisServer, tmp_path: Path) -> None:
    """One of two gateways is stopped, started and killed with -9: every check is answered."""
    with server.client() as client, ExitStack() as stack:
        client.flushall()
        make_epoch(1).write(client)
        ports = [free_port(), free_port()]
        gateways = [
            stack.enter_context(
                running_gateway(tmp_path / str(at), server.url, LISTEN=f"127.0.0.1:{port}")
            )
            for at, port in enumerate(ports)
        ]
        places = [address(each) for each in gateways]
        edge = stack.enter_context(running_edge(tmp_path / "nginx", places, tmp_path))
        with Phones(edge, 4, {"/v1/check": CHECK}, lambda _: PAUSE) as phones:
            phones.more(100)
            gateways[0].terminate()
            assert gateways[0].wait() == 0
            phones.more(100)
            gateways[0].start()
            wait_until(lambda: answered_by(gateways[0]), "the first gateway is asked again")
            gateways[1].kill()
            phones.more(300)
        assert phones.failures == [], [each.log.read_text() for each in gateways]
