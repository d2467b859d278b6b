"""Store and Redis whose every single step may be the last, or may let somebody else in first."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from compiler.storage.store import Store, StoredBlob


class Killed(BaseException):
    """The process ends here: nothing may catch this."""


class Steps:
    """Counts steps of I/O and does something at the one numbered `at` (from 1)."""

    def __init__(self, at: int, action: Callable[[], None]) -> None:
        """Let `action` happen at that step, once."""
        self.at = at
        self.taken = 0
        self._action = action

    @property
    def reached(self) -> bool:
        """Tell whether there were so many steps."""
        return self.taken >= self.at

    def step(self) -> None:
        """Take a step."""
        self.taken += 1
        if self.taken == self.at:
            self._action()


def kill() -> None:
    """End the process, as far as a test can."""
    raise Killed


class SteppedStore(Store):
    """A store with a step before each effect and one after the last."""

    def __init__(self, store: Store, steps: Steps) -> None:
        """Stand before a real store."""
        super().__init__(store._backend, store.name)
        self._steps = steps

    def put_blobs(self, blobs: Iterable[tuple[bytes, bytes]], progress: Any = None) -> int:
        """Put one after another."""
        new = 0
        for digest, data in blobs:
            there = super().has_blob(digest)
            self._steps.step()
            super().put_blob(data)
            self._steps.step()
            new += not there
            if progress is not None:
                progress(len(data))
        return new

    def has_blobs(self, digests: Iterable[bytes]) -> set[bytes]:
        """Look, after a step."""
        self._steps.step()
        return super().has_blobs(digests)

    def delete_blobs(self, digests: Iterable[bytes]) -> None:
        """Delete one after another."""
        for digest in digests:
            self._steps.step()
            super().delete_blobs([digest])
        self._steps.step()

    def list_blobs(self) -> Iterator[StoredBlob]:
        """List at once, with a step before and after."""
        self._steps.step()
        found = list(super().list_blobs())
        self._steps.step()
        return iter(found)

    def put_named(self, path: str, data: bytes) -> None:
        """Write, between two steps."""
        self._steps.step()
        super().put_named(path, data)
        self._steps.step()

    def create_named(self, path: str, data: bytes) -> bool:
        """Write, between two steps."""
        self._steps.step()
        made = super().create_named(path, data)
        self._steps.step()
        return made


class SteppedLink:
    """A client of Redis with a step before and after each command, in pipelines too."""

    def __init__(self, link: Any, steps: Steps) -> None:
        """Stand before a real client."""
        self._link = link
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        """Give an attribute, or a command with its steps."""
        found = getattr(self._link, name)
        if not callable(found):
            return found

        def command(*arguments: Any, **named: Any) -> Any:
            self._steps.step()
            answer = found(*arguments, **named)
            self._steps.step()
            return answer

        return command

    def pipeline(self, *, transaction: bool) -> "_SteppedPipeline":
        """Give a pipeline whose commands are sent one by one."""
        assert not transaction
        return _SteppedPipeline(self._link, self._steps)


class _SteppedPipeline:
    def __init__(self, link: Any, steps: Steps) -> None:
        self._link = link
        self._steps = steps
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    def execute(self) -> list[Any]:
        answers = []
        for command in self._commands:
            # Reading changes nothing: one step for all of them is enough.
            if command[0] not in ("EXISTS", "GET"):
                self._steps.step()
            answers.append(self._link.execute_command(*command))
        self._steps.step()
        return answers
