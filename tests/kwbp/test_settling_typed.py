"""Typed signing of rows 19 to 23: what a merchant's and a gateway's key may say of money."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509

from kwbp.codes import AuthCode, BatchOperation, ErrorCode
from kwbp.settling import ANSWERS, REQUESTS, Batches, totals_of
from kwbp.settling.typed import TYPED
from kwbp.validators import VALIDATORS
from pki import der
from pki.oids import (
    CT_BATCH_ADMIN_REQ,
    CT_BATCH_ADMIN_RES,
    CT_CAP_RES,
    CT_SETTLE_ADVICE,
    NAMES,
)
from tests.kwbp.forge import changed, refused
from tests.kwbp.settling import SECOND, Settling
from tests.support.pki_factory import NOW

MERCHANTS = [*REQUESTS, CT_BATCH_ADMIN_REQ]
GATEWAYS = [*ANSWERS.values(), CT_BATCH_ADMIN_RES, CT_SETTLE_ADVICE]


@cache
def bodies(settling: Settling) -> dict[x509.ObjectIdentifier, Any]:
    """What an honest merchant and an honest gateway sign."""
    made = settling.everything()
    return {draft.content_type: draft.body for draft in made}


def judge(settling: Settling, content_type: x509.ObjectIdentifier, signer: Any, **changes: Any) -> None:
    content = der.encode(changed(bodies(settling)[content_type], changes))
    VALIDATORS[content_type](content, signer.certificate)


def test_every_content_type_of_these_rows_is_judged(settling: Settling) -> None:
    assert set(TYPED) == set(MERCHANTS + GATEWAYS) == set(bodies(settling))


@pytest.mark.parametrize("content_type", MERCHANTS, ids=NAMES.get)
def test_a_merchants_key_asks_for_its_own_merchant(settling: Settling, content_type: x509.ObjectIdentifier) -> None:
    world = settling.world
    judge(settling, content_type, world.shop)
    for signer, changes in (
        (world.other_shop, {}),
        (world.shop, {"merchant_id": "M-2"}),
        (world.gateway_signing, {}),
        (world.buyer, {}),
    ):
        with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
            judge(settling, content_type, signer, **changes)


@pytest.mark.parametrize("content_type", GATEWAYS, ids=NAMES.get)
def test_a_gateways_key_answers_for_its_own_gateway(settling: Settling, content_type: x509.ObjectIdentifier) -> None:
    world = settling.world
    judge(settling, content_type, world.gateway_signing)
    for signer, changes in (
        (world.other_gateway_signing, {}),
        (world.gateway_signing, {"gw_id": "GW-2"}),
        (world.gateway_signing, {"acquirer_id": "622106"}),
        (world.shop, {}),
    ):
        with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
            judge(settling, content_type, signer, **changes)


@pytest.mark.parametrize("content_type", ANSWERS.values(), ids=NAMES.get)
@pytest.mark.parametrize(
    "changes", [{"rc": None}, {"stan": None}, {"rrn": None}, {"auth_code": AuthCode.PI_PREVIOUSLY_USED}], ids=str
)
def test_no_approval_without_references(
    settling: Settling, content_type: x509.ObjectIdentifier, changes: dict[str, Any]
) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        judge(settling, content_type, settling.world.gateway_signing, **changes)


def test_silence_has_no_references(settling: Settling) -> None:
    silent = {"auth_code": AuthCode.NO_REPLY, "rc": None, "stan": None, "rrn": None}
    judge(settling, CT_CAP_RES, settling.world.gateway_signing, **silent)


def test_totals_add_up_or_are_not_signed(settling: Settling) -> None:
    totals = bodies(settling)[CT_BATCH_ADMIN_REQ].totals
    wrong = replace(totals, net=totals.net + 1)
    for content_type, signer in (
        (CT_BATCH_ADMIN_REQ, settling.world.shop),
        (CT_BATCH_ADMIN_RES, settling.world.gateway_signing),
    ):
        with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
            judge(settling, content_type, signer, totals=wrong)


def test_a_batch_does_not_end_in_the_future_nor_before_it_began(settling: Settling) -> None:
    world = settling.world
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        judge(settling, CT_BATCH_ADMIN_REQ, world.shop, until=NOW + SECOND)
    for changes in ({"until": NOW + SECOND}, {"begins": NOW + SECOND}):
        with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
            judge(settling, CT_BATCH_ADMIN_RES, world.gateway_signing, **changes)
    judge(settling, CT_BATCH_ADMIN_RES, world.gateway_signing, begins=NOW - timedelta(days=1))


def test_a_request_that_closes_nothing_has_no_totals(settling: Settling) -> None:
    draft = settling.batch_request(BatchOperation.STATUS)
    VALIDATORS[CT_BATCH_ADMIN_REQ](draft.content, settling.world.shop.certificate)


@pytest.mark.parametrize("off", [-1, 1])
def test_an_advice_pays_the_sum_of_its_lines(settling: Settling, off: int) -> None:
    net = bodies(settling)[CT_SETTLE_ADVICE].net
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "S1"):
        judge(settling, CT_SETTLE_ADVICE, settling.world.gateway_signing, net=net + off)


def test_an_empty_batch_has_totals_too(settling: Settling) -> None:
    checked = settling.check_batch(
        settling.batch_message(settling.batch_request(BatchOperation.OPEN)), Batches("M-1"), entries=()
    )
    assert settling.batch_answer(checked).body.totals == totals_of(())
