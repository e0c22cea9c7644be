"""Commands run in one process leave their ways of speaking behind: each test begins as a fresh `kwbp` does."""

from __future__ import annotations

import pytest

from cli import output


@pytest.fixture(autouse=True)
def fresh_output() -> None:
    output.use_json(False)
