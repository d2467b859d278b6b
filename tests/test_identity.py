"""Client identity: which tokens count, which do not, and what is remembered of them."""

import base64
import hashlib
import hmac
import json
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gateway.identity
import identities
from epochs import make_epoch
from gateway.errors import FormatError
from gateway.identity import LEEWAY_SECONDS, OUTCOMES, TOKEN_BYTES, Identity
from gateway.loading import Loading, Rules
from identities import AUDIENCE, EXPIRES, KINDS, bearer, claims, key, pieces, sign, token
from in_process import snapshot_of

EXAMPLES = 20_000 if "TIDEGATE_SOAK" in os.environ else 400
NOW = 1_800_000_000
PROVIDER = Identity(identities.settings())


def judged(sent: bytes, second: int = NOW, **told: Any) -> str:
    """Judge a token; one that does not count must be nobody's."""
    found = Identity(identities.settings(**told)) if told else PROVIDER
    user, device, outcome = found.who(b"Bearer " + sent, second)
    assert outcome in OUTCOMES
    if outcome not in ("verified", "remembered"):
        assert (user, device) == (None, None)
    return outcome


@pytest.mark.parametrize("kid", KINDS)
def test_a_sound_token_says_who_it_is(kid: str) -> None:
    """Of each kind of key: user and device, the first time and when it is remembered."""
    found = Identity(identities.settings())
    for outcome in ("verified", "remembered", "remembered"):
        assert found.who(b"Bearer " + SOUND[kid], NOW) == ("u-1", "d-1", outcome)


SOUND = {kid: token(kid) for kid in KINDS}


@pytest.mark.parametrize(
    ("field", "outcome"),
    [
        (None, "missing"),
        (b"", "missing"),
        (b"Basic dTpw", "missing"),
        (SOUND["ed"], "missing"),
        (b"Bearer", "missing"),
        (b"Bearer ", "malformed"),
        (b"bearer " + SOUND["ed"], "verified"),
        (b"BEARER \t" + SOUND["ec"] + b" ", "verified"),
        (b"Bearer " + SOUND["ed"] + b",Bearer " + SOUND["ed"], "malformed"),
        (b'Bearer token="' + SOUND["ed"] + b'"', "malformed"),
    ],
)
def test_a_token_is_a_bearers(field: bytes | None, outcome: str) -> None:
    """The field is read as RFC 6750 says, in whatever case the scheme is written."""
    assert Identity(identities.settings()).who(field, NOW)[2] == outcome


def _hmac_by(secret: bytes, kid: str) -> bytes:
    """Sign as if a public key, which everybody has, were a shared secret."""
    text = pieces({"alg": "HS256", "kid": kid}, claims())
    mac = hmac.new(secret, text, hashlib.sha256).digest()
    return text + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")


def _with_payload(sent: bytes, **more: Any) -> bytes:
    head, _, signature = sent.split(b".")
    return b".".join((head, pieces(claims(**more)), signature))


