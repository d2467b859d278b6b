"""Tokens of phones, for a plan that counts ids from tokens only (`identity:` in workspace.yaml).

A phone of a load test has no provider to sign in at: whoever holds the private half of a key that
the plan names, in a workspace for rehearsals a test key, lets phones sign for themselves.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from compiler.plan import Identity
from gateway.identity import read_key

LIFETIME_SECONDS = 3_600
"""A phone has the same token for so long, as from a real provider; then it has a new one."""

NOBODY = (
    "The plan counts ids from tokens only, and phones sent none: they were nobody, on no list, in "
    "no window, and in no percentage below 100. Let them sign tokens with --token-key."
)
"""What to say of a load without tokens, where the plan wants them."""


def open_signer(path: str, identity: Identity | None) -> "Signer | None":
    """Give what lets phones sign tokens by the key in a file; None without a file.

    Raises ValueError when it cannot, or when no token would count.
    """
    if not path:
        return None
    if identity is None:
        raise ValueError("--token-key: the plan has no `identity:`, so that no token counts.")
    try:
        return Signer(Path(path).read_bytes(), identity)
    except (OSError, ValueError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else fault
        raise ValueError(f"--token-key {path}: {why}.") from None


class Signer:
    """Signs tokens that count by a plan's `identity`, by one of its keys."""

    def __init__(self, pem: bytes, identity: Identity) -> None:
        """Read a private key without a passphrase.

        Raises ValueError for one that is none, or none of the plan's.
        """
        try:
            self._private: Any = load_pem_private_key(pem, None)
        except (ValueError, TypeError) as fault:
            raise ValueError("it is no private key in PEM without a passphrase") from fault
        form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        public = self._private.public_key().public_bytes(*form)
        key = next((each for each in identity.keys if each.public == public), None)
        if key is None:
            raise ValueError("its public half is none of the keys under `identity:` of the plan")
        self._algorithm = read_key(public).algorithm
        self._head = {} if key.kid is None else {"kid": key.kid}
        self._device = identity.device
        self._claims: dict[str, Any] = {}
        if identity.issuer is not None:
            self._claims["iss"] = identity.issuer
        if identity.audience:
            self._claims["aud"] = identity.audience[0]
        self._known: dict[tuple[Any, Any], tuple[int, str]] = {}

    def headers(self, phone: Mapping[str, Any], now: float) -> dict[str, str]:
        """Give what a phone sends with a check or a report: the token that says its ids."""
        who = phone.get("user"), phone.get("device")
        if who == (None, None):
            return {}
        ends = (int(now) // LIFETIME_SECONDS + 2) * LIFETIME_SECONDS
        known = self._known.get(who)
        if known is None or known[0] != ends:
            known = self._known[who] = ends, self._sign(*who, ends)
        return {"Authorization": f"Bearer {known[1]}"}

    def _sign(self, user: Any, device: Any, ends: int) -> str:
        said = {"sub": user, self._device: device}
        ids = {name: each for name, each in said.items() if each is not None}
        claims = {**self._claims, **ids, "exp": ends}
        return jwt.encode(claims, self._private, self._algorithm, headers=self._head)
