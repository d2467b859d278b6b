"""What a controller works on."""

from dataclasses import dataclass

from compiler.publication.mirror import Mirror
from compiler.publication.publisher_key import PublisherKey
from compiler.storage.store import Store
from gateway.link import SyncLink


@dataclass(frozen=True, slots=True)
class Workplace:
    """A workspace, where it lies, and the key that signs what is published."""

    workspace: str
    store: Store
    link: SyncLink
    key: PublisherKey

    @property
    def mirror(self) -> Mirror:
        """The workspace in Redis."""
        return Mirror(self.link, self.workspace)
