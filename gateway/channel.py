"""What a parent and its worker say to each other, over one socket pair; an end is heard at once.

    parent to worker    one byte: REPORT (say how it goes), ACCEPT (serve clients from now on),
                        RETIRE (a successor serves: finish what has begun, and end)
    worker to parent    a Report as MessagePack, after its length in 4 bytes, big-endian: when it
                        is asked to, when it could accept, and last of all

A process that dies, however it dies, closes its side: the parent replaces a worker whose side is
closed, and a worker without a parent ends.
"""

import asyncio
import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import asdict, fields
from typing import NamedTuple

import msgpack

from gateway.metrics import Counts, Served

REPORT, ACCEPT, RETIRE = b"?", b"a", b"r"

VARIABLE = "TIDEGATE_WORKER"
"""Set by a parent for its worker alone: SLOT:CLIENTS:PARENT, the latter two file descriptors."""

_LENGTH_BYTES = 4


class Report(NamedTuple):
    """How a worker is: whether it could accept, what it serves, and all that it has counted."""

    started: bool
    served: Served | None
    counts: Counts


class Seat(NamedTuple):
    """A worker's place: its slot from 0, the listening socket, and the channel to the parent."""

    slot: int
    clients: socket.socket
    parent: socket.socket


def take_seat(environ: MutableMapping[str, str]) -> Seat | None:
    """Take over what a parent left in the environment; None in a process without a parent."""
    text = environ.pop(VARIABLE, None)
    if text is None:
        return None
    slot, clients, parent = map(int, text.split(":"))
    for descriptor in (clients, parent):
        os.set_inheritable(descriptor, False)
    return Seat(slot, socket.socket(fileno=clients), socket.socket(fileno=parent))


def encode(report: Report) -> bytes:
    """Write a report with its length in front."""
    served = report.served
    said = None
    if served is not None:
        said = tuple(asdict(served).values())
    packed: bytes = msgpack.packb((report.started, said, report.counts))
    return len(packed).to_bytes(_LENGTH_BYTES, "big") + packed


async def read(reader: asyncio.StreamReader) -> Report | None:
    """Read the next report; None at the end, or if it is none (of another version, perhaps)."""
    with suppress(asyncio.IncompleteReadError, ConnectionError, ValueError, TypeError):
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        packed = await reader.readexactly(length)
        started, said, counts = msgpack.unpackb(packed, use_list=False, strict_map_key=False)
        served = None
        if said is not None:
            served = Served(*said[: len(fields(Served))])
        return Report(started, served, counts)
    return None