PEMS = {kid: key(kid).export_to_pem() for kid in KINDS}
DER = identities.settings()["keys"]
EVIL = {"jwk": key("ed-evil").export_public(as_dict=True)}
HOSTILE: dict[str, tuple[bytes, str]] = {
    **{
        f"alg {name}, {kid}": (pieces({"alg": name, "kid": kid}, claims()) + end, outcome)
        for name in ("none", "None", "nOnE", "")
        for kid in KINDS
        for end, outcome in ((b".", "malformed"), (b".AAAA", "algorithm"))
    },
    **{
        f"public key of {kid} as a secret, {len(secret)} bytes": (
            _hmac_by(secret, kid),
            "algorithm",
        )
        for kid in KINDS
        for secret in (PEMS[kid], PEMS[kid].strip(), DER[kid], DER[kid][-32:])
    },
    **{
        f"signed by {other} for {kid}": (token(kid, signed_by=other), "algorithm")
        for kid in KINDS
        for other in KINDS
        if kid != other
    },
    **{f"a stranger's {kid}": (token(kid, signed_by=f"{kid}-evil"), "signature") for kid in KINDS},
    **{
        f"another payload, {kid}": (_with_payload(SOUND[kid], sub="root"), "signature")
        for kid in KINDS
    },
    "alg missing": (pieces({"kid": "ed"}, claims(), b"x" * 64), "algorithm"),
    "alg as a list": (pieces({"alg": ["EdDSA"], "kid": "ed"}, claims(), b"x" * 64), "algorithm"),
    "no kid": (token(head={"kid": ...}), "unknown_key"),
    "kid unknown": (token("ed-evil"), "unknown_key"),
    "kid a number": (token(head={"kid": 1}), "unknown_key"),
    "kid null": (token(head={"kid": None}), "unknown_key"),
    "kid a list": (token(head={"kid": ["ed"]}), "unknown_key"),
    "kid a path": (token(head={"kid": "../../dev/null"}), "unknown_key"),
    "kid with SQL": (token(head={"kid": "ed' OR '1'='1"}), "unknown_key"),
    "brings its own key": (token("ed", signed_by="ed-evil", head=EVIL), "signature"),
    "brings its own key, kid unknown": (
        token("evil", signed_by="ed-evil", head=EVIL),
        "unknown_key",
    ),
    "names its own key set": (
        token("ed", signed_by="ed-evil", head={"jku": "http://127.0.0.1:1/", "x5u": "http://x/"}),
        "signature",
    ),
    "crit": (
        pieces({"alg": "EdDSA", "kid": "ed", "crit": ["x"], "x": 1}, claims(), b"s"),
        "malformed",
    ),
    "detached payload": (
        pieces({"alg": "EdDSA", "kid": "ed", "b64": False, "crit": ["b64"]}, b"", b"s"),
        "malformed",
    ),
    "b64 without crit": (
        pieces({"alg": "EdDSA", "kid": "ed", "b64": False}, claims(), b"s"),
        "malformed",
    ),
    "expired": (token(exp=NOW - LEEWAY_SECONDS), "expired"),
    "expired long ago": (token(exp=0), "expired"),
    "expires at a fraction": (token(exp=NOW - LEEWAY_SECONDS - 0.5), "expired"),
    "never expires": (token(exp=...), "malformed"),
    "expires at null": (token(exp=None), "malformed"),
    "expires at a text": (token(exp=str(EXPIRES)), "malformed"),
    "expires at true": (token(exp=True), "malformed"),
    "not yet": (token(nbf=NOW + LEEWAY_SECONDS + 1), "early"),
    "not before a text": (token(nbf="0"), "malformed"),
    "not before null": (token(nbf=None), "malformed"),
    "another audience": (token(aud="kiosks"), "audience"),
    "other audiences": (token(aud=["kiosks", "PHONES", "phone"]), "audience"),
    "no audience": (token(aud=...), "audience"),
    "an empty audience": (token(aud=[]), "audience"),
    "an audience of another kind": (token(aud={AUDIENCE: 1}), "audience"),
    "an audience within an audience": (token(aud=[[AUDIENCE]]), "audience"),
    "another issuer": (token(iss="https://id.example.com/"), "issuer"),
    "no issuer": (token(iss=...), "issuer"),
    "issuers": (token(iss=[identities.ISSUER]), "issuer"),
    "too long": (token(pad="x" * TOKEN_BYTES), "malformed"),
    "empty": (b"", "malformed"),
    "dots": (b"..", "malformed"),
    "two parts": (b".".join(SOUND["ed"].split(b".")[:2]), "malformed"),
    "four parts": (SOUND["ed"] + b".x", "malformed"),
    "five parts, as of JWE": (SOUND["ed"] + b".x.y", "malformed"),
    "padded": (SOUND["ec"] + b"==", "malformed"),
    "a blank within": (SOUND["ed"].replace(b".", b". ", 1), "malformed"),
    "not ASCII": ("ä.ö.ü".encode(), "malformed"),
    "no JSON in its head": (pieces(b"{", claims(), b"s"), "malformed"),
    "no object as its head": (pieces([], claims(), b"s"), "malformed"),
    "a deep head": (pieces(b"[" * 2000, b"{}", b"s"), "malformed"),
    "a deep payload": (sign("[" * 1500 + "]" * 1500), "malformed"),
    "no JSON in it": (sign("{"), "malformed"),
    "no object in it": (sign('"text"'), "malformed"),
    "not UTF-8 in its head": (pieces(b'{"alg":"\xff"}', b"{}", b"s"), "malformed"),
    "half a character": (sign('{"exp":4e9,"sub":"\\ud800"}'), "malformed"),
    "not a number": (sign('{"exp":NaN}'), "malformed"),
    "infinity": (sign('{"exp":Infinity}'), "malformed"),
    "beyond numbers": (sign('{"exp":1e999}'), "malformed"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tokens_are_nobodys(name: str) -> None:
    """Whatever a token pretends, it is refused, with the word that is counted; twice the same."""
    sent, outcome = HOSTILE[name]
    assert judged(sent) == outcome
    assert judged(sent) == outcome


def test_the_clock_decides_to_the_second() -> None:
    """A token counts from nbf to before exp, give or take the leeway for clocks that differ."""
    sent = token(nbf=NOW, exp=NOW + 100)
    moments = {
        NOW - LEEWAY_SECONDS - 1: "early",
        NOW - LEEWAY_SECONDS: "counts",
        NOW + 100 + LEEWAY_SECONDS - 1: "counts",
        NOW + 100 + LEEWAY_SECONDS: "expired",
    }
    for second, outcome in moments.items():
        found = judged(sent, second)
        assert (found if outcome != "counts" else "counts") == outcome, second
        assert (found in ("verified", "remembered")) is (outcome == "counts")


@pytest.mark.parametrize(
    ("more", "user", "device"),
    [
        ({}, "u-1", "d-1"),
        ({"sub": ...}, None, "d-1"),
        ({"device": ...}, "u-1", None),
        ({"sub": "", "device": None}, None, None),
        ({"sub": 7, "device": ["d-1"]}, None, None),
        ({"sub": "u" * 256}, "u" * 256, "d-1"),
        ({"sub": "u" * 257}, None, "d-1"),
        ({"sub": "ä" * 129}, None, "d-1"),
        ({"sub": "用户", "device": "\0"}, "用户", "\0"),
        ({"aud": ["kiosks", AUDIENCE]}, "u-1", "d-1"),
    ],
)
def test_ids_are_what_the_claims_say(more: Any, user: Any, device: Any) -> None:
    """`sub` is the user, the named claim the device; what cannot be an id is none."""
    assert PROVIDER.who(bearer(**more), NOW)[:2] == (user, device)


def test_the_device_stands_in_the_claim_that_is_named() -> None:
    """Another claim than `device` may hold it; and without issuer and audience, any will do."""
    told = identities.settings(device="https://example.com/device")
    found = Identity(told | {"issuer": None, "audience": []})
    sent = bearer(**{"https://example.com/device": "d-2"}, iss=..., aud="anybody")
    assert found.who(sent, NOW) == ("u-1", "d-2", "verified")


def test_a_key_without_a_kid_is_for_tokens_without_one() -> None:
    """It takes those that name no key, and no others."""
    found = Identity(identities.settings() | {"keys": {"": DER["ed"]}})
    assert found.who(bearer(head={"kid": ...}), NOW)[2] == "verified"
    for other in ({}, {"kid": ""}):
        assert found.who(bearer(head=other), NOW)[2] == "unknown_key"


@settings(max_examples=EXAMPLES, deadline=None)
@given(kid=st.sampled_from(sorted(KINDS)), at=st.integers(0, 5_000), byte=st.integers(0, 255))
def test_no_byte_of_a_token_may_change(kid: str, at: int, byte: int) -> None:
    """One byte more or another one in its place: it is nobody's, or it is the same token."""
    sent = SOUND[kid]
    at %= len(sent)
    for changed in (
        sent[:at] + bytes([byte]) + sent[at + 1 :],
        sent[:at] + bytes([byte]) + sent[at:],
        sent[:at] + sent[at + 1 :],
    ):
        assert changed.strip(b" \t") == sent or judged(changed) not in ("verified", "remembered")


@settings(max_examples=EXAMPLES, deadline=None)
@given(field=st.one_of(st.binary(), st.binary().map(lambda rest: b"Bearer " + rest)))
def test_no_field_makes_a_fault(field: bytes) -> None:
    """Whatever bytes come, the answer is nobody."""
    assert PROVIDER.who(field, NOW)[:2] == (None, None)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=EXAMPLES // 8, deadline=None)
@given(
    head=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64"]), json_values),
    names=st.dictionaries(st.sampled_from(["sub", "device", "exp", "nbf", "aud"]), json_values),
    second=st.integers(0, 2**40),
)
def test_no_value_makes_a_fault(head: Any, names: Any, second: int) -> None:
    """Whatever stands in a head or, signed, in the claims, some outcome comes of it."""
    judged(pieces({"kid": "ed"} | head, claims(), b"s" * 64), second)
    judged(sign(json.dumps(claims(**names))), second)


def test_memory_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """At each moment a token that is remembered is judged as one that is met for the first time."""
    tokens = [b"Bearer " + sent for sent, _ in HOSTILE.values()]
    tokens += [bearer(nbf=NOW + begins, exp=NOW + ends) for begins in (-9, 9) for ends in (0, 99)]
    monkeypatch.setattr(gateway.identity, "REMEMBERED_TOKENS", 3)
    small = Identity(identities.settings())
    for second in (NOW - 60, NOW, NOW + 60, NOW - 30, NOW + 200):
        for sent in tokens:
            fresh = Identity(identities.settings()).who(sent, second)
            for known in (PROVIDER, small):
                found = known.who(sent, second)
                assert found[:2] == fresh[:2]
                assert found[2].replace("remembered", "verified") == fresh[2]
        assert len(small._known) <= 3


def test_refused_tokens_take_no_memory() -> None:
    """Nobody fills it without the provider's signature."""
    found = Identity(identities.settings())
    for sent, outcome in HOSTILE.values():
        if outcome not in ("verified", "expired", "early"):
            found.who(b"Bearer " + sent, NOW)
    assert not found._known


def test_memory_outlives_epochs_but_not_keys() -> None:
    """A new epoch of the same provider goes on with what is known, and of other keys anew."""
    first = snapshot_of(make_epoch(1, identity=identities.settings()))
    assert first.identity is not None
    assert first.identity.who(bearer(), NOW)[2] == "verified"

    def follow(**told: Any) -> Any:
        made = make_epoch(2, **told)
        loading = Loading(made.digest, Rules("demo", (), None), made.blobs)
        assert not loading.missing()
        return loading.build(first).identity

    assert follow(identity=identities.settings()) is first.identity
    assert follow(identity=identities.settings("ec")).who(bearer(), NOW)[2] == "unknown_key"
    assert follow() is None


def test_a_key_that_is_none_is_refused_with_its_epoch() -> None:
    """Settings whose key cannot be read are no settings."""
    with pytest.raises(FormatError, match="a key of the identity provider"):
        Identity(identities.settings() | {"keys": {"a": b"x"}})
