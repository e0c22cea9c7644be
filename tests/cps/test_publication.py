"""Publishing a version: one that holds, and twins with one thing wrong each."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from cli.statement import annex
from cps.decide import Status
from cps.errors import StatementError
from cps.model import Pack
from cps.packs import published, published_texts
from cps.publication import (
    MAX_STATEMENTS,
    Candidate,
    Publication,
    PublicationVerdict,
    build_publication,
    decide_publication,
    parse_publication,
)
from cps.rules import Rule
from pki.crl import CrlSet
from pki.extensions import RoleGrant
from pki.path import Trust
from tests.support.cps_cases import DAY, MINUTE, Office
from tests.support.pki_factory import NOW, PkiFactory
from tests.support.publications import HOUR, Press

YEARS = 3000 * DAY
"""After which every certificate here has long ended."""
A = Publication("kwbp-cps", "1.1.0", b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, NOW + HOUR, NOW)


@pytest.fixture(scope="module")
def press(office: Office) -> Press:
    return Press(office)


def judge(made: Candidate, trust: Trust, now: datetime = NOW, predecessor: Pack | None = None) -> PublicationVerdict:
    return decide_publication(made, predecessor or published(), trust=trust, now=now)


def codes(verdict: PublicationVerdict) -> list[tuple[Rule, str]]:
    return [(finding.code, finding.clause) for finding in verdict.findings]


# What is signed


def test_a_publication_is_read_as_it_was_written() -> None:
    assert parse_publication(build_publication(A)) == A


@pytest.mark.parametrize("changes", [{"pack_id": ""}, {"pack_version": "1" * 21}, {"supersedes": b"\x01" * 31}])
def test_sizes_are_fixed(changes: dict[str, Any]) -> None:
    with pytest.raises(StatementError, match="longer or shorter"):
        build_publication(replace(A, **changes))


def test_a_time_without_a_zone_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="aware and whole seconds"):
        build_publication(replace(A, date=NOW.replace(tzinfo=None)))


def test_another_structure_or_version_is_refused() -> None:
    with pytest.raises(StatementError, match="not a PackPublicationTBS in DER"):
        parse_publication(b"\x30\x00")
    der = build_publication(A)
    with pytest.raises(StatementError, match="of version 2, not 1"):
        parse_publication(der.replace(b"\x02\x01\x01", b"\x02\x01\x02", 1))


# What holds


def test_two_security_officers_and_a_time_stamp_publish(press: Press, trust: Trust) -> None:
    verdict = judge(press.published(), trust)
    assert verdict.approved
    assert (verdict.missing, verdict.stamped_at, verdict.findings) == (0, NOW, ())
    assert [given.person for given in verdict.approvals] == ["officer-5", "officer-6"]


def test_it_is_believed_years_later_when_the_certificates_have_ended(press: Press, office: Office) -> None:
    assert judge(press.published(), office.pki.trust(NOW + YEARS), NOW + YEARS).approved


def test_one_who_is_revoked_afterwards_had_signed_well() -> None:
    here = Office(PkiFactory())
    made = Press(here).published()
    here.pki.revoke(here.security, at=NOW + MINUTE)
    assert judge(made, here.pki.trust(NOW + DAY), NOW + DAY).approved


def test_who_accepted_it_before_asks_no_list_again() -> None:
    """Neither that of the officers nor that of the time-stamp authority; signatures and chains it verifies as ever."""
    here = Office(PkiFactory())
    press = Press(here)
    made, pack = press.published(), press.founding
    here.pki.revoke(here.security, at=NOW - MINUTE)
    here.pki.revoke(press.tsa, at=NOW - MINUTE)
    for trust in (here.pki.trust(), replace(here.pki.trust(), crls=CrlSet())):
        assert not decide_publication(made, pack, trust=trust, now=NOW).approved
        assert decide_publication(made, pack, trust=trust, now=NOW, lists=False).approved
    few = press.published(None, here.security)
    strange = Press(Office(PkiFactory())).published()
    for other in (few, strange, replace(made, stamp=None), replace(made, stamp=few.stamp)):
        assert not decide_publication(other, pack, trust=here.pki.trust(), now=NOW, lists=False).approved


def test_a_signature_too_many_takes_nothing_away(press: Press, office: Office, trust: Trust) -> None:
    verdict = judge(press.published(None, office.security, office.vetter, office.security_2), trust)
    assert verdict.approved
    assert codes(verdict) == [(Rule.PUB_ROLE, "CPS 1.5.4")]


# What is missing yet


def test_one_signer_is_not_enough_and_the_same_twice_is_one(press: Press, office: Office, trust: Trust) -> None:
    verdict = judge(press.published(None, office.security), trust)
    assert (verdict.status, verdict.missing) == (Status.PENDING, 1)
    verdict = judge(press.published(None, office.security, office.security), trust)
    assert (verdict.status, codes(verdict)) == (Status.PENDING, [(Rule.SOD_PERSON, "CPS 5.2.2")])


def test_signatures_without_a_time_stamp_are_pending(press: Press, trust: Trust) -> None:
    verdict = judge(replace(press.published(), stamp=None), trust)
    assert (verdict.status, verdict.missing, verdict.stamped_at) == (Status.PENDING, 0, None)


def test_how_many_sign_and_in_which_role_the_version_before_says(press: Press, office: Office, trust: Trust) -> None:
    step = "steps: [{name: publish, by: security_officer, count: 2, expires: P7D}]"
    three = press.pack(changes={step: "steps: [{name: publish, by: [auditor, security_officer], count: 3}]"})
    after = press.pack("1.2.0", after=2 * HOUR)
    verdict = judge(press.published(after, predecessor=three), trust, predecessor=three)
    assert (verdict.status, verdict.missing) == (Status.PENDING, 1)
    auditor = office.officer("officer-7", "auditor")
    made = press.published(after, office.security, office.security_2, auditor, predecessor=three)
    assert judge(made, trust, predecessor=three).approved
    assert judge(press.published(three), trust).approved, "its own publication is by the rules of the version before"


# Hostile twins: signers


def test_a_person_without_the_role_publishes_nothing(press: Press, office: Office, trust: Trust) -> None:
    verdict = judge(press.published(None, office.security, office.vetter), trust)
    assert (verdict.status, codes(verdict)) == (Status.PENDING, [(Rule.PUB_ROLE, "CPS 1.5.4")])


def test_a_role_for_a_time_publishes_nothing(press: Press, office: Office, trust: Trust) -> None:
    grant = RoleGrant("security_officer", None, NOW - DAY, NOW + DAY)
    deputy = office.officer("officer-8", "vetting_officer", grants=(grant,))
    verdict = judge(press.published(None, office.security, deputy), trust)
    assert (verdict.status, codes(verdict)) == (Status.PENDING, [(Rule.PUB_ROLE, "CPS 1.5.4")])


def test_exclusive_roles_publish_nothing(press: Press, office: Office, trust: Trust) -> None:
    both = office.officer("officer-9", "security_officer", "ca_operator")
    verdict = judge(press.published(None, office.security, both), trust)
    assert (verdict.status, codes(verdict)) == (Status.PENDING, [(Rule.SOD_EXCLUSIVE, "CPS 5.2.4")])


@pytest.mark.parametrize("at", [NOW - 10 * HOUR, NOW])
def test_one_who_was_revoked_before_the_stamp_published_nothing(at: datetime) -> None:
    """Though the statement says that it was signed before: for that there is the signer's word alone."""
    here = Office(PkiFactory())
    made = Press(here).published(date=NOW - 20 * HOUR)
    here.pki.revoke(here.security, at=at)
    for now in (NOW, NOW + DAY, NOW + YEARS):
        verdict = judge(made, here.pki.trust(now), now)
        assert (verdict.status, codes(verdict)) == (Status.PENDING, [(Rule.DEC_CREDENTIAL, "CPS 5.2.3")])


