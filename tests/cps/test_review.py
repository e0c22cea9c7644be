"""Review of what one officer ordered alone: by another officer, about this very order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat import asn1

from cps.errors import StatementError
from cps.review import Judgement, Review, ReviewTBS, ReviewVerdict, build_review, decide_review, parse_review
from cps.rules import Rule
from pki.der import encode, sha256
from pki.oids import CT_DECISION, CT_REVIEW
from pki.path import Trust
from tests.support.cps_cases import DAY, MINUTE, Office
from tests.support.pki_factory import NOW, Credential, PkiFactory


@pytest.fixture(scope="module")
def order(office: Office) -> bytes:
    return office.revocation(office.pki.merchant().certificate, office.vetter)


def review(order: bytes, by: Credential, **changes: Any) -> bytes:
    content_type = changes.pop("content_type", CT_REVIEW)
    signing_time = changes.pop("signing_time", NOW)
    fields = {
        "order_sha256": sha256(order),
        "judgement": Judgement.JUSTIFIED,
        "reason": "the key was lost",
        "date": NOW,
    }
    return by.sign(content_type, build_review(Review(**{**fields, **changes})), signing_time=signing_time)


def judge(office: Office, trust: Trust, statement: bytes, order: bytes) -> ReviewVerdict:
    return decide_review(statement, order, office.pack, trust=trust, now=NOW)


@pytest.mark.parametrize("judgement", list(Judgement))
def test_another_officer_reviews(office: Office, trust: Trust, order: bytes, judgement: Judgement) -> None:
    verdict = judge(office, trust, review(order, office.security, judgement=judgement), order)
    assert verdict.counts
    assert verdict.review is not None
    assert (verdict.review.judgement, verdict.person) == (judgement, "officer-5")


def test_the_review_of_an_officer_who_left_since_is_still_one_of_their_order(order: bytes) -> None:
    here = Office(PkiFactory())
    ordered = here.revocation(here.pki.merchant().certificate, here.vetter)
    here.pki.revoke(here.vetter)
    assert judge(here, here.pki.trust(), review(ordered, here.security), ordered).counts


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        pytest.param(lambda office, order: review(order, office.vetter), Rule.SOD_PERSON, id="whoever-ordered"),
        pytest.param(lambda office, order: review(order, office.approver), Rule.REV_ROLE, id="another-role"),
        pytest.param(lambda office, order: review(order, office.ra), Rule.REV_ROLE, id="a-service"),
        pytest.param(lambda office, order: review(order, office.pki.merchant()), Rule.REV_REVIEW, id="a-merchant"),
        pytest.param(lambda office, _order: review(b"another", office.security), Rule.REV_REVIEW, id="another-order"),
        pytest.param(
            lambda office, order: review(order, office.security, content_type=CT_DECISION),
            Rule.REV_REVIEW,
            id="another-statement",
        ),
        pytest.param(
            lambda office, order: review(order, office.security, date=NOW + 3 * MINUTE, signing_time=NOW + 3 * MINUTE),
            Rule.DEC_TIME,
            id="of-the-future",
        ),
        pytest.param(
            lambda office, order: review(order, office.security, date=NOW - DAY), Rule.DEC_TIME, id="back-dated"
        ),
        pytest.param(
            lambda office, order: review(order, office.officer("officer-7", "vetting_officer", "auditor")),
            Rule.SOD_EXCLUSIVE,
            id="exclusive-roles",
        ),
    ],
)
def test_nobody_else_and_nothing_else_is_a_review(
    office: Office, trust: Trust, order: bytes, make: Any, rule: Rule
) -> None:
    assert [each.code for each in judge(office, trust, make(office, order), order).findings] == [rule]


def test_a_revoked_officer_reviews_nothing() -> None:
    here = Office(PkiFactory())
    ordered = here.revocation(here.pki.merchant().certificate, here.vetter)
    here.pki.revoke(here.security)
    verdict = judge(here, here.pki.trust(), review(ordered, here.security), ordered)
    assert [each.code for each in verdict.findings] == [Rule.DEC_CREDENTIAL]


def test_what_no_officer_ordered_is_not_reviewed(office: Office, trust: Trust) -> None:
    verdict = judge(office, trust, review(b"no order", office.security), b"no order")
    assert [each.code for each in verdict.findings] == [Rule.REV_REVIEW]


@pytest.mark.parametrize(
    ("changes", "expected"), [({"version": 2}, "version 2, not 1"), ({"finding": 2}, "justified or unjustified")]
)
def test_what_is_no_review_is_refused(changes: dict[str, Any], expected: str) -> None:
    fields: dict[str, Any] = {
        "version": 1,
        "order_sha256": b"\x01" * 32,
        "finding": 0,
        "reason": "lost",
        "date": asn1.GeneralizedTime(NOW),
    }
    with pytest.raises(StatementError, match=expected):
        parse_review(encode(ReviewTBS(**{**fields, **changes})))
    with pytest.raises(StatementError, match="not a ReviewTBS in DER"):
        parse_review(b"\x30\x00")


def test_a_review_says_why() -> None:
    with pytest.raises(StatementError, match="longer or shorter"):
        build_review(Review(b"\x01" * 32, Judgement.JUSTIFIED, "", NOW))
    with pytest.raises(ValueError, match="whole seconds"):
        build_review(Review(b"\x01" * 32, Judgement.JUSTIFIED, "lost", NOW + timedelta(microseconds=1)))
