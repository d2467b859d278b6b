"""`tidegate capacity`: what a release day takes; the work is loadtest/capacity's."""

import typer

from compiler.commands import loadtest

TYPER = loadtest.TYPER
"""All arguments are passed on, `--help` too."""


def capacity(context: typer.Context) -> None:
    """Compute gateways, cores, Redis and bandwidth of a release day from `make bench`'s figures."""
    loadtest.become("loadtest.capacity", context.args)
