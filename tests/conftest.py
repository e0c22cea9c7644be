"""What a test process leaves behind: nothing."""

from __future__ import annotations

import sys

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the PostgreSQL of this process, if any of its tests asked for one."""
    used = sys.modules.get("tests.support.databases")
    if used is not None:
        used.stop_cluster()
