"""Many reversals due in one moment: each is done once, and new orders are sold meanwhile.

Hundreds of them: `scripts/faults --storm 300`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.payments import storm
from tests.faults.payments.system import POSTGRESQL, SQLITE

ORDERS = 24
_ENOUGH = 96 * 2**20
"""Bytes by which a gateway may grow: the workflows of reversals are loaded with the first one."""


@pytest.mark.slow
@pytest.mark.parametrize(("database", "gateways"), [(SQLITE, 1), (POSTGRESQL, 2)], ids=["SQLite", "two gateways"])
def test_all_that_is_due_at_once_is_taken_back_once(tmp_path: Path, database: str, gateways: int) -> None:
    tmp_path.chmod(0o711)  # PostgreSQL runs as a user of its own
    figures = storm.run(tmp_path / "run", orders=ORDERS, database=database, gateways=gateways)
    assert figures.findings == [], str(figures)
    assert figures.grown < _ENOUGH, str(figures)
    assert figures.connections < 60 * gateways, str(figures)
