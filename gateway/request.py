"""Bytes of a request to a Check. Pure; raises RequestError for what breaks the request as a whole.

A phone once shipped stays shipped: unknown members are ignored, and a member of another kind than
expected counts as not sent. Only these break a request: a body over BODY_BYTES, no JSON (or
MessagePack that says what JSON cannot), no object, no `apps` object (unless it asks for switches),
over MAX_APPS apps, an id over MAX_ID_BYTES.
"""

from math import isfinite
from typing import Any
from urllib.parse import parse_qsl

import msgpack
import orjson

from gateway.attribute import BUILT_IN, CUSTOM
from gateway.check import Check
from gateway.errors import RequestError

BODY_BYTES = 65_536
MAX_APPS = 100
MAX_ID_BYTES = 256

MANY_APPS = 4
"""From so many apps on it pays to make a quicker object of what was sent; see `_respelled`."""

_READ = (*BUILT_IN, "accept")
"""The members of a check that are read again after this."""

_WORDS = {"true": True, "1": True, "false": False, "0": False, "": False}


def too_large() -> RequestError:
    """Make the refusal of a body that is over the limit, for whoever reads it piece by piece."""
    return RequestError(413, f"The body is over {BODY_BYTES:,} bytes; send less at once.")


def parse_body(body: bytes, packed: bool) -> Check:
    """Read the body of `POST /v1/check`: MessagePack if `packed`, else JSON."""
    sent = read_object(body, packed)
    switches = sent.get("switches") is True
    if "apps" not in sent and not switches:
        raise RequestError(400, "The body has no member `apps`: an object of app ids to versions.")
    apps = sent.get("apps", {})
    if type(apps) is not dict:
        raise RequestError(
            400, f"`apps` must be an object of app ids to installed versions, not {kind(apps)}."
        )
    if len(apps) > MAX_APPS:
        raise RequestError(400, f"`apps` has {len(apps):,} members; at most {MAX_APPS} are read.")
    custom = sent.get("custom")
    return make_check(
        sent,
        custom if type(custom) is dict else {},
        apps,
        sent.get("dry_run") is True,
        switches,
    )


def read_object(body: bytes, packed: bool) -> dict[str, Any]:
    """Read a body that must be an object, and hold it to its limit of size."""
    if len(body) > BODY_BYTES:
        raise too_large()
    sent = _read_msgpack(body) if packed else _read_json(body)
    if type(sent) is not dict:
        raise RequestError(400, f"The body must be an object, not {kind(sent)}.")
    return sent


def parse_query(app: str, query: str) -> Check:
    """Read the query of `GET /v1/check/{app}`, which asks the same of one app.

    Form decoding holds: a plus sign is a space, so write %2B for a plus. A built-in attribute is
    text. The value of `custom.NAME` is a number, true, false or a quoted text where JSON reads it
    as one, else it is the text as it stands. `accept` is separated by commas. `dry_run` and
    `switches` are true or false (1 or 0). Other parameters are ignored, except that none may come
    twice.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_APPS)
        f"{app}{query}".encode()  # raw bytes that are no UTF-8 arrive as lone surrogates
    except UnicodeError:
        raise RequestError(400, "The address is not UTF-8 behind its percent signs.") from None
    except ValueError:
        raise RequestError(400, f"The query has over {MAX_APPS} parameters.") from None
    values: dict[str, str] = {}
    for name, text in pairs:
        if name in values:
            raise RequestError(400, f"The parameter {_shown(name)} comes twice; send it once.")
        values[name] = text
    dry_run, switches = (_truth(values, name) for name in ("dry_run", "switches"))
    sent: dict[str, Any] = {
        name: values[name] for name in (*BUILT_IN, "user", "device") if name in values
    }
    if "accept" in values:
        sent["accept"] = [name for name in values["accept"].split(",") if name]
    custom = {
        name.removeprefix(CUSTOM): _scalar(text)
        for name, text in values.items()
        if name.startswith(CUSTOM)
    }
    return make_check(sent, custom, {app: values.get("installed")}, dry_run, switches)


def make_check(
    sent: dict[str, Any],
    custom: dict[str, Any],
    apps: dict[str, Any],
    dry_run: bool,
    switches: bool,
) -> Check:
    """Make a check of what was sent. Raises RequestError for an id that is too long."""
    check = Check()
    check.sent = sent if len(apps) < MANY_APPS else _respelled(sent)
    check.custom = custom
    check.user = read_id(sent, "user")
    check.device = read_id(sent, "device")
    check.apps = apps
    check.dry_run = dry_run
    check.switches = switches
    check.fingerprint = ""
    check.user_hash = check.device_hash = None
    return check


def _respelled(sent: dict[str, Any]) -> dict[str, Any]:
    """Give what every app reads again, under our own texts as keys.

    A dict finds these by identity. Those of orjson's dicts are compared character by character,
    as it asks for dicts of any keys (_PyDict_NewPresized, CPython 3.11).
    """
    return {name: sent.get(name) for name in _READ}


def _read_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        place = f"line {fault.lineno}, column {fault.colno}"
        raise RequestError(400, f"The body is not JSON: {fault.msg} ({place}).") from None


def _read_msgpack(body: bytes) -> Any:
    try:
        value = msgpack.unpackb(body)
    except msgpack.StackError:
        raise RequestError(400, "The body is not MessagePack: it is nested too deep.") from None
    except msgpack.FormatError:
        raise RequestError(
            400, "The body is not MessagePack: it has a byte that begins no value."
        ) from None
    except UnicodeDecodeError:
        raise RequestError(400, "The body is not MessagePack: a text is not UTF-8.") from None
    except (ValueError, msgpack.UnpackException) as fault:
        raise RequestError(400, f"The body is not MessagePack: {fault}.") from None
    _hold_to_json(value)
    return value


def _hold_to_json(value: Any) -> None:
    """Refuse what MessagePack can say and JSON cannot. A stack, as the depth is the client's."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if type(each) is dict:
            for key in each:
                if type(key) is not str:
                    raise RequestError(400, "A map has a key that is no text; JSON has only texts.")
            waiting += each.values()
        elif type(each) is list:
            waiting += each
        elif type(each) is float:
            if not isfinite(each):
                raise RequestError(400, f"The body holds {each}, a number that JSON cannot write.")
        elif type(each) is bytes:
            raise RequestError(400, "The body holds binary data (bin); send it as text (str).")
        elif each is not None and type(each) not in (str, int, bool):
            raise RequestError(400, "The body holds an extension type, which JSON does not have.")


def read_id(sent: dict[str, Any], name: str) -> str | None:
    """Read an id: None when it was not sent, is empty, or is no text."""
    text = sent.get(name)
    if type(text) is not str or not text:
        return None
    # Most ids are short: four bytes a character at most, so only long ones are encoded.
    if len(text) > MAX_ID_BYTES // 4:
        size = len(text.encode())
        if size > MAX_ID_BYTES:
            raise RequestError(
                400, f"`{name}` is {size:,} bytes long; an id has at most {MAX_ID_BYTES}."
            )
    return text


def _truth(values: dict[str, str], name: str) -> bool:
    found = _WORDS.get(values.get(name, ""))
    if found is None:
        raise RequestError(400, f"`{name}` must be true or false, not {_shown(values[name])}.")
    return found


def _scalar(text: str) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if type(value) in (str, int, float, bool) else text


def _shown(text: str) -> str:
    return repr(text[:40])


def kind(value: Any) -> str:
    """Say what a JSON value is."""
    kinds = {dict: "an object", list: "an array", str: "a text", bool: "true or false"}
    return "null" if value is None else kinds.get(type(value), "a number")
