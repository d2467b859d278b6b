"""How a process that was started here is ended: it is asked to, and after a while made to."""

import signal
import subprocess


def end_child(
    process: "subprocess.Popen[bytes] | None", seconds: float, asked: int = signal.SIGTERM
) -> None:
    """Send a process a signal, if there is one that runs; kill it if it still does after that."""
    if process is None:
        return
    process.send_signal(asked)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
