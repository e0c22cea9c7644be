"""Past cases under a draft of the statement: what would be decided differently, and by which clause."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cps.decide import Status
from cps.dossier import CpsPin, Dossier
from cps.model import Pack, load_pack
from cps.packs import published
from cps.register import PackRegister
from cps.replay import Replayed, decided_at, replay
from cps.rules import Rule
from tests.support.cps_cases import DAY, MINUTE, Office
from tests.support.pki_factory import NOW, PkiFactory
from tests.support.publications import pack_text

REGISTER = PackRegister((published(),))
LONG_AFTER = NOW + 2000 * DAY


def draft(**changes: str) -> Pack:
    """The published rules with passages replaced, as version 2.0.0."""
    return load_pack(pack_text("2.0.0", effective=LONG_AFTER, changes=changes))


def approved(office: Office) -> Dossier:
    return office.decided(office.decided(office.merchant_case(), "vet", office.vetter), "approve", office.approver)


def replayed(office: Office, dossier: Dossier, pack: Pack) -> Replayed:
    trust = office.pki.trust(LONG_AFTER)
    [found] = replay([dossier], pack, REGISTER, trust=trust, now=LONG_AFTER)
    return found


def test_under_the_same_rules_nothing_is_decided_differently_however_long_ago(office: Office) -> None:
    found = replayed(office, approved(office), draft())
    assert found.was is not None
    assert (found.was.status, found.at, found.version) == (Status.APPROVED, NOW, "1.0.0")
    assert (found.changes, found.gained, found.lost) == (False, (), ())


def test_a_stricter_rule_shows_whom_it_would_have_refused_and_by_which_clause(office: Office) -> None:
    stricter = draft(
        **{"rsa: {min: 3072, e: [65537]}": "rsa: {min: 4096, e: [65537]}", "ec: [P-256, P-384]": "ec: [P-384]"}
    )
    found = replayed(office, approved(office), stricter)
    assert found.becomes is not None
    assert (found.changes, found.becomes.status) == (True, Status.REFUSED)
    assert [each.code for each in found.gained] == [Rule.KEY_SIZE]
    assert found.clauses == ("CPS 6.1.5 KEY-SIZE",)


def test_another_approver_more_is_a_step_that_is_due(office: Office) -> None:
    two = draft(**{"name: approve, by: approving_officer, count: 1": "name: approve, by: approving_officer, count: 2"})
    found = replayed(office, approved(office), two)
    assert found.becomes is not None
    assert found.becomes.next_step is not None
    assert (found.changes, found.becomes.status, found.becomes.next_step.missing) == (True, Status.PENDING, 1)


def test_a_milder_rule_shows_what_it_no_longer_refuses(office: Office) -> None:
    case = office.decided(office.decided(office.merchant_case(), "vet", office.vetter), "approve", office.vetter)
    found = replayed(
        office, case, draft(**{"by: approving_officer, count: 1, not": "by: vetting_officer, count: 1, not"})
    )
    assert [each.code for each in found.lost] == [Rule.DEC_ROLE]
    assert [each.code for each in found.gained] == [Rule.SOD_STEP]
    assert found.changes, "the step that is due is for others"


def test_a_shorter_life_is_a_difference_without_a_refusal(office: Office) -> None:
    found = replayed(office, approved(office), draft(**{"validity: {max: P398D}": "validity: {max: P200D}"}))
    assert (found.changes, found.clauses) == (True, ())


def test_credentials_are_judged_as_of_then() -> None:
    here = Office(PkiFactory())
    case = approved(here)
    here.pki.revoke(here.approver, at=NOW + MINUTE)
    found = replayed(here, case, draft())
    assert found.was is not None
    assert found.was.approved


def test_a_case_that_nobody_decided_is_judged_now(office: Office) -> None:
    case = office.merchant_case()
    assert decided_at(case) is None
    assert decided_at(case.with_decision(b"no")) is None
    assert replayed(office, case, draft()).at == LONG_AFTER


def test_a_case_is_judged_when_its_last_decision_was_signed(office: Office) -> None:
    later = NOW + timedelta(minutes=1)
    case = office.decided(office.merchant_case(), "vet", office.vetter)
    assert decided_at(office.decided(case, "approve", office.approver, date=later)) == later


def test_a_case_of_a_version_that_nobody_knows_is_told_and_not_judged(office: Office) -> None:
    pin = CpsPin.of(office.pack).model_copy(update={"version": "0.9.0"})
    found = replayed(office, office.merchant_case(cps=pin), draft())
    assert (found.version, found.was, found.becomes, found.at, found.changes) == ("0.9.0", None, None, None, False)


@pytest.mark.parametrize("member", ["merchant", "gateway", "officer"])
def test_every_class_is_replayed(office: Office, member: str) -> None:
    case: Dossier = getattr(office, f"{member}_case")()
    found = replayed(office, case, draft())
    assert (found.member_class, found.changes) == (member, False)
