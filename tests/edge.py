"""deploy/nginx as an edge on loopback; only what a site sets in tidegate/ differs."""

import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPResponse, HTTPSConnection
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from processes import free_port, wait_until
from tools import DEPLOY, tool

MAIN = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include conf.d/*.conf;
}}
"""


@dataclass(frozen=True, slots=True)
class Edge:
    """A running nginx with deploy's configuration."""

    folder: Path
    port: int
    nginx: str

    @property
    def certificate(self) -> Path:
        """The certificate, which is its own authority."""
        return self.folder / "tidegate/tls.crt"

    def connect(self, source: str = "127.0.0.1") -> HTTPSConnection:
        """Open a connection, from an address of loopback; close it."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        return HTTPSConnection(
            "127.0.0.1", self.port, context=context, timeout=30, source_address=(source, 0)
        )

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[HTTPResponse, bytes]:
        """Send one request; `x_y` names the header `x-y`."""
        connection = self.connect()
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def log(self) -> str:
        """Give what it has logged of requests."""
        return (self.folder / "tidegate.log").read_text()


def make_certificate(folder: Path) -> None:
    """Make a key and a certificate for 127.0.0.1, as tls.key and tls.crt."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edge of a test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def lay_out(
    folder: Path,
    port: int,
    gateways: Sequence[str],
    store: Path,
    secret: str,
    listen: str = "listen.conf",
) -> None:
    """Install deploy/nginx in a folder, with this site's own values in tidegate/."""
    shutil.copytree(DEPLOY / "nginx/tidegate", folder / "tidegate")
    (folder / "conf.d").mkdir()
    shutil.copy(DEPLOY / "nginx/tidegate.conf", folder / "conf.d")
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
    site = folder / "tidegate"
    lines = (site / listen).read_text().splitlines(keepends=True)
    here = [line for line in lines if "[::]" not in line]  # not every machine has IPv6
    assert any("listen 443 ssl" in line for line in here)
    text = "".join(here).replace("listen 443", f"listen 127.0.0.1:{port}")
    (site / "listen.conf").write_text(text)
    line = (site / "gateways.conf").read_text().splitlines()[-1]
    assert "127.0.0.1:8080" in line
    lines = [line.replace("127.0.0.1:8080", each) + "\n" for each in gateways]
    (site / "gateways.conf").write_text("".join(lines))
    (site / "log.conf").write_text(f"access_log {folder}/tidegate.log tidegate;\n")
    (site / "store.conf").write_text(f"root {store};\n")
    if secret:
        text = (site / "signed.conf.example").read_text()
        (site / "signed.conf").write_text(text.replace(" SECRET", f" {secret}"))
    make_certificate(site)


@contextmanager
def running_edge(
    folder: Path,
    gateways: Sequence[str],
    store: Path,
    secret: str = "",
    listen: str = "listen.conf",
) -> Iterator[Edge]:
    """Run an edge before gateways, each HOST:PORT; with a secret, files need signed URLs.

    `listen` is the file that stands in for listen.conf.
    """
    nginx = tool("nginx", "Debian's nginx-light")
    port = free_port()
    folder.mkdir()
    lay_out(folder, port, gateways, store, secret, listen)
    edge = Edge(folder, port, nginx)
    command = [nginx, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(command)

    def answers() -> bool:
        assert process.poll() is None, (folder / "error.log").read_text()
        with suppress(OSError):
            return edge.ask("GET", "/")[0].status == 404
        return False

    try:
        wait_until(answers, "nginx answers")
        yield edge
    finally:
        process.terminate()
        process.wait(60)
