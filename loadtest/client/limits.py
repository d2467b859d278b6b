"""How much a client takes, and how long it waits."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what gateway and CDN can make a client do.

    `package_bytes`: no larger file is installed, and no larger download begun. Opening a full
    package takes little memory; applying a patch takes up to seven times the file.
    `answer_bytes`: of the body of a check's answer.
    `silence_seconds`: a connection on which nothing comes for so long is given up.
    `request_seconds`: so is a request that takes longer, whatever comes; and all tries of one URL
    for one download, which may take as much longer as it does at `slowest_bytes_a_second`.
    `tries`: how often one URL is asked for one download, as long as each try brings something;
    `idle_tries`: how many that bring nothing, with `pause_seconds` before the next.
    """

    package_bytes: int = 512 * MIB
    answer_bytes: int = 8 * MIB
    silence_seconds: float = 10.0
    request_seconds: float = 30.0
    slowest_bytes_a_second: int = 1024
    tries: int = 30
    idle_tries: int = 2
    pause_seconds: float = 0.5
