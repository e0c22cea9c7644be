"""An honest purchase goes through, and each party holds what it needs."""

from __future__ import annotations

from tests.kwbp.world import PAN, TOTAL, Purchase


def test_honest_purchase_ends_paid(purchase: Purchase) -> None:
    assert purchase.checked_receipt.paid
    assert purchase.answer.approved
    assert purchase.card.pan.reveal() == PAN
    assert purchase.auth_req.body.amount.amount == TOTAL
