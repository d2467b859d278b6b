"""What some laws share: the shop with phones (phone_shop.py), opened once for all of them."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from processes import redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from phone_shop import Shop


@pytest.fixture(scope="session")
def world() -> "Iterator[Shop]":
    """Open the shop, in memory where that can be: a client syncs all that it writes."""
    from phone_shop import shop  # only for those who ask: it brings the whole product along

    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(dir=where) as name,
        redis_server(Path(name) / "redis") as server,
        shop(Path(name), server.url) as found,
    ):
        yield found
