"""Builds the hot path compiled where TIDEGATE_COMPILE=1 asks for it; else all stays plain Python.

The sources are the same .py files: Cython compiles them with the types that the .pxd file beside
each one declares. Whoever has no C compiler runs the very same code, and three quarters as many
checks a second.
"""

import os

from setuptools import Extension, setup

HOT = (
    "answer",
    "apps",
    "check",
    "hashing",
    "head",
    "lookup",
    "membership",
    "metrics",
    "ofrep",
    "program",
    "quick",
    "remembered",
    "request",
    "resp",
    "round_trips",
    "sketch",
    "snapshot",
    "switches",
    "waiting",
)


def compiled() -> list[Extension]:
    """Translate the hot path to C; nothing unless asked."""
    if os.environ.get("TIDEGATE_COMPILE") != "1":
        return []
    from Cython.Build import cythonize  # noqa: PLC0415 - only whoever compiles needs it

    modules = [
        Extension(f"gateway.{name}", [f"gateway/{name}.py"], extra_compile_args=["-O2"])
        for name in HOT
    ]
    # Annotations are for mypy: `int` there may be any size, and the .pxd files say what is not.
    # Still, arithmetic on len() and on literals alone is done in C: see layout.all_bits.
    directives = {"annotation_typing": False, "binding": False}
    found: list[Extension] = cythonize(
        modules, build_dir="build/c", language_level=3, compiler_directives=directives
    )
    return found


setup(ext_modules=compiled())
