"""A do-nothing RSGI application (granian's own, fastest interface): reads a body, answers bytes.

The file of the answer is named by the variable ANSWER.
"""

import os
from pathlib import Path
from typing import Any

BODY = Path(os.environ["ANSWER"]).read_bytes()
HEADERS = [("content-type", "application/json")]


async def app(scope: Any, protocol: Any) -> None:
    """Answer one request."""
    del scope
    await protocol()
    protocol.response_bytes(200, HEADERS, BODY)
