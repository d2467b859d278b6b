"""`identity:` of a plan: every form of a key that a provider publishes, on its way to gateways."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

import identities
from compiler.image import build_image
from compiler.language.reading import read_files
from compiler.language.schema import json_schema
from compiler.plan import Plan
from compiler.publication.change import changed_settings
from gateway import layout
from gateway.identity import Identity
from identities import KINDS, bearer, key, public
from test_broken_plans import BASE

GUIDE = Path(__file__).parent.parent / "compiler/language/README.md"
NOW = 1_800_000_000


def plan_with(identity: str) -> Plan:
    """Read a plan with such an identity."""
    reading = read_files({**BASE, "workspace.yaml": f"workspace: demo\n{identity}\n"}, now=NOW)
    assert reading.diagnostics == ()
    assert reading.plan is not None
    return reading.plan


def told(plan: Plan) -> layout.Identity | None:
    """Compile a plan, and give what gateways are told of the identity provider."""
    image = build_image(plan, [])
    contents = layout.decode(layout.Contents, image.blobs[image.root])
    found: layout.Settings = layout.decode(layout.Settings, image.blobs[contents["settings"]])
    return found["identity"]


def _pem(kid: str) -> str:
    lines = key(kid).export_to_pem().decode().strip().split("\n")
    return "\n".join(("pem: |", *(f"        {line}" for line in lines)))


FORMS = {
    "the key set as it is": lambda kid: json.dumps({"keys": [public(kid)]}),
    "without what is not needed": lambda kid: json.dumps(
        {"keys": [{k: v for k, v in public(kid).items() if k not in ("use", "alg")}]}
    ),
    "with what others read": lambda kid: json.dumps(
        {"keys": [public(kid) | {"x5c": ["MII="], "x5t#S256": "x", "key_ops": ["verify"]}]}
    ),
    "PEM": lambda kid: f"\n  keys:\n    - kid: {kid}\n      {_pem(kid)}",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kid", KINDS)
def test_a_key_may_be_written_as_it_is_published(form: str, kid: str) -> None:
    """A plan with the key in this form makes a gateway that counts its tokens, and no others."""
    settings = told(plan_with(f"identity: {FORMS[form](kid)}"))
    assert settings is not None
    assert settings == identities.settings(kid) | {"issuer": None, "audience": []}
    found = Identity(settings)
    assert found.who(bearer(kid), NOW) == ("u-1", "d-1", "verified")
    assert found.who(bearer(kid, signed_by=f"{kid}-evil"), NOW)[2] == "signature"


def test_without_identity_gateways_are_told_of_none() -> None:
    """Then clients say who they are."""
    assert told(plan_with("")) is None


def test_the_order_of_keys_changes_no_epoch() -> None:
    """Equal providers give equal settings, however they are written."""
    one, other = (
        told(plan_with(f"identity: {identities.plan_text(*kids, audience=audience)}"))
        for kids, audience in (
            (("ed", "ec", "rsa"), ["a", "b"]),
            (("rsa", "ed", "ec"), ["b", "a", "b"]),
        )
    )
    assert one == other


def test_the_guide_s_example_is_one() -> None:
    """What the guide prints under `identity:` is read without a word, with both keys."""
    (text,) = re.findall(
        r"^```yml\n(identity:.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL
    )
    found = plan_with(text).workspace.identity
    assert found is not None
    assert [each.kid for each in found.keys] == ["2026", "2025"]
    assert (found.issuer, found.audience, found.device) == (
        "https://id.example.com",
        ("phones",),
        "device_id",
    )


@pytest.mark.parametrize("form", FORMS)
def test_editors_are_told_of_each_form(form: str) -> None:
    """The JSON Schema takes what the reader takes, and refuses a secret half."""
    checker: Any = Draft7Validator(json_schema()["definitions"]["workspace"])
    text = yaml.safe_load(f"workspace: demo\nidentity: {FORMS[form]('ed')}\n")
    assert checker.is_valid(text)
    text["identity"]["keys"][0]["d"] = "x"
    assert not checker.is_valid(text)


def test_a_change_of_the_provider_is_told() -> None:
    """`diff` names kids with digests of the keys, issuer, audience and the device's claim."""
    before = plan_with("").workspace
    after = plan_with(f"identity: {identities.plan_text('ed', device='dev')}").workspace
    (change,) = changed_settings(before, after)
    (said,) = change.details
    assert re.fullmatch(
        r"none → ed \([0-9a-f]{8}\); issuer https://id\.example\.com; audience phones; device dev",
        said,
    )
