"""What befalls a case beside decisions: held and released, sent back, reminded of, judged anew, accepted or not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from cryptography import x509

from cps.model import load_pack
from cps.register import PackRegister
from cps.rules import Rule
from ra import schema
from ra.access import Actor
from ra.errors import (
    ConflictError,
    IdentityNeededError,
    InvalidSubmissionError,
    NotAllowedError,
    RefusedError,
    WrongStateError,
)
from ra.records import Application
from ra.states import Action, State
from ra.submission import Submission
from runtime.problems import Problem
from tests.support.cps_cases import DAY, Office, csr
from tests.support.pki_factory import PkiFactory, p256
from tests.support.ra_world import ANONYMOUS, OPERATOR, RaWorld, merchant_subject, officer

TEXT = Path("cps/packs/kwbp-cps-1.0.0.yaml").read_text()
HOUR = timedelta(hours=1)


@pytest.fixture
def vetter(world: RaWorld) -> Actor:
    return officer(world.office.vetter)


@pytest.fixture
def later(world: RaWorld) -> None:
    """The CRLs are always fresh, however far the clock goes."""
    world.trust_source = lambda: world.office.pki.trust(world.now)


def actions(world: RaWorld, application: Application) -> list[Action]:
    return [each.action for each in world.store.transitions(application.id)]


# Hold, release, return


def test_a_held_case_stands_still_until_it_is_released(world: RaWorld, vetter: Actor) -> None:
    application = world.open_merchant()
    held = world.workflow.hold(vetter, application.id, "asking the acquirer")
    assert (held.state, str(held.trouble), held.step) == (State.ON_HOLD, "asking the acquirer", None)
    with pytest.raises(WrongStateError, match="no decide for an application that is ON_HOLD"):
        world.decide(application.id, "vet", world.office.vetter)
    released = world.workflow.release(vetter, application.id, "the acquirer answered")
    assert (released.state, released.trouble, released.step) == (State.VETTING, None, "vet")
    world.decide(application.id, "vet", world.office.vetter)
    assert world.decide(application.id, "approve", world.office.approver).state is State.ISSUED


@pytest.mark.usefixtures("later")
def test_the_clock_of_deciding_stands_while_a_case_is_held(world: RaWorld, vetter: Actor) -> None:
    application = world.open_merchant()
    assert application.decide_by == world.now + timedelta(days=5)
    world.workflow.hold(vetter, application.id, "asking")
    world.clock.forward(timedelta(days=7))
    assert world.workflow.sweep() == 0
    released = world.workflow.release(vetter, application.id, "answered")
    assert released.decide_by == application.decide_by + timedelta(days=7)
    assert released.due_at == application.due_at


@pytest.mark.usefixtures("later")
def test_a_case_may_expire_while_it_is_held(world: RaWorld, vetter: Actor) -> None:
    application = world.open_merchant()
    world.workflow.hold(vetter, application.id, "asking")
    world.clock.forward(timedelta(days=30))
    world.workflow.sweep()
    assert world.store.application(application.id).state is State.EXPIRED


def test_decisions_made_before_the_hold_still_count_after_it(world: RaWorld, vetter: Actor) -> None:
    application = world.open_merchant()
    world.decide(application.id, "vet", world.office.vetter)
    world.workflow.hold(vetter, application.id, "asking")
    released = world.workflow.release(officer(world.office.security), application.id, "answered")
    assert (released.state, released.step) == (State.AWAITING_APPROVAL, "approve")


def test_a_key_that_was_denied_meanwhile_ends_the_case_when_it_is_released(world: RaWorld, vetter: Actor) -> None:
    key = p256()
    application = world.open_merchant(key=key)
    world.workflow.hold(vetter, application.id, "asking")
    (entry,) = world.workflow.dossier(application).revision.csrs
    with world.engine.begin() as db:
        db.execute(schema.denylist.insert().values(spki_sha256=entry.spki_sha256.hex(), at=world.now))
    released = world.workflow.release(vetter, application.id, "answered")
    assert released.state is State.REJECTED
    assert "KEY-DENYLISTED" in str(released.trouble)


@pytest.mark.parametrize("act", ["hold", "send_back"])
def test_only_officers_hold_or_return(world: RaWorld, act: str) -> None:
    application = world.open_merchant()
    for actor in (OPERATOR, ANONYMOUS, officer(world.office.officer("officer-8", "auditor"))):
        with pytest.raises(NotAllowedError):
            getattr(world.workflow, act)(actor, application.id, "because")
    assert world.store.application(application.id) == application


def test_a_returned_case_is_amended_and_vetted_again(world: RaWorld, vetter: Actor) -> None:
    application = world.open_merchant()
    world.decide(application.id, "vet", world.office.vetter)
    returned = world.workflow.send_back(vetter, application.id, "the licence is unreadable")
    assert (returned.state, str(returned.trouble)) == (State.RETURNED, "the licence is unreadable")
    amended = world.workflow.amend(OPERATOR, application.id, Submission(merchant_subject(), {"signing": csr(p256())}))
    assert (amended.state, amended.trouble, amended.step) == (State.VETTING, None, "vet")


def test_what_was_read_before_somebody_else_acted_is_not_held(world: RaWorld, vetter: Actor) -> None:
    application = world.open_merchant()
    world.decide(application.id, "vet", world.office.vetter)
    with pytest.raises(ConflictError):
        world.workflow.hold(vetter, application.id, "asking", version=application.version)


# Reminders, breaches, lapses


@pytest.mark.usefixtures("later")
def test_people_are_reminded_at_each_mark_once_and_told_of_the_breach(world: RaWorld) -> None:
    application = world.open_merchant()
    told = []
    for _ in range(24 * 6):
        world.clock.forward(HOUR)
        world.workflow.sweep()
    for each in world.store.transitions(application.id):
        if each.action is Action.WARN:
            told.append((each.detail["clock"], each.detail["share"], each.at - application.opened_at))
    days = timedelta(days=1)
    assert told == [("decide", "0.5", 2.5 * days), ("decide", "0.8", 4 * days), ("decide", "1.0", 5 * days)]
    assert world.store.application(application.id).state is State.VETTING


@pytest.mark.usefixtures("later")
def test_marks_that_passed_while_nobody_looked_are_told_as_one(world: RaWorld) -> None:
    application = world.open_merchant()
    world.clock.forward(timedelta(days=4.5))
    assert (world.workflow.sweep(), world.workflow.sweep()) == (1, 0)
    reminders = [each for each in world.store.transitions(application.id) if each.action is Action.WARN]
    assert [each.detail["share"] for each in reminders] == ["0.8"]


@pytest.mark.usefixtures("later")
def test_the_applicant_is_reminded_before_the_request_expires(world: RaWorld, vetter: Actor) -> None:
    application = world.open_merchant()
    world.workflow.send_back(vetter, application.id, "unreadable")
    for day in (15, 24):
        world.clock.now = application.due_from + timedelta(days=day)
        assert world.workflow.sweep() == 1
    reminders = [each.detail for each in world.store.transitions(application.id) if each.action is Action.WARN]
    assert [(each["clock"], each["share"]) for each in reminders] == [("request", "0.5"), ("request", "0.8")]


@pytest.mark.usefixtures("later")
def test_an_approval_that_lapses_shows_at_once(world: RaWorld) -> None:
    application = world.open_merchant()
    decided = world.decide(application.id, "vet", world.office.vetter, expires=world.now + HOUR)
    assert (decided.state, decided.step, decided.judge_at) == (State.AWAITING_APPROVAL, "approve", world.now + HOUR)
    world.clock.forward(HOUR)
    assert world.workflow.sweep() == 1
    lapsed = world.store.application(application.id)
    assert (lapsed.state, lapsed.step) == (State.VETTING, "vet")
    assert "DEC-EXPIRED" in str(lapsed.trouble)
    assert world.workflow.sweep() == 0


# Another statement


def superseding(world: RaWorld, on_supersede: str = "reevaluate") -> PackRegister:
    """A register in which the next version is in force from now on."""
    text = TEXT.replace("1.0.0", "1.1.0").replace("2026-01-01T00:00:00Z", f"{world.now:%FT%TZ}")
    return PackRegister(
        (world.office.pack, load_pack(text.replace("on_supersede: reevaluate", f"on_supersede: {on_supersede}")))
    )


def test_open_cases_are_judged_anew_when_another_statement_comes_into_force(world: RaWorld) -> None:
    application = world.open_merchant()
    draft = world.workflow.open(OPERATOR, "merchant")
    world.decide(application.id, "vet", world.office.vetter)
    world.register = superseding(world)
    assert world.workflow.sweep() == 1
    anew = world.store.application(application.id)
    revision = world.store.revision(anew)
    assert revision is not None
    assert (anew.state, anew.step, revision.number, revision.cps.version) == (State.VETTING, "vet", 2, "1.1.0")
    assert [author.person for author in revision.authors] == ["service:operator"]
    assert actions(world, anew)[-2:] == [Action.REEVALUATE, Action.SCREEN]
    assert world.workflow.sweep() == 0
    assert world.store.application(draft.id) == draft
    assert world.decide(application.id, "vet", world.office.vetter).step == "approve"


def test_a_decision_over_a_superseded_statement_is_refused_and_the_case_judged_anew(world: RaWorld) -> None:
    application = world.open_merchant()
    signed = world.sign(application.id, "vet", world.office.vetter)
    world.register = superseding(world)
    with pytest.raises(RefusedError) as refused:
        world.workflow.decide(OPERATOR, application.id, signed)
    assert [each.code for each in refused.value.findings] == [Rule.PACK_PIN]
    anew = world.store.application(application.id)
    assert (anew.state, anew.revision) == (State.VETTING, 2)


def test_an_approved_case_under_a_superseded_statement_is_judged_anew_and_not_sent_back(
    tmp_path: Path, office: Office
) -> None:
    class Away:
        """A CA that does not answer."""

        def issue(self, dossier: object) -> NoReturn:
            raise Problem(422, "refused", "not today")

    world = RaWorld(tmp_path, office, authority=lambda _ca: Away())  # type: ignore[arg-type,return-value]
    application = world.certified_merchant()
    assert application.state is State.ISSUE_FAILED
    world.register = superseding(world)
    assert world.workflow.issue(OPERATOR, application.id).state is State.ISSUE_FAILED
    assert world.workflow.sweep() == 1
    anew = world.store.application(application.id)
    assert (anew.state, anew.step, anew.revision) == (State.VETTING, "vet", 2)
    world.close()


def test_a_grandfathered_case_is_finished_under_its_own_statement(world: RaWorld) -> None:
    application = world.open_merchant()
    until = f"{{grandfather_until: {world.now + DAY:%FT%TZ}}}"
    world.register = superseding(world, until)
    assert world.workflow.sweep() == 0
    decided = world.decide(application.id, "vet", world.office.vetter)
    assert (decided.state, decided.revision) == (State.AWAITING_APPROVAL, 1)
    world.clock.forward(DAY)
    world.workflow.sweep()
    assert world.store.application(application.id).revision == 2


# Acceptance


def test_the_holder_accepts_with_the_certified_key(world: RaWorld) -> None:
    key = p256()
    application = world.certified_merchant(key=key)
    assert application.accept_by == world.now + timedelta(days=14)
    signed = world.acceptance(application.id, key)
    accepted = world.workflow.accept(OPERATOR, application.id, signed)
    assert (accepted.state, accepted.accept_by) == (State.ACTIVE, None)
    assert world.store.acceptance(application.id) == signed
    assert world.workflow.accept(OPERATOR, application.id, signed) == accepted


def test_whoever_opened_the_case_accepts_in_person(world: RaWorld) -> None:
    application = world.certified_merchant()
    assert world.workflow.accept(OPERATOR, application.id).state is State.ACTIVE


def test_who_has_no_name_accepts_with_the_key_alone(world: RaWorld) -> None:
    key = p256()
    application = world.open_cardholder(key=key)
    with pytest.raises(IdentityNeededError, match="signed with the certified key"):
        world.workflow.accept(ANONYMOUS, application.id)
    signed = world.acceptance(application.id, key)
    assert world.workflow.accept(ANONYMOUS, application.id, signed).state is State.ACTIVE


def test_nobody_accepts_for_another(world: RaWorld) -> None:
    key = p256()
    application, other = world.certified_merchant(), world.certified_merchant(key=key, merchant_id="M-2")
    with pytest.raises(NotAllowedError):
        world.workflow.accept(Actor("merchant:M-9"), application.id)
    with pytest.raises(InvalidSubmissionError, match="not signed by a key that was certified in the case"):
        world.workflow.accept(OPERATOR, application.id, world.acceptance(other.id, key))
    assert world.store.application(application.id).state is State.ISSUED


def test_nothing_is_accepted_before_it_is_issued(world: RaWorld) -> None:
    application = world.open_merchant()
    with pytest.raises(WrongStateError):
        world.workflow.accept(OPERATOR, application.id)


def test_what_nobody_accepts_in_time_is_revoked_by_the_registration_authority(tmp_path: Path) -> None:
    pack = load_pack(TEXT.replace("within: P14D", "within: PT2H"))
    world = RaWorld(tmp_path, Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0)), pack))
    application = world.certified_merchant()
    world.clock.forward(2 * HOUR - timedelta(seconds=1))
    assert world.workflow.sweep() == 0
    world.clock.forward(timedelta(seconds=1))
    assert world.workflow.sweep() == 1
    revoked = world.store.application(application.id)
    (issued,) = world.store.certificates(application.id)
    record = world.store.revocation(issued.issuer, issued.serial)
    assert revoked.state is State.REVOKED
    assert record is not None
    assert (record.reason, record.ordered_by) == ("cessationOfOperation", "urn:kwbp:service:ra")
    serial = x509.load_der_x509_certificate(issued.der).serial_number
    crls = world.ca.authority.publisher.trust().crls
    assert any(crl.get_revoked_certificate_by_serial_number(serial) is not None for crl in crls)
    assert world.workflow.sweep() == 0
    world.close()


def test_a_case_ends_when_the_last_of_its_certificates_is_revoked(world: RaWorld) -> None:
    key, tls = p256(), p256()
    application = world.certified_merchant(csrs={"signing": csr(key), "tls": csr(tls)})
    states = []
    for issued in world.store.certificates(application.id):
        certificate = x509.load_der_x509_certificate(issued.der)
        world.workflow.revoke(OPERATOR, world.office.revocation(certificate, world.office.vetter, date=world.now))
        states.append(world.store.application(application.id).state)
    assert states == [State.ISSUED, State.REVOKED]
