"""The machine that something was measured on, in a sentence."""

import os
import platform
import re
from pathlib import Path

from loadtest import micro


def described() -> str:
    """Say what a figure depends on: processor, cores, system, Python, and the gateway's form."""
    cores = os.cpu_count()
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{_processor()}, {cores} cores, {system}, {micro.form()}"


def _processor() -> str:
    try:
        found = re.search(
            r"^model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()
