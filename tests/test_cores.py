"""What `auto` counts: cores that may be used, less what a control group leaves of them."""

import os
from pathlib import Path

import pytest

from gateway.cores import cores

ALL = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def lay(folder: Path, own: str, limits: dict[str, str]) -> int:
    """Lay out control groups with these limits; count the cores of a process in `own`."""
    (folder / "own").write_text(own)
    for group, text in limits.items():
        path = folder / "groups" / group
        path.mkdir(parents=True, exist_ok=True)
        (path / "cpu.max").write_text(text)
    return cores(folder / "groups", folder / "own")


@pytest.mark.parametrize(
    ("own", "limits", "found"),
    [
        ("0::/\n", {"": "100000 100000\n"}, 1),  # a container's own view
        ("0::/\n", {"": "190000 100000\n"}, 1),  # whole cores
        ("0::/\n", {"": "50000 100000\n"}, 1),  # one at least
        ("0::/a/b\n", {"a": "100000 100000\n", "a/b": "max 100000\n"}, 1),  # a group above
        ("0::/a\n", {"a": "max 100000\n", "b": "100000 100000\n"}, ALL),  # another's
        ("0::/a\n", {"a": "6400000 100000\n"}, ALL),  # more than there are
        ("0::/a\n", {"a": "nonsense"}, ALL),
        ("0::/a\n", {"a": "100000 0\n"}, ALL),
        ("1:cpu:/a\n", {}, ALL),  # cgroup v1
    ],
)
def test_a_quota_counts_in_whole_cores(
    tmp_path: Path, own: str, limits: dict[str, str], found: int
) -> None:
    """The least of the affinity and of every quota from its own group upwards; never under one."""
    assert lay(tmp_path, own, limits) == found


def test_where_nothing_tells_all_count(tmp_path: Path) -> None:
    """Without control groups the cores that the process may use are all that there is to know."""
    assert cores(tmp_path / "no", tmp_path / "none") == ALL


@pytest.mark.skipif(ALL == 1, reason="This machine has one core, so that nothing can be less.")
def test_more_cores_are_seen(tmp_path: Path) -> None:
    """A quota of two cores gives two where there are two."""
    assert lay(tmp_path, "0::/\n", {"": "200000 100000\n"}) == 2
