"""TLS for tests: an authority of one's own, certificates, and a front of TLS before any server."""

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates; `file` is what its clients trust."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(f"{name} of a test")
        self.file = folder / f"{name}.pem"
        made = _builder(self._name, self._name, self._key.public_key())
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.file.write_bytes(made.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def issue(self, name: str, *hosts: str) -> Pair:
        """Make a certificate for hosts, each a name or an IP address."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _builder(self._name, _named(name), key.public_key())
        places = [_general(host) for host in hosts or (name,)]
        made = made.add_extension(x509.SubjectAlternativeName(places), critical=False)
        pair = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        pair.cert.write_bytes(made.sign(self._key, SHA256()).public_bytes(Encoding.PEM))
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair


def _builder(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(host: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(host))
    return x509.DNSName(host)


@contextmanager
def front(backend: int, pair: Pair, *, clients: Path | None = None, port: int = 0) -> Iterator[int]:
    """Speak TLS on a port for a server on loopback that cannot; give the port.

    With `clients`, a client must show a certificate that this authority signed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    with (
        socket.create_server(("127.0.0.1", port)) as listener,
        _Passing(context, backend) as passing,
    ):
        thread = threading.Thread(target=passing.accept, args=(listener,), daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


class _Passing:
    """Passes bytes on between clients and a server, by two threads a connection."""

    def __init__(self, context: ssl.SSLContext, backend: int) -> None:
        self._context = context
        self._backend = backend
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in self._open:
            each.close()

    def accept(self, listener: socket.socket) -> None:
        """Take connections until the listener is shut down."""
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                self._open.append(client)
                self._start(self._secure, client)

    def _start(self, what: Callable[..., None], *arguments: Any) -> None:
        self._threads.append(threading.Thread(target=what, args=arguments, daemon=True))
        self._threads[-1].start()

    def _secure(self, client: socket.socket) -> None:
        with suppress(OSError):  # of which a failed handshake is one
            secure = self._context.wrap_socket(client, server_side=True)
            self._open.append(secure)
            server = socket.create_connection(("127.0.0.1", self._backend))
            self._open.append(server)
            self._start(_copy, secure, server)
            _copy(server, secure)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
