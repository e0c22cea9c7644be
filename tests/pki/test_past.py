"""Whether a path held at a proven moment, judged by lists of later."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509

from pki.crl import CrlSet
from pki.crl_entries import Revocation
from pki.errors import PathError
from pki.past import since, validate_path_at
from pki.path import Trust
from pki.roles import Role
from tests.support.pki_factory import DAY, NOW, Credential, PkiFactory

HOUR = timedelta(hours=1)
LATER = NOW + 3000 * DAY
"""Long after every certificate has ended."""


def judge(pki: PkiFactory, credential: Credential, trust: Trust, at: datetime = NOW) -> x509.Certificate:
    return validate_path_at(credential.certificate, (), trust=trust, at=at, roles=[Role.OFFICER]).leaf


def refusal(pki: PkiFactory, credential: Credential, trust: Trust, at: datetime = NOW) -> str:
    with pytest.raises(PathError) as refused:
        judge(pki, credential, trust, at)
    return refused.value.reason


def test_what_held_then_holds_for_ever() -> None:
    pki = PkiFactory()
    officer = pki.officer("officer-1")
    assert judge(pki, officer, pki.trust()) == officer.certificate
    assert judge(pki, officer, pki.trust(LATER)) == officer.certificate


def test_who_is_revoked_afterwards_had_signed_well_and_who_was_revoked_before_had_not() -> None:
    pki = PkiFactory()
    officer = pki.officer("officer-1")
    pki.revoke(officer, at=NOW + HOUR)
    trust = pki.trust(NOW + DAY)
    assert judge(pki, officer, trust) == officer.certificate
    assert refusal(pki, officer, trust, NOW + HOUR) == "revoked"
    assert refusal(pki, officer, trust, NOW + 2 * HOUR) == "revoked"


def test_an_authority_that_was_revoked_before_takes_all_below_it_along() -> None:
    pki = PkiFactory()
    officer = pki.officer("officer-1")
    pki.revoke(pki.operations_ca.credential, at=NOW - HOUR)
    assert refusal(pki, officer, pki.trust(LATER)) == "revoked"


def test_a_certificate_is_judged_at_the_moment_not_today() -> None:
    pki = PkiFactory()
    officer = pki.officer("officer-1")
    assert refusal(pki, officer, pki.trust(LATER), LATER) == "expired"
    merchant = pki.merchant()
    assert refusal(pki, merchant, pki.trust()) == "wrong_role"


def test_a_list_from_before_the_moment_proves_nothing() -> None:
    pki = PkiFactory()
    officer = pki.officer("officer-1")
    assert refusal(pki, officer, pki.trust(NOW - 2 * DAY)) == "crl_expired"
    assert refusal(pki, officer, replace(pki.trust(), crls=CrlSet())) == "crl_missing"


def test_a_key_is_doubted_from_the_earlier_of_the_two_dates() -> None:
    assert since(Revocation(NOW)) == NOW
    assert since(Revocation(NOW, invalidity_date=NOW - DAY)) == NOW - DAY
    assert since(Revocation(NOW, invalidity_date=NOW + DAY)) == NOW
