"""What the OpenAPI document says of switches (OFREP). Data only."""

from typing import Any

from gateway.ofrep import FLAGS_PATH
from gateway.switches import DISABLED, MATCH, OTHERWISE, SPLIT, STATIC

_TEXT = {"type": "string"}

FLAG_SCHEMAS: dict[str, Any] = {
    "Context": {
        "type": "object",
        "properties": {
            "context": {
                "type": ["object", "null"],
                "description": "The attributes of a check under their own names, one's own as "
                "`custom.NAME` or in `custom`; `targetingKey` stands in for a missing `device`.",
            }
        },
    },
    "Evaluation": {
        "type": "object",
        "required": ["key", "value", "reason", "variant", "metadata"],
        "properties": {
            "key": _TEXT,
            "value": {"type": ["boolean", "string", "number", "object", "array"]},
            "reason": {"enum": [STATIC, MATCH, SPLIT, DISABLED, OTHERWISE]},
            "variant": _TEXT,
            "metadata": {
                "type": "object",
                "properties": {
                    "degraded": {
                        "const": True,
                        "description": "Redis was away and would have known better.",
                    }
                },
            },
        },
    },
    "Evaluations": {
        "type": "object",
        "required": ["flags"],
        "properties": {
            "flags": {"type": "array", "items": {"$ref": "#/components/schemas/Evaluation"}}
        },
    },
    "EvaluationFailure": {
        "type": "object",
        "required": ["errorCode", "errorDetails"],
        "properties": {
            "key": _TEXT,
            "errorCode": {"enum": ["PARSE_ERROR", "INVALID_CONTEXT", "FLAG_NOT_FOUND", "GENERAL"]},
            "errorDetails": {"type": "string", "description": "What is wrong, and where."},
        },
    },
}

_FAILURES = {
    "400": "The request breaks as a whole",
    "404": "There is no such switch",
    "408": "The body did not come in time",
    "413": "The body is too large",
    "500": "A fault of the gateway, which its log explains",
    "503": "There is no epoch to serve yet, or too many checks are waiting",
}


def _content(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _responses(good: str, *failures: str) -> dict[str, Any]:
    found: dict[str, Any] = {"200": {"description": "Decided", "content": _content(good)}}
    for status in failures:
        found[status] = {
            "description": _FAILURES[status],
            "content": _content("EvaluationFailure"),
        }
    found["503"]["headers"] = {
        "Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}
    }
    return found


_BODY = {"required": True, "content": _content("Context")}
_ALL = _responses("Evaluations", "400", "408", "413", "500", "503")
_ALL["200"]["headers"] = {
    "ETag": {"description": "Of context and epoch; none if degraded.", "schema": _TEXT}
}
_ALL["304"] = {"description": "If-None-Match has the ETag"}

FLAG_PATHS: dict[str, Any] = {
    FLAGS_PATH: {
        "post": {
            "operationId": "evaluateFlags",
            "summary": "Evaluate all switches (OFREP 0.3.0)",
            "requestBody": _BODY,
            "responses": _ALL,
        }
    },
    f"{FLAGS_PATH}/{{key}}": {
        "post": {
            "operationId": "evaluateFlag",
            "summary": "Evaluate one switch (OFREP 0.3.0)",
            "parameters": [{"name": "key", "in": "path", "required": True, "schema": _TEXT}],
            "requestBody": _BODY,
            "responses": _responses("Evaluation", "400", "404", "408", "413", "500", "503"),
        }
    },
}
