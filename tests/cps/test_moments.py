"""Times at the ends of the calendar: a case that states one is judged, and breaks nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cps.decide import Status, decide
from cps.moments import LAST, after
from cps.rules import Rule
from pki.path import Trust
from tests.cps.test_rekey import certified, codes, proof, rekeyed
from tests.support.cps_cases import DAY, MINUTE, Office, evidence
from tests.support.pki_factory import NOW

FIRST = datetime(1, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("moment", "span", "expected"),
    [(NOW, DAY, NOW + DAY), (LAST - DAY, DAY, LAST), (LAST - DAY, DAY + SECOND, LAST), (LAST, SECOND, LAST)],
)
def test_what_comes_after_a_time_is_a_time(moment: datetime, span: timedelta, expected: datetime) -> None:
    assert after(moment, span) == expected


@pytest.mark.parametrize("at", [FIRST, LAST])
def test_a_document_of_any_time_is_judged(office: Office, trust: Trust, at: datetime) -> None:
    case = office.merchant_case()
    pieces = (*(each for each in case.evidence if each.kind != "acquirer_agreement"),)
    case = case.model_copy(update={"evidence": (*pieces, evidence("acquirer_agreement", at=at))})
    verdict = decide(case, office.pack, trust=trust, now=NOW)
    assert verdict.status is Status.PENDING
    assert Rule.EVID_AGE in codes(verdict)


@pytest.mark.parametrize(("at", "rule"), [(FIRST, Rule.DEC_EXPIRED), (LAST - SECOND, Rule.DEC_TIME)])
def test_a_decision_of_any_time_is_judged(office: Office, trust: Trust, at: datetime, rule: Rule) -> None:
    case = office.merchant_case()
    case = office.decided(case, "vet", office.vetter, date=at, expires=LAST, signing_time=NOW - MINUTE)
    verdict = decide(case, office.pack, trust=trust, now=NOW)
    assert (verdict.approvals, rule in codes(verdict)) == ((), True)


@pytest.mark.parametrize("at", [FIRST, LAST])
def test_a_chain_of_any_time_is_judged(office: Office, trust: Trust, at: datetime) -> None:
    old = certified(office, checked_at=at)
    verdict = decide(rekeyed(office, old, proof(old)), office.pack, trust=trust, now=NOW)
    assert (Rule.REKEY_AGE in codes(verdict)) == (at == FIRST)
