"""The office that the CPS tests work in: one PKI a session, since nothing in it changes."""

from __future__ import annotations

import pytest

from pki.path import Trust
from tests.support.cps_cases import Office


@pytest.fixture(scope="session")
def office() -> Office:
    return Office()


@pytest.fixture(scope="session")
def trust(office: Office) -> Trust:
    """Root, CAs and CRLs with nothing revoked."""
    return office.pki.trust()
