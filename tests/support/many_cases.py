"""Many approved cases, each of another merchant with another key: for tests that issue by the hundred."""

from __future__ import annotations

from cps.dossier import Dossier
from tests.support.cps_cases import MERCHANT, Office, csr
from tests.support.pki_factory import p256


def merchant_cases(office: Office, count: int, *, start: int = 100) -> list[Dossier]:
    """Approved cases of the merchants M-<start> and following."""
    return [_merchant_case(office, number) for number in range(start, start + count)]


def _merchant_case(office: Office, number: int) -> Dossier:
    subject = MERCHANT.model_copy(update={"merchant_id": f"M-{number}", "name": f"Shop {number}"})
    case = office.merchant_case({"signing": csr(p256())}, subject=subject, application_id=f"case-{number}")
    return office.decided(office.decided(case, "vet", office.vetter), "approve", office.approver)
