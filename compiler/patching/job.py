"""What the crew and its workers tell each other."""

from dataclasses import dataclass

from compiler.patching import formats
from compiler.patching.patch_index import Patch
from compiler.patching.selection import Pair

WORKER_BYTES = 64_000_000
"""What a worker takes beside its job; measured: 30 MB."""


@dataclass(frozen=True, slots=True)
class Job:
    """Make these formats of a pair's patch."""

    pair: Pair
    formats: tuple[str, ...]

    @property
    def memory(self) -> int:
        """How many bytes a worker takes for it at most."""
        sizes = self.pair.old.size, self.pair.new.size
        return WORKER_BYTES + max(formats.memory(each, *sizes) for each in self.formats)

    @property
    def name(self) -> str:
        """What it makes, for sentences."""
        return f"{self.pair.app} {self.pair.old.version} to {self.pair.new.version}"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a patch was not made. When `store` is true the store failed, and will for the others."""

    sentence: str
    store: bool = False


Outcome = Patch | Failure
"""A patch, served or dropped, or why there is none."""
