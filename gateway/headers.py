"""The headers of every answer, in one place, so that each path writes the same ones. Pure.

aiohttp adds Content-Length, Date, and Connection where a connection ends.
"""

from collections.abc import Collection

JSON = "application/json"
MSGPACK = "application/msgpack"
SERVER = "tidegate"
_SIMPLE = "Accept, Authorization, Content-Type"
PREFLIGHT_SECONDS = 86_400
"""How long a browser may remember a preflight; browsers cut it to two hours or so."""


def answer_headers(
    content_type: str, origin: str | None, allowed: Collection[str]
) -> dict[str, str]:
    """Give an answer's headers; `allowed` are the workspace's CORS origins (`*` for any)."""
    headers = {"Content-Type": content_type, "Cache-Control": "no-store", "Server": SERVER}
    if allowed:
        headers |= _cors(origin, allowed)
    return headers


def preflight_headers(
    methods: str, origin: str | None, allowed: Collection[str], more: str = ""
) -> dict[str, str]:
    """Give the headers of an answer to OPTIONS: `methods` and `more` headers the path allows."""
    headers = {"Allow": methods, "Cache-Control": "no-store", "Server": SERVER}
    cors = _cors(origin, allowed) if allowed else {}
    if "Access-Control-Allow-Origin" in cors:
        cors |= {
            "Access-Control-Allow-Methods": methods,
            "Access-Control-Allow-Headers": ", ".join(filter(None, (_SIMPLE, more))),
            "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        }
    return headers | cors


def _cors(origin: str | None, allowed: Collection[str]) -> dict[str, str]:
    if "*" in allowed:
        return {"Access-Control-Allow-Origin": "*"}
    if origin is not None and origin in allowed:
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
    return {"Vary": "Origin"}


def is_msgpack(content_type: str | None) -> bool:
    """Tell whether a body is MessagePack; whatever else it says, it is read as JSON."""
    return content_type is not None and _media(content_type) == MSGPACK


def wants_msgpack(accept: str | None) -> bool:
    """Tell whether the answer goes out as MessagePack: named, and no less liked than JSON."""
    if accept is None or "msgpack" not in accept.lower():
        return False
    weights: dict[str, float] = {}
    for part in accept.split(","):
        media = _media(part)
        weights[media] = max(weights.get(media, 0.0), _weight(part))
    packed = weights.get(MSGPACK, 0.0)
    return packed > 0 and packed >= weights.get(JSON, 0.0)


def _media(text: str) -> str:
    return text.partition(";")[0].strip().lower()


def _weight(part: str) -> float:
    for parameter in part.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
