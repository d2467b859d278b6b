"""How many cores this process may use: the usual number of workers.

A container is mostly held to a share of the CPU by its control group, and sees all cores. Whoever
starts a worker for each of them is stopped for most of every tenth of a second.
"""

import os
from contextlib import suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
_MANY = 1 << 16


def cores(groups: Path = GROUPS, own: Path = OWN) -> int:
    """Count the cores that this process may use, at least 1; on macOS, all that there are.

    A quota of CPU (cgroup v2's, of its own group or of one above) counts in whole cores. `groups`
    is where control groups are mounted, `own` says which one is this process's.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(allowed or 1, *_quotas(groups, own)))


def _quotas(groups: Path, own: Path) -> list[int]:
    """Read how many whole cores each group leaves; nothing of a group without a limit."""
    group = Path("/")
    with suppress(OSError, UnicodeDecodeError):
        # v2's line; inside a container that sees its own group alone, the path is "/".
        lines = own.read_text().splitlines()
        group = next((Path(line[3:]) for line in lines if line.startswith("0::/")), group)
    found = [_MANY]
    for each in (group, *group.parents):
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (groups / str(each).lstrip("/") / "cpu.max").read_text().split()
            found.append(int(quota) // int(period))  # "max", no limit, is no number
    return found
