"""One hierarchy for the whole session, and honest objects made below it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pki import oids
from pki.path import Trust
from tests.support.pki_factory import CONTENT, Credential, PkiFactory, rsa_key


@pytest.fixture(scope="session")
def pki() -> PkiFactory:
    return PkiFactory()


@pytest.fixture(scope="session")
def trust(pki: PkiFactory) -> Trust:
    return pki.trust()


@pytest.fixture(scope="session")
def merchant(pki: PkiFactory) -> Credential:
    return pki.merchant()


@pytest.fixture(scope="session")
def rsa_merchant(pki: PkiFactory) -> Credential:
    return pki.merchant("M-RSA", key=rsa_key(1))


@pytest.fixture(scope="session")
def gateway(pki: PkiFactory) -> Credential:
    """Encryption certificate of a gateway, RSA."""
    return pki.gateway_encryption()


@pytest.fixture(scope="session")
def invoice(merchant: Credential) -> bytes:
    """An honest SignedData by a P-256 merchant."""
    return merchant.sign(oids.CT_INVOICE, CONTENT)


@pytest.fixture(scope="session")
def rsa_invoice(rsa_merchant: Credential) -> bytes:
    """An honest SignedData by an RSA merchant."""
    return rsa_merchant.sign(oids.CT_INVOICE, CONTENT)


@pytest.fixture
def world(pki: PkiFactory, tmp_path: Path) -> Path:
    """A directory with `root.pem`, `cas.pem` and `crls.pem` for the judges."""
    pki.write(tmp_path)
    return tmp_path
