"""The OpenAPI 3.1 document of the client listener. Data only; tests hold real answers to it."""

from typing import Any

import orjson

from gateway import __version__
from gateway.attribute import BUILT_IN, CUSTOM, TEXT
from gateway.flag_openapi import FLAG_PATHS, FLAG_SCHEMAS
from gateway.report import EVENTS, MAX_REPORTS
from gateway.request import BODY_BYTES, MAX_APPS, MAX_ID_BYTES

_TEXT = {"type": "string"}
_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_SIZE = {"type": "integer", "minimum": 0}
_URLS = {"type": "array", "items": {"type": "string", "format": "uri"}}
_ID = {"type": ["string", "null"], "description": f"At most {MAX_ID_BYTES} bytes."}

_CHECK: dict[str, Any] = {
    "type": "object",
    "anyOf": [{"required": ["apps"]}, {"required": ["switches"]}],
    "description": "Unknown members are ignored; an attribute of another kind is as if not sent.",
    "properties": {
        "user": _ID,
        "device": _ID,
        **{
            name: {"description": "An attribute: text."} for name in (*TEXT, *BUILT_IN[len(TEXT) :])
        },
        "custom": {"description": "One's own attributes by name: text, number, true or false."},
        "accept": {
            "description": "What the client can open: an array of names, of which gzip, zstd, "
            "bsdiff4 and zstd-patch are known; gzip and bsdiff4 if it is absent. The smallest "
            "download among those is offered.",
        },
        "apps": {
            "type": "object",
            "maxProperties": MAX_APPS,
            "description": "App ids to installed versions, null for not installed.",
        },
        "switches": {"description": "true: tell the value of every switch; `apps` may be absent."},
        "dry_run": {"description": "true: answer as usual, leave no trace."},
    },
}
del _CHECK["properties"]["installed"]  # in a body, the versions stand in `apps`

_APP: dict[str, Any] = {
    "type": "object",
    "required": ["app", "status"],
    "description": "Clients ignore members and statuses that they do not know.",
    "properties": {
        "app": _TEXT,
        "status": {
            "enum": ["update", "latest", "rollback", "withdrawn", "none", "unknown", "invalid"]
        },
        "detail": {"type": "string", "description": "With `invalid`: what is wrong."},
        "version": _TEXT,
        "release": _TEXT,
        "upgrade": {"enum": ["silent", "prompt", "force"]},
        "download": {"enum": ["wifi", "any"]},
        "install": {"enum": ["preload", "on_open"]},
        "info": {"description": "Any JSON that the plan hands to the client."},
        "package": {
            "type": "object",
            "required": ["size", "sha256", "urls"],
            "properties": {
                "size": _SIZE,
                "sha256": _SHA256,
                "urls": _URLS,
                "compression": {"enum": ["gzip", "zstd"]},
                "transfer_size": _SIZE,
                "transfer_sha256": _SHA256,
            },
            "description": "Without `compression`, what the URLs give is the file itself.",
            "dependentRequired": {"compression": ["transfer_size", "transfer_sha256"]},
        },
        "patch": {
            "type": "object",
            "required": ["from", "format", "urls", "transfer_size", "transfer_sha256"],
            "properties": {
                "from": {"type": "string", "description": "The installed version."},
                "format": {"enum": ["bsdiff4", "zstd-patch"]},
                "urls": _URLS,
                "transfer_size": _SIZE,
                "transfer_sha256": _SHA256,
            },
            "description": "A smaller download; its result is held to the package's sha256.",
        },
        "encryption": {
            "type": "object",
            "required": ["format", "key_id"],
            "properties": {"format": {"const": "age"}, "key_id": _TEXT},
            "description": "If it is there, what all URLs of this answer give is encrypted.",
        },
        "signatures": {"type": "array", "items": _TEXT},
    },
    "dependentRequired": {"patch": ["package"], "encryption": ["package"]},
    "allOf": [
        {
            "if": {"properties": {"status": {"enum": ["update", "rollback"]}}},
            "then": {"required": ["version", "release", "upgrade", "package"]},
        },
        {"if": {"properties": {"status": {"const": "invalid"}}}, "then": {"required": ["detail"]}},
    ],
}

_REPORTS: dict[str, Any] = {
    "type": "object",
    "required": ["reports"],
    "description": "Unknown members are ignored; a report that is wrong is passed over by itself.",
    "properties": {
        "user": _ID,
        "device": _ID,
        "reports": {
            "type": "array",
            "maxItems": MAX_REPORTS,
            "items": {
                "type": "object",
                "required": ["app", "release", "event"],
                "properties": {
                    "app": _TEXT,
                    "version": {"type": "string", "description": "The package's; not counted."},
                    "from": {
                        "type": ["string", "null"],
                        "description": "What was installed before; not counted.",
                    },
                    "release": {"type": "string", "description": "As the answer named it."},
                    "event": {"enum": list(EVENTS)},
                    "reason": {"type": "string", "description": "In words; not counted."},
                },
            },
        },
        "dry_run": {"description": "true: answer as usual, count nothing."},
    },
}