def test_a_certificate_that_had_ended_by_the_stamp_published_nothing(press: Press, office: Office) -> None:
    late = NOW + 1000 * DAY
    made = press.published(press.pack(after=YEARS), stamped_at=NOW)
    made = replace(made, stamp=press.token(made.stamped, at=late))
    verdict = judge(made, office.pki.trust(late), late)
    assert not verdict.approved
    assert not verdict.approvals


def test_other_statements_are_none(press: Press, office: Office, trust: Trust) -> None:
    made = press.candidate()
    others = (office.denial(b"\x01" * 32, office.security), b"no")
    verdict = judge(replace(made, statements=others), trust)
    assert codes(verdict) == [(Rule.PUB_STATEMENT, "CPS 1.5.4")] * 2


def test_somebody_elses_officers_publish_nothing(press: Press, trust: Trust) -> None:
    elsewhere = Office(PkiFactory())
    made = press.published(None, elsewhere.security, elsewhere.security_2)
    verdict = judge(made, trust)
    assert (verdict.approvals, codes(verdict)) == ((), [(Rule.PUB_STATEMENT, "CPS 1.5.4")] * 2)


def test_statements_without_end_are_not_read(press: Press, trust: Trust) -> None:
    made = replace(press.candidate(), statements=(b"no",) * (MAX_STATEMENTS + 2))
    assert len(judge(made, trust).findings) == MAX_STATEMENTS + 1


