"""Signatures: RFC 8032's own vectors, and nothing else verifies."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.signing import PublicKey, key_id, parse_trusted_keys, public_line, verify

# RFC 8032, section 7.1, tests 1 to 3: public key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bac"
            "c61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e"
            "458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290"
            "ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
]
ANN = "ann:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
BEN = "ben:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw="


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_the_rfc_s_signatures_verify(key: str, message: str, signature: str) -> None:
    """RFC 8032's signatures verify with their own key and message."""
    assert verify(bytes.fromhex(key), bytes.fromhex(signature), bytes.fromhex(message))


@given(bit=st.integers(0, 511), part=st.sampled_from(["key", "signature", "message"]))
def test_any_other_bit_fails(bit: int, part: str) -> None:
    """One changed bit in the key, the signature or the message is no signature."""
    given_parts = dict(zip(("key", "message", "signature"), VECTORS[2], strict=True))
    parts = {name: bytearray.fromhex(text) for name, text in given_parts.items()}
    at = bit % (8 * len(parts[part]))
    parts[part][at // 8] ^= 1 << at % 8
    assert not verify(bytes(parts["key"]), bytes(parts["signature"]), bytes(parts["message"]))


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_a_malformed_key_verifies_nothing(size: int) -> None:
    """A key or a signature of a wrong length is False, never an exception."""
    _, message, signature = (bytes.fromhex(text) for text in VECTORS[1])
    assert not verify(bytes(size), signature, message)
    assert not verify(bytes.fromhex(VECTORS[1][0]), bytes(size), message)


def test_keys_are_read_from_lines_and_commas() -> None:
    """Lines, commas, blanks and comments may be mixed; the order is kept."""
    text = f"# who may publish\n{ANN}  # Ann, laptop\r\n\n , {BEN} ,{ANN}\n"
    ann, ben = parse_trusted_keys(text)
    assert ann == PublicKey("ann", bytes.fromhex(VECTORS[0][0]))
    assert ben == PublicKey("ben", bytes.fromhex(VECTORS[1][0]))
    assert parse_trusted_keys(" \n# nobody\n") == ()


@given(
    st.lists(
        st.builds(
            PublicKey,
            st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", fullmatch=True),
            st.binary(min_size=32, max_size=32),
        ),
        unique_by=(lambda key: key.name, lambda key: key.raw),
    )
)
def test_written_keys_read_back(keys: list[PublicKey]) -> None:
    """What `public_line` writes, `parse_trusted_keys` reads, with newlines or commas."""
    for separator in ("\n", ","):
        assert parse_trusted_keys(separator.join(map(public_line, keys))) == tuple(keys)


KEY = ANN.partition(":")[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ann", "line 1: 'ann' has no colon"),
        (KEY, "line 1: .* has no colon"),
        (f"{BEN}\n:{KEY}", "line 2: '' is no key name"),
        (f"a b:{KEY}", "'a b' is no key name"),
        (f".ann:{KEY}", "is no key name"),
        (f"{'a' * 65}:{KEY}", "is no key name"),
        ("ann:", "what follows ann: is not 32 bytes in base64"),
        ("ann:AAAA", "is not 32 bytes"),
        (f"ann:{KEY[:-1]}", "is not 32 bytes"),
        (f"ann:{KEY[:10]} {KEY[10:]}", "is not 32 bytes"),
        (f"ann:{KEY.replace('/', '_')}", "is not 32 bytes"),
        ("ann:" + base64.b64encode(bytes(33)).decode(), "is not 32 bytes"),
        (f"ann:é{KEY[1:]}", "is not 32 bytes"),
        (f"{ANN}\nann:{BEN[4:]}", "line 2: ann has another key already"),
        (f"{ANN}\n\nzoe:{KEY}", "line 3: zoe has the same key as ann"),
    ],
)
def test_a_wrong_key_is_named_by_its_line(text: str, message: str) -> None:
    """Whatever is no trusted key is an error with a line and a mend."""
    with pytest.raises(ValueError, match=message) as caught:
        parse_trusted_keys(text)
    assert str(caught.value).endswith(".")


def test_a_key_id_is_a_short_digest() -> None:
    """A key's id is the beginning of its SHA-256, so that anybody can work it out."""
    assert key_id(bytes.fromhex(VECTORS[0][0])) == "21fe31dfa154a261"
