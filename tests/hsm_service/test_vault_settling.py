"""After the authorisation (rows 19 to 23): a merchant's key asks for its own merchant, the gateway's answers for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hsm_service.vault import Vault
from kwbp.codes import AuthCode, EntryKind
from kwbp.common import read_signed, verify_signature
from kwbp.fields import VERSION, to_time
from kwbp.money import Money
from kwbp.settling import (
    ANSWERS,
    AdviceLine,
    CredReqTBS,
    SettleAdviceTBS,
    SettlingResTBS,
)
from pki import der
from pki.oids import CT_CRED_REQ, CT_CRED_RES, CT_SETTLE_ADVICE
from tests.support.pki_factory import IBAN, NOW
from tests.support.signing_site import GATEWAY, SHOP, refusal

COMMON: dict[str, Any] = {
    "version": VERSION,
    "rrpid": bytes(20),
    "merchant_id": "M-1",
    "gw_id": "GW-1",
    "date": to_time(NOW),
}
CREDIT = CredReqTBS(xid=bytes(20), h_answer=bytes(32), amount=Money.rial(1000), **COMMON)
APPROVAL = SettlingResTBS(
    xid=bytes(20), h_request=bytes(32), amount=Money.rial(1000), auth_code=AuthCode.APPROVED, rc="00", stan="000001",
    rrn="608012000001", approval=None, settle_date=None, acquirer_id="603799", **COMMON,
)  # fmt: skip
LINE = AdviceLine(kind=EntryKind.SALE, xid=bytes(20), h_answer=bytes(32), amount=1000, fee=10)
ADVICE = SettleAdviceTBS(
    business_date="20260320", part=1, parts=1, lines=[LINE], net=990, iban=IBAN, acquirer_id="603799", **COMMON
)


@pytest.mark.parametrize("key", ["shop", "shop-ec"])
def test_a_merchants_key_asks_for_its_own_merchant(vault: Vault, key: str) -> None:
    signed = vault.sign_cms(SHOP, key, CT_CRED_REQ.dotted_string, der.encode(CREDIT)).signed
    received = read_signed(CredReqTBS, CT_CRED_REQ, signed)
    verify_signature(received)
    assert received.body.amount == Money.rial(1000)
    other = der.encode(replace(CREDIT, merchant_id="M-2"))
    refusal(lambda: vault.sign_cms(SHOP, key, CT_CRED_REQ.dotted_string, other), 422, "content-refused")
    nothing = der.encode(replace(CREDIT, amount=Money.rial(0)))
    refusal(lambda: vault.sign_cms(SHOP, key, CT_CRED_REQ.dotted_string, nothing), 422, "content-refused")


@pytest.mark.parametrize("content_type", ANSWERS.values())
def test_the_gateways_key_approves_nothing_without_references(vault: Vault, content_type: Any) -> None:
    oid = content_type.dotted_string
    signed = vault.sign_cms(GATEWAY, "gateway-signing", oid, der.encode(APPROVAL)).signed
    verify_signature(read_signed(SettlingResTBS, content_type, signed))
    for wrong in (
        replace(APPROVAL, rrn=None),
        replace(APPROVAL, gw_id="GW-2"),
        replace(APPROVAL, acquirer_id="622106"),
    ):
        content = der.encode(wrong)
        refusal(
            lambda content=content: vault.sign_cms(GATEWAY, "gateway-signing", oid, content), 422, "content-refused"
        )


def test_the_gateways_key_advises_what_adds_up(vault: Vault) -> None:
    oid = CT_SETTLE_ADVICE.dotted_string
    signed = vault.sign_cms(GATEWAY, "gateway-signing", oid, der.encode(ADVICE)).signed
    verify_signature(read_signed(SettleAdviceTBS, CT_SETTLE_ADVICE, signed))
    more = der.encode(replace(ADVICE, net=1000))
    refusal(lambda: vault.sign_cms(GATEWAY, "gateway-signing", oid, more), 422, "content-refused")


def test_neither_speaks_for_the_other(vault: Vault) -> None:
    ask, answer = der.encode(CREDIT), der.encode(APPROVAL)
    for caller, key, content_type, content in (
        (SHOP, "shop-ec", CT_CRED_RES, answer),
        (GATEWAY, "gateway-signing", CT_CRED_REQ, ask),
        (SHOP, "shop-ec", CT_SETTLE_ADVICE, der.encode(ADVICE)),
    ):
        oid = content_type.dotted_string
        refusal(
            lambda caller=caller, key=key, oid=oid, content=content: vault.sign_cms(caller, key, oid, content),
            403,
            "content-type-not-allowed",
        )