# Hostile twins: what was signed


@pytest.mark.parametrize(
    "changes",
    [
        {"pack_id": "other-cps"},
        {"pack_version": "1.1.1"},
        {"pack_digest": b"\x01" * 32},
        {"texts_digest": b"\x01" * 32},
        {"supersedes": b"\x01" * 32},
        {"effective": NOW + 2 * HOUR},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_statement_about_something_else_counts_for_nothing(
    press: Press, trust: Trust, changes: dict[str, Any]
) -> None:
    verdict = judge(press.published(**changes), trust)
    assert (verdict.status, verdict.approvals) == (Status.PENDING, ())
    assert codes(verdict) == [(Rule.PUB_STATEMENT, "CPS 1.5.4")] * 2
    assert next(iter(changes)) in str(verdict.findings[0])


def test_texts_that_changed_after_signing_were_not_published(press: Press, trust: Trust) -> None:
    verdict = judge(replace(press.published(), texts=published_texts()), trust)
    assert (verdict.status, codes(verdict)) == (Status.PENDING, [(Rule.PUB_STATEMENT, "CPS 1.5.4")] * 2)


def test_rules_that_changed_after_signing_were_not_published(press: Press, trust: Trust) -> None:
    other = press.pack(changes={"retention_years: 7": "retention_years: 8"})
    verdict = judge(replace(press.published(), pack=other), trust)
    assert (verdict.status, codes(verdict)) == (Status.PENDING, [(Rule.PUB_STATEMENT, "CPS 1.5.4")] * 2)


def test_a_statement_of_tomorrow_or_signed_at_another_time_does_not_count(press: Press, trust: Trust) -> None:
    assert codes(judge(press.published(date=NOW + DAY), trust)) == [(Rule.DEC_TIME, "CPS 4.2.2")] * 2
    moved = press.published(date=NOW - DAY, signing_time=NOW)
    assert codes(judge(moved, trust)) == [(Rule.DEC_TIME, "CPS 4.2.2")] * 2


def test_a_statement_lapses_before_it_is_stamped(press: Press, office: Office) -> None:
    late = NOW + 7 * DAY
    trust, pack = office.pki.trust(late), press.pack(after=30 * DAY)
    assert judge(press.published(pack, stamped_at=late - MINUTE), trust, late).approved
    assert codes(judge(press.published(pack, stamped_at=late), trust, late)) == [(Rule.DEC_EXPIRED, "CPS 4.2.2")] * 2


def test_a_step_without_an_end_lets_signatures_wait(press: Press, office: Office) -> None:
    late, waiting = NOW + 8 * DAY, press.pack(changes={"count: 2, expires: P7D}]": "count: 2}]"})
    made = press.published(press.pack("1.2.0", after=30 * DAY), predecessor=waiting, stamped_at=late)
    assert judge(made, office.pki.trust(late), late, predecessor=waiting).approved


# Hostile twins: the time-stamp


def refused(verdict: PublicationVerdict) -> list[Rule]:
    assert verdict.status is Status.REFUSED
    return [finding.code for finding in verdict.findings]


def test_a_stamp_over_other_bytes_proves_nothing(press: Press, trust: Trust) -> None:
    made = press.published()
    assert refused(judge(replace(made, stamp=press.token(b"other")), trust)) == [Rule.PUB_STAMP]
    assert refused(judge(replace(made, stamp=b"no"), trust)) == [Rule.PUB_STAMP]
    fewer = replace(made, statements=made.statements[:1])
    assert refused(judge(fewer, trust)) == [Rule.PUB_STAMP]


def test_a_stamp_by_somebody_else_proves_nothing(press: Press, office: Office, trust: Trust) -> None:
    made = press.published()
    foreign = Press(Office(PkiFactory()))
    assert refused(judge(replace(made, stamp=foreign.token(made.stamped)), trust)) == [Rule.PUB_STAMP]
    assert refused(judge(replace(made, stamp=press.token(made.stamped, by=office.security)), trust)) == [Rule.PUB_STAMP]


def test_a_stamp_of_an_authority_that_was_revoked_before_proves_nothing() -> None:
    here = Office(PkiFactory())
    press = Press(here)
    made = press.published(press.pack(after=2 * DAY))
    here.pki.revoke(press.tsa, at=NOW - MINUTE)
    assert refused(judge(made, here.pki.trust(NOW + DAY), NOW + DAY)) == [Rule.PUB_STAMP]


def test_a_stamp_from_the_future_proves_nothing(press: Press, trust: Trust) -> None:
    made = press.published(stamped_at=NOW + 30 * MINUTE)
    assert refused(judge(made, trust)) == [Rule.PUB_STAMP]
    assert judge(made, trust, NOW + 30 * MINUTE).approved


# Hostile twins: the version


def test_no_version_is_published_for_the_past(press: Press, trust: Trust) -> None:
    made = press.published(stamped_at=NOW + HOUR)
    assert judge(made, trust, NOW + HOUR).approved, "at this very moment is not the past"
    made = press.published(stamped_at=NOW + HOUR + timedelta(seconds=1))
    assert refused(judge(made, trust, NOW + 2 * HOUR)) == [Rule.PUB_EFFECTIVE]


def test_a_version_that_was_in_force_before_its_stamp_is_refused_for_ever(press: Press, trust: Trust) -> None:
    made = press.published(press.pack(after=-DAY), stamped_at=NOW)
    assert refused(judge(made, trust)) == [Rule.PUB_EFFECTIVE]


@pytest.mark.parametrize("version", ["1.0.0", "0.9.9"])
def test_a_version_is_greater_than_the_one_before(press: Press, trust: Trust, version: str) -> None:
    assert refused(judge(press.published(press.pack(version)), trust)) == [Rule.PUB_ORDER]


def test_a_wrong_predecessor_is_refused(press: Press, trust: Trust) -> None:
    """Its signers named the founding version, but another was published since."""
    second = press.pack("1.1.0")
    made = press.published(press.pack("1.2.0", after=2 * HOUR))
    verdict = judge(made, trust, predecessor=second)
    assert (verdict.status, codes(verdict)) == (Status.PENDING, [(Rule.PUB_STATEMENT, "CPS 1.5.4")] * 2)


def test_a_document_that_is_not_complete_is_not_published(press: Press, trust: Trust) -> None:
    made = press.published(texts=published_texts())
    whole = decide_publication(made, published(), trust=trust, now=NOW, annex=annex())
    assert whole.approved, [str(each) for each in whole.findings]
    silent = replace(made, texts=replace(made.texts, passages={}))
    verdict = decide_publication(silent, published(), trust=trust, now=NOW, annex=annex())
    assert Rule.PUB_DOCUMENT in refused(verdict)
