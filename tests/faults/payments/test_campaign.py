"""Purchases while everything breaks: afterwards one debit or none for each, and all books tell the same.

A run of this suite has every kind of fault in it. Another seed: `KWBP_FAULT_SEED=7 pytest tests/faults/payments`;
thousands of purchases, PostgreSQL, two gateways: `scripts/faults`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.payments.campaign import Size, run
from tests.faults.payments.system import POSTGRESQL

SEED = int(os.environ.get("KWBP_FAULT_SEED", "20260321"))
SIZES = {
    "SQLite": Size(purchases=130, events=28),
    "two gateways on PostgreSQL": Size(purchases=50, events=16, database=POSTGRESQL, gateways=2),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_every_order_is_debited_once_or_not_at_all_and_all_books_agree(size: Size, tmp_path: Path) -> None:
    print(f"KWBP_FAULT_SEED={SEED}")
    tmp_path.chmod(0o711)  # PostgreSQL runs as a user of its own
    outcome = run(tmp_path / "run", size, seed=SEED)
    assert outcome.findings == [], outcome.report()
    assert outcome.counted["ACKED"] >= size.purchases // 5, outcome.report()  # else nothing was shown
    assert outcome.counted["REVERSED"] > 0
