"""A do-nothing aiohttp handler: what serving one request costs before anything is decided.

`python -m loadtest.contenders.aiohttp_nothing PORT FILE` reads each request's body and answers
the file's bytes.
"""

import sys
from pathlib import Path

import uvloop
from aiohttp import web


def main() -> None:
    """Serve until ended."""
    body = Path(sys.argv[2]).read_bytes()

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/check", answer)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
