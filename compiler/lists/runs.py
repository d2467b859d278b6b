"""Runs: sorted unique lines as one bytes object, each with a newline behind it, none holding NUL.

What a list is read to, block by block, and how blocks become one: range by range, each range
sorted by numpy in rows of fixed width. A run's order is that of its lines' bytes.
"""

import io
from collections.abc import Iterator

import numpy as np

_BLOCK_BYTES = 1 << 22


def sort_unique(block: bytes) -> bytes:
    """Sort lines by their bytes, without duplicates, in fixed-width rows padded with NUL.

    No id holds a NUL, so that the padding sorts a shorter id first and can be told from text.
    """
    data = np.frombuffer(block, np.uint8)
    sizes = np.diff(np.flatnonzero(data == ord("\n")), prepend=-1) - 1
    width = int(sizes.max())
    padded = np.zeros((len(sizes), width), np.uint8)
    padded[np.arange(width) < sizes[:, None]] = data[data != ord("\n")]
    keys = padded.view(f"S{width}").ravel()
    keys.sort()
    unique = np.concatenate(([True], keys[1:] != keys[:-1]))
    ended = np.full((int(unique.sum()), width + 1), ord("\n"), np.uint8)
    ended[:, :width] = padded[unique]
    lines: bytes = ended[ended != 0].tobytes()
    return lines


def merge_runs(runs: list[bytes]) -> bytes:
    """Merge runs to one; `runs` is emptied on the way.

    Range by range, so that only one range is there as rows at a time. What has been merged is cut
    off the runs now and then: runs and result together are little more than the runs were.
    """
    if len(runs) < 2:
        return runs.pop() if runs else b""
    sample = sorted(
        line_at(run, place * len(run) // len(runs)) for run in runs for place in range(len(runs))
    )
    pivots = sample[len(runs) :: len(runs)]
    starts = [0] * len(runs)
    size = sum(map(len, runs))
    merged = io.BytesIO()  # gives its buffer as bytes without a copy
    for pivot in [*pivots, None]:
        ends = [len(run) if pivot is None else find_line(run, pivot) for run in runs]
        part = b"".join(run[start:end] for run, start, end in zip(runs, starts, ends, strict=True))
        if part:
            merged.write(sort_unique(part))
        starts = ends
        if sum(starts) * _TRIMS > size:
            for index, start in enumerate(starts):
                runs[index] = runs[index][start:]
            starts = [0] * len(runs)
    runs.clear()
    return merged.getvalue()


_TRIMS = 8  # merged runs are cut so many times at most, each time by an eighth of all


def line_at(run: bytes, at: int) -> bytes:
    """Give the line that the byte at this offset belongs to."""
    return run[run.rfind(b"\n", 0, at) + 1 : run.index(b"\n", at)]


def find_line(run: bytes, wanted: bytes, low: int = 0) -> int:
    """Give the offset of the first line that is not below `wanted`, by bisection from `low`."""
    high = len(run)
    while low < high:
        middle = (low + high) // 2
        start, end = run.rfind(b"\n", 0, middle) + 1, run.index(b"\n", middle)
        if run[start:end] < wanted:
            low = end + 1
        else:
            high = start
    return low


def blocks_of(run: bytes, size: int = _BLOCK_BYTES) -> Iterator[memoryview]:
    """Cut a run into blocks of whole lines, of about `size` bytes, not copied."""
    whole = memoryview(run)
    start = 0
    while start < len(run):
        end = run.find(b"\n", min(start + size, len(run) - 1)) + 1
        yield whole[start:end]
        start = end
