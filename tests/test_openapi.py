"""The OpenAPI document: well-formed, complete, and true of what the gateway answers."""

import re
from typing import Any

import aiohttp
import orjson
import pytest
from jsonschema import Draft202012Validator, ValidationError

from epochs import APP, make_epoch
from gateway import openapi
from gateway.attribute import BUILT_IN
from in_process import serving, snapshot_of

DOCUMENT = openapi.DOCUMENT
METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace"]

OBJECT: dict[str, Any] = {"type": "object"}
MEDIA = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "required": ["schema"],
        "additionalProperties": False,
        "properties": {"schema": OBJECT},
    },
}
PARAMETER = {
    "type": "object",
    "required": ["name", "in", "schema"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "in": {"enum": ["query", "header", "path", "cookie"]},
        "description": {"type": "string"},
        "required": {"type": "boolean"},
        "schema": OBJECT,
    },
    "if": {"properties": {"in": {"const": "path"}}},
    "then": {"required": ["required"], "properties": {"required": {"const": True}}},
}
OPERATION = {
    "type": "object",
    "required": ["responses", "operationId"],
    "additionalProperties": False,
    "properties": {
        "operationId": {"type": "string"},
        "summary": {"type": "string"},
        "parameters": {"type": "array", "items": PARAMETER},
        "requestBody": {
            "type": "object",
            "required": ["content"],
            "additionalProperties": False,
            "properties": {"content": MEDIA, "required": {"type": "boolean"}},
        },
        "responses": {
            "type": "object",
            "minProperties": 1,
            "patternProperties": {
                "^[1-5][0-9][0-9]$": {
                    "type": "object",
                    "required": ["description"],
                    "additionalProperties": False,
                    "properties": {
                        "description": {"type": "string"},
                        "content": MEDIA,
                        "headers": OBJECT,
                    },
                }
            },
            "additionalProperties": False,
        },
    },
}
STRUCTURE = {
    "type": "object",
    "required": ["openapi", "info", "paths"],
    "additionalProperties": False,
    "properties": {
        "openapi": {"type": "string", "pattern": r"^3\.1\.\d+$"},
        "info": {
            "type": "object",
            "required": ["title", "version"],
            "properties": {"title": {"type": "string"}, "version": {"type": "string"}},
        },
        "paths": {
            "type": "object",
            "patternProperties": {
                "^/": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": dict.fromkeys(METHODS, OPERATION),
                }
            },
            "additionalProperties": False,
        },
        "components": {
            "type": "object",
            "properties": {
                "schemas": {"type": "object", "additionalProperties": OBJECT},
                "securitySchemes": {
                    "type": "object",
                    "additionalProperties": {
                        "type": "object",
                        "required": ["type", "scheme"],
                        "additionalProperties": False,
                        "properties": {
                            "type": {"const": "http"},
                            "scheme": {"type": "string"},
                            "bearerFormat": {"type": "string"},
                            "description": {"type": "string"},
                        },
                    },
                },
            },
            "additionalProperties": False,
        },
        "security": {
            "type": "array",
            "items": {"type": "object", "additionalProperties": {"type": "array", "maxItems": 0}},
        },
    },
}
"""The part of OpenAPI 3.1.0's structure that this document uses, after its section 4."""


def validator(name: str) -> Draft202012Validator:
    """Make the validator of one of the document's schemas; its references resolve within it."""
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    )


