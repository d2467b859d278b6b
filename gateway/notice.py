"""Hearing of a moved pointer at once. A hint only: when it fails, the poll finds out."""

import asyncio
from collections.abc import Callable
from itertools import cycle
from typing import NoReturn

from gateway.link import (
    Address,
    AsyncLink,
    Kind,
    Node,
    RedisFault,
    connect_async,
    connect_node,
)

TIMEOUT_SECONDS = 2.0
PING_SECONDS = 15.0
FIRST_WAIT_SECONDS = 0.5
MAX_WAIT_SECONDS = 5.0


async def listen(address: Address, channel: str, heard: Callable[[], None]) -> NoReturn:
    """Call `heard` for each notice, and after each reconnection, as some may have been missed.

    A Cluster passes notices on to all its nodes, so that a plain connection to any one will do;
    what Sentinels watch passes them from the primary to its replicas, so that the primary is asked.
    """
    wait = FIRST_WAIT_SECONDS
    nodes = cycle(address.nodes or (("", 0),))
    while True:
        link = _connect(address, next(nodes))
        try:
            async with link.pubsub(ignore_subscribe_messages=True) as notices:
                await notices.subscribe(channel)
                wait = FIRST_WAIT_SECONDS
                heard()
                while True:
                    message = await notices.get_message(timeout=PING_SECONDS)
                    if message is None:
                        await notices.ping()  # finds a dead connection
                    elif message["type"] == "message":
                        heard()
        except RedisFault:
            await asyncio.sleep(wait)
            wait = min(wait * 2, MAX_WAIT_SECONDS)
        finally:
            await link.aclose()


def _connect(address: Address, node: Node) -> AsyncLink:
    if address.kind is Kind.CLUSTER:
        return connect_node(address, node, timeout_seconds=TIMEOUT_SECONDS)
    return connect_async(address, timeout_seconds=TIMEOUT_SECONDS)
