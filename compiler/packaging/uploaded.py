"""What an upload did, for people and scripts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compiler.plan import Encryption, Form


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What is so now: the record's file, the object's path in the store, and the version.

    `size` is in bytes, `sha256` in hex, both of the file as it is installed. `recorded` and
    `stored` tell what this call did itself: a record written or completed, any form sent.
    `encryption` says how the forms are encrypted, None: not at all. `clients` has the signed
    host-app range by platform ({}: every host app), `clients_before` what was recorded before.
    """

    app: str
    version: str
    record: Path
    path: str
    size: int
    sha256: str
    forms: tuple[Form, ...]
    signatures: int
    recorded: bool
    stored: bool
    encryption: Encryption | None = None
    clients: Mapping[str, str] = field(default_factory=dict)
    clients_before: Mapping[str, str] | None = None

    @property
    def message(self) -> str:
        """Say in a sentence what was done."""
        sizes = [f"{self.size:,} bytes"]
        sizes += [f"{each.size:,} as {each.compression}" for each in self.forms[1:]]
        if self.signatures:
            sizes.append(f"signed by {self.signatures} key{'s' if self.signatures > 1 else ''}")
        if self.encryption is not None:
            sizes.append(f"encrypted to {self.encryption.key_id}")
            number = len(self.encryption.recipients) - 1
            sizes[-1] += f" and {number} more" if number else ""
        what = f"{self.app} {self.version} ({', '.join(sizes)})"
        if self.clients_before is not None and self.clients_before != self.clients:
            what += f"; clients: {_shown(self.clients_before)} → {_shown(self.clients)};"
        if self.recorded:
            return f"{what} is uploaded; commit {self.record} with the plan."
        if self.stored:
            return f"{what} was recorded already; its file is in this store now."
        return f"{what} is there already, with the same bytes: nothing changed."


def _shown(clients: Mapping[str, str]) -> str:
    ranges = (f"{platform} {text}" for platform, text in sorted(clients.items()))
    return "; ".join(ranges) or "every host app"
