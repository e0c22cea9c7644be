"""The table of honest messages is whole: each is believed by its receiver, and no message of the protocol is absent."""

from __future__ import annotations

import pytest

from kwbp.validators import VALIDATORS
from kwbp.wrapper import KwbpMessage
from pki.der import decode
from pki.oids import CT_CERT_RES, CT_DUAL_SIGNATURE, CT_INVOICE
from tests.kwbp.catalogue import Catalogue

INSIDE = {CT_INVOICE, CT_DUAL_SIGNATURE, CT_CERT_RES}
"""What is signed, and travels inside another message: Invoice, PReq and the sealed CertRes."""
WITHOUT_WRAPPER = {"issuer_form", "bci"}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue()


def test_every_message_is_made_and_believed(catalogue: Catalogue) -> None:
    for exchange in catalogue.exchanges.values():
        exchange.check(exchange.message)


def test_no_message_is_missing(catalogue: Catalogue) -> None:
    wrapped = {name: each for name, each in catalogue.exchanges.items() if name not in WITHOUT_WRAPPER}
    kinds = {decode(KwbpMessage, exchange.message).msg_type for exchange in wrapped.values()}
    assert set(VALIDATORS) - kinds == INSIDE
    assert {exchange.row for exchange in catalogue.exchanges.values()} == set(range(1, 25))