def walk(value: Any) -> Any:
    """Yield every object within the document."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def test_the_document_has_the_structure_of_openapi_3_1() -> None:
    """Every object has the fields that the specification asks for, and no others."""
    Draft202012Validator(STRUCTURE).validate(DOCUMENT)
    assert orjson.loads(openapi.DOCUMENT_BYTES) == DOCUMENT


def test_every_schema_is_one_and_every_reference_resolves() -> None:
    """Schemas follow JSON Schema 2020-12, and no reference points to nothing."""
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    references = {each["$ref"] for each in walk(DOCUMENT) if "$ref" in each}
    names = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert references == names
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            named = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))


def test_a_token_may_be_sent_and_need_not_be() -> None:
    """All that has ids in it takes a bearer token, which identity.py reads, and none as well."""
    (name,) = DOCUMENT["components"]["securitySchemes"]
    assert DOCUMENT["components"]["securitySchemes"][name]["scheme"] == "bearer"
    assert DOCUMENT["security"] == [{}, {name: []}]
    operations = [each for path in DOCUMENT["paths"].values() for each in path.values()]
    assert not any("security" in each for each in operations)


def test_every_attribute_is_in_the_document() -> None:
    """What a client may send is documented, in the body and in the query."""
    body = DOCUMENT["components"]["schemas"]["Check"]["properties"]
    query = {each["name"] for each in DOCUMENT["paths"]["/v1/check/{app}"]["get"]["parameters"]}
    assert set(BUILT_IN) - {"installed"} <= set(body)
    others = {"user", "device", "accept", "dry_run", "switches", "custom", "app"}
    assert set(BUILT_IN) | others == query


def test_the_schemas_can_say_no() -> None:
    """An answer without its package, an unknown status or a wrong problem is not accepted."""
    update = {"app": APP, "status": "update", "version": "1", "release": "r", "upgrade": "silent"}
    for name, wrong in (
        ("App", update),
        ("App", {"app": APP, "status": "perhaps"}),
        ("App", {"app": APP, "status": "invalid"}),
        ("Answer", {"epoch": 0, "check_after": 5, "apps": []}),
        ("Problem", {"type": "about:blank", "title": "x", "status": 200, "detail": ""}),
    ):
        with pytest.raises(ValidationError):
            validator(name).validate(wrong)


async def test_real_answers_are_what_the_document_says() -> None:
    """Each real answer and each problem fits the schema that the document gives for its status."""
    questions: list[bytes] = [
        orjson.dumps({"apps": apps, "user": "u-1"})
        for apps in (
            {APP: None},
            {APP: "1.0.0.1"},
            {APP: "8.0.0.0", "nobody": None, "no such": None},
            {APP: 5, "": None},
            {},
        )
    ]
    seen = set()
    snapshot = snapshot_of(make_epoch(staff=("u-1",)))
    async with serving(snapshot) as served, aiohttp.ClientSession(served.url) as session:
        document = await (await session.get("/openapi.json")).json()
        assert document == DOCUMENT
        for body in (*questions, b"x", b"[]", b" " * 70_000):
            response = await session.post("/v1/check", data=body)
            said = orjson.loads(await response.read())
            answers = DOCUMENT["paths"]["/v1/check"]["post"]["responses"]
            content = answers[str(response.status)]["content"]
            schema = content[response.headers["Content-Type"]]["schema"]["$ref"]
            validator(schema.rpartition("/")[2]).validate(said)
            seen |= {each["status"] for each in said.get("apps", ())} | {response.status}
    assert seen >= {200, 400, 413, "update", "latest", "unknown", "invalid"}


async def test_answers_about_switches_are_as_described() -> None:
    """What OFREP and a check say of switches fits the document's schemas, errors too."""
    flags = "/ofrep/v1/evaluate/flags"
    asked = (
        (f"{flags}/new-home", b'{"context":{"targetingKey":"d"}}', 200, "Evaluation"),
        (flags, b"{}", 200, "Evaluations"),
        (f"{flags}/nothing", b"{}", 404, "EvaluationFailure"),
        (f"{flags}/new-home", b"{", 400, "EvaluationFailure"),
        (flags, b'{"context":1}', 400, "EvaluationFailure"),
        (flags, b" " * 70_000, 413, "EvaluationFailure"),
        ("/ofrep/v1/other", b"{}", 404, "EvaluationFailure"),
        ("/v1/check", b'{"switches":true,"device":"d"}', 200, "Answer"),
    )
    snapshot = snapshot_of(make_epoch(switches=True))
    async with serving(snapshot, quick=True) as served, aiohttp.ClientSession() as session:
        for path, body, status, name in asked:
            async with session.post(served.url + path, data=body) as response:
                assert response.status == status, path
                validator(name).validate(orjson.loads(await response.read()))
    assert not validator("Evaluation").is_valid({"key": "a", "value": 1, "reason": "DEFAULT"})