_SCHEMAS: dict[str, Any] = {
    "Check": _CHECK,
    "Reports": _REPORTS,
    "Accepted": {
        "type": "object",
        "required": ["accepted", "passed_over"],
        "properties": {
            "accepted": {"type": "integer", "minimum": 0},
            "passed_over": {
                "type": "integer",
                "minimum": 0,
                "description": "Reports that are wrong, or of an app or release that this epoch "
                "does not have. To send them again would change nothing.",
            },
        },
    },
    "App": _APP,
    "Answer": {
        "type": "object",
        "required": ["epoch", "check_after", "apps"],
        "properties": {
            "epoch": {"type": "integer", "minimum": 1},
            "check_after": {
                "type": "integer",
                "minimum": 0,
                "maximum": 86_400,
                "description": "Seconds to wait before asking again.",
            },
            "apps": {"type": "array", "items": {"$ref": "#/components/schemas/App"}},
            "switches": {
                "type": "object",
                "description": "If asked for: the switches by key.",
                "additionalProperties": {
                    "type": "object",
                    "required": ["variant", "value"],
                    "properties": {
                        "variant": _TEXT,
                        "value": {},
                        "degraded": {"description": "true: keep the value that you have."},
                    },
                },
            },
        },
    },
    **FLAG_SCHEMAS,
    "Problem": {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"const": "about:blank"},
            "title": _TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "What is wrong, and where."},
        },
    },
}

_TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "Where the workspace has an identity provider, `user` and `device` are those of "
    "a sound token alone, and what is sent as such counts for nothing; a token that is missing, "
    "expired or wrong is no error. Elsewhere it is ignored.",
}

_PROBLEMS = {
    "400": "The request breaks as a whole",
    "408": "The body did not come in time",
    "413": f"The body is over {BODY_BYTES} bytes",
    "500": "A fault of the gateway, which its log explains",
    "503": "There is no epoch to serve yet, or the gateway has too much to do",
}


def _content(name: str, *media: str) -> dict[str, Any]:
    return {each: {"schema": {"$ref": f"#/components/schemas/{name}"}} for each in media}


_ANSWER = {
    "200": {
        "description": "An answer for each app asked, in the order asked",
        "content": _content("Answer", "application/json", "application/msgpack"),
    }
}
_ACCEPTED = {
    "202": {
        "description": "The reports were taken, and are counted soon",
        "content": _content("Accepted", "application/json", "application/msgpack"),
    }
}


def _responses(answer: dict[str, Any], *problems: str) -> dict[str, Any]:
    answers = dict(answer)
    for status in problems:
        answers[status] = {
            "description": _PROBLEMS[status],
            "content": _content("Problem", "application/problem+json"),
        }
    answers["503"]["headers"] = {
        "Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}
    }
    return answers


def _parameter(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string"}}


_PARAMETERS: list[dict[str, Any]] = [
    {"name": "app", "in": "path", "required": True, "schema": {"type": "string"}},
    *(_parameter(name, "An id.") for name in ("user", "device")),
    *(_parameter(name, "An attribute.") for name in BUILT_IN),
    _parameter("accept", "What the client can open, separated by commas."),
    *(
        {**_parameter(name, text), "schema": {"enum": ["true", "false", "1", "0", ""]}}
        for name, text in (
            ("dry_run", "true: leave no trace."),
            ("switches", "true: tell the switches, too."),
        )
    ),
    {
        "name": "custom",
        "in": "query",
        "description": f"One's own attributes, each as {CUSTOM}NAME=VALUE: a number, true, false "
        "or a quoted text as JSON reads it, else text. A plus sign is a space; write %2B.",
        "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    },
]

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Tidegate",
        "version": __version__,
        "description": "Is there an update for me?",
    },
    "paths": {
        "/v1/check": {
            "post": {
                "operationId": "check",
                "summary": "Ask about several apps",
                "requestBody": {
                    "required": True,
                    "content": _content("Check", "application/json", "application/msgpack"),
                },
                "responses": _responses(_ANSWER, "400", "408", "413", "500", "503"),
            }
        },
        **FLAG_PATHS,
        "/v1/check/{app}": {
            "get": {
                "operationId": "checkOne",
                "summary": "Ask about one app, for people with curl",
                "parameters": _PARAMETERS,
                "responses": _responses(_ANSWER, "400", "500", "503"),
            }
        },
        "/v1/report": {
            "post": {
                "operationId": "report",
                "summary": "Tell what became of updates",
                "requestBody": {
                    "required": True,
                    "content": _content("Reports", "application/json", "application/msgpack"),
                },
                "responses": _responses(_ACCEPTED, "400", "408", "413", "500", "503"),
            }
        },
    },
    "security": [{}, {"token": []}],
    "components": {"schemas": _SCHEMAS, "securitySchemes": {"token": _TOKEN}},
}

DOCUMENT_BYTES = orjson.dumps(DOCUMENT)
