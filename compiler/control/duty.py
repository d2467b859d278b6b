"""A controller's duty: the watch and upkeep, side by side, while it holds the lease."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import structlog

from compiler.control.counts import Counts
from compiler.control.lease import Lease
from compiler.control.rounds import Rounds
from compiler.control.upkeep import Upkeep
from compiler.control.watch import Watch
from compiler.control.workplace import Workplace

STALLED_SECONDS = 60.0
"""A look at guardrails that takes longer hangs: the lease is given up, and /health/live says so."""

log = structlog.get_logger()


class Duty:
    """Watches `watched` and keeps up `kept`, each in a thread of its own, until `over`."""

    def __init__(
        self, watched: Workplace, kept: Workplace, lease: Lease, over: threading.Event
    ) -> None:
        """Take one workspace twice: by two links, so that no command waits for another's."""
        self.counts = counts = Counts()
        counts.active.set_function(lease.held)
        self._lease = lease
        self._over = over
        rest = lease, over, counts.failures

        def watch() -> Watch:
            return Watch(watched, counts, self._may_act)

        def upkeep() -> Upkeep:
            return Upkeep(kept, counts, self._may_act)

        self._watch = Rounds("watch", watch, *rest, self._notice)
        self._upkeep = Rounds("upkeep", upkeep, *rest)

    def is_well(self) -> bool:
        """Tell whether the watch does not hang; upkeep may take as long as it has to."""
        return time.monotonic() - self._watch.began < STALLED_SECONDS

    def run(self) -> None:
        """Keep the lease and turn, until it is over and what was begun has ended."""
        keeper = threading.Thread(
            target=self._lease.keep_up, args=(self._over, self.is_well), daemon=True
        )
        keeper.start()
        with ThreadPoolExecutor(1) as pool:
            upkeep = pool.submit(self._upkeep.run)
            self._watch.run()
        keeper.join()
        upkeep.result()

    def _may_act(self) -> bool:
        """Tell whether it is the active one, and not told to end."""
        return self._lease.held() and not self._over.is_set()

    def _notice(self, active: bool) -> None:
        log.info("active" if active else "standing by", holder=self._lease.holder)
