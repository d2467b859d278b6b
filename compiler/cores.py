"""How many cores this process may use: the usual number of workers."""

import os


def cores() -> int:
    """Count the cores that this process may use, at least 1; on macOS, all that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
