"""The reference client: what a phone does, from the check to the installed file.

It knows of Tidegate only what goes over the wire, so it imports nothing of the gateway or the
compiler. README.md is for those who write a client of their own.
"""

from loadtest.client.fault import UnusableError
from loadtest.client.limits import Limits
from loadtest.client.result import Outcome, Result
from loadtest.client.shelf import Installed
from loadtest.client.trust import Trust, read_identities, read_keys
from loadtest.client.update import Client

__all__ = [
    "Client",
    "Installed",
    "Limits",
    "Outcome",
    "Result",
    "Trust",
    "UnusableError",
    "read_identities",
    "read_keys",
]
