"""From an approved case to its certificates, also when the CA is away, refuses, errs, or the RA dies on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ca.client import CertificateAnswer, RevocationAnswer, StoryAnswer
from cps.dossier import Dossier
from ra.app import create_app
from ra.authority import CertificateAuthority
from ra.errors import RefusedError, WrongStateError
from ra.records import Application, RevocationRecord
from ra.schedules import ra_schedules
from ra.states import State
from runtime.durable import Durable
from runtime.problems import Problem
from runtime.server import start
from tests.faults.faulty_module import wait_until
from tests.support.cps_cases import DAY, Office
from tests.support.ra_world import ANONYMOUS, OPERATOR, RaWorld

Answers = dict[str, CertificateAnswer]


class Between:
    """The CA, with `on_issue` between: it gets the real issuing function and may do what it likes."""

    def __init__(self, ca: CertificateAuthority) -> None:
        self.ca = ca
        self.on_issue: Callable[[Callable[[Dossier], Answers], Dossier], Answers] = lambda issue, dossier: issue(
            dossier
        )

    def issue(self, dossier: Dossier) -> Answers:
        return self.on_issue(self.ca.issue, dossier)

    def revoke(self, order: bytes) -> RevocationAnswer:
        return self.ca.revoke(order)

    def look_up(self, issuer: str, serial: str) -> StoryAnswer:
        return self.ca.look_up(issuer, serial)

    def search(self, *, serial: str | None = None) -> tuple[CertificateAnswer, ...]:
        return self.ca.search(serial=serial)


class Killed(BaseException):
    """The process ends here."""


def away(_issue: object, _dossier: Dossier) -> Answers:
    raise Problem(503, "ca-unreachable", "the certificate authority does not answer")


def done_but_away(issue: Callable[[Dossier], Answers], dossier: Dossier) -> Answers:
    issue(dossier)
    raise Problem(503, "ca-unreachable", "the certificate authority does not answer")


def refusing(_issue: object, _dossier: Dossier) -> Answers:
    raise Problem(409, "key-refused", "this key is certified already", clause="CPS 6.1.1")


def killed_after(issue: Callable[[Dossier], Answers], dossier: Dossier) -> Answers:
    issue(dossier)
    raise Killed


class World(RaWorld):
    """An RA world whose CA can be interfered with."""

    def __init__(self, folder: Path, office: Office) -> None:
        self.between: Between
        super().__init__(folder, office, authority=self._interpose)

    def _interpose(self, ca: CertificateAuthority) -> CertificateAuthority:
        self.between = Between(ca)
        return self.between

    def last_decision(self) -> Application:
        """A merchant but for the last decision; then that."""
        application = self.open_merchant()
        self.decide(application.id, "vet", self.office.vetter)
        return self.decide(application.id, "approve", self.office.approver)

    def issued_by_the_ca(self) -> int:
        """How many certificates for merchants the CA has on record."""
        return len(self.ca.authority.store.search(identity="urn:kwbp:merchant:M-1"))


@pytest.fixture
def faulty(tmp_path: Path, office: Office) -> World:
    return World(tmp_path, office)


@pytest.mark.parametrize("fault", [away, done_but_away])
def test_a_ca_that_is_away_is_asked_again(faulty: World, fault: Callable[..., Answers]) -> None:
    faulty.between.on_issue = fault
    application = faulty.last_decision()
    assert application.state is State.ISSUING
    assert faulty.workflow.resume() == 0
    faulty.between.on_issue = lambda issue, dossier: issue(dossier)
    assert faulty.workflow.resume() == 1
    assert faulty.store.application(application.id).state is State.ISSUED
    assert faulty.issued_by_the_ca() == 1
    assert faulty.workflow.resume() == 0


def every_second(world: World, folder: Path) -> Durable:
    """The schedules of an RA, each second."""
    often = tuple(replace(each, cron="* * * * * *") for each in ra_schedules(world.workflow))
    return Durable("ra", often, database=folder / "schedules.db", replica="ra")


def test_the_clock_finishes_what_was_interrupted(faulty: World, tmp_path: Path) -> None:
    faulty.between.on_issue = away
    application = faulty.last_decision()
    faulty.between.on_issue = lambda issue, dossier: issue(dossier)
    with start(create_app(faulty.workflow, schedules=every_second(faulty, tmp_path)), tls=None):
        wait_until(lambda: faulty.store.application(application.id).state is State.ISSUED)
    assert faulty.store.application(application.id).state is State.ISSUED


def test_a_round_of_the_clock_that_fails_is_not_the_last(
    faulty: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[bool] = []

    def broken() -> int:
        rounds.append(True)
        raise RuntimeError("a fault")

    monkeypatch.setattr(faulty.workflow, "sweep", broken)
    with start(create_app(faulty.workflow, schedules=every_second(faulty, tmp_path)), tls=None):
        wait_until(lambda: len(rounds) > 2)  # the start, and two ticks


def test_what_a_killed_registration_authority_left_is_finished_by_the_next(
    faulty: World, tmp_path: Path, office: Office
) -> None:
    faulty.between.on_issue = killed_after
    with pytest.raises(Killed):
        faulty.last_decision()
    faulty.close()
    restarted = World(tmp_path, office)
    assert restarted.workflow.resume() == 1
    (application,) = restarted.store.applications()
    assert application.state is State.ISSUED
    (mine,) = restarted.store.certificates(application.id)
    (theirs,) = restarted.ca.authority.store.search(identity="urn:kwbp:merchant:M-1")
    assert mine.der == theirs.der
    restarted.close()


def test_a_refusal_of_the_ca_is_on_file_until_somebody_asks_again(faulty: World) -> None:
    faulty.between.on_issue = refusing
    application = faulty.last_decision()
    assert (application.state, str(application.trouble)) == (
        State.ISSUE_FAILED,
        "this key is certified already (CPS 6.1.1)",
    )
    assert faulty.workflow.resume() == 0
    faulty.between.on_issue = lambda issue, dossier: issue(dossier)
    application = faulty.workflow.issue(OPERATOR, application.id)
    assert (application.state, application.trouble) == (State.ISSUED, None)
    with pytest.raises(WrongStateError):
        faulty.workflow.issue(OPERATOR, application.id)


def test_asking_again_also_finishes_what_was_interrupted(faulty: World) -> None:
    faulty.between.on_issue = away
    application = faulty.last_decision()
    faulty.between.on_issue = lambda issue, dossier: issue(dossier)
    assert faulty.workflow.issue(OPERATOR, application.id).state is State.ISSUED


def test_a_case_that_is_approved_no_longer_goes_back(faulty: World) -> None:
    faulty.between.on_issue = refusing
    application = faulty.last_decision()
    faulty.clock.forward(6 * DAY)
    faulty.trust_source = lambda: faulty.office.pki.trust(faulty.now)
    application = faulty.workflow.issue(OPERATOR, application.id)
    assert application.state is State.VETTING
    assert "DEC-EXPIRED" in str(application.trouble)


def test_a_decision_of_the_system_that_lapsed_is_made_anew(faulty: World) -> None:
    faulty.between.on_issue = refusing
    application = faulty.open_cardholder()
    assert application.state is State.ISSUE_FAILED
    faulty.clock.forward(DAY)  # the decision lasts until now, the bank's confirmation through now
    faulty.trust_source = lambda: faulty.office.pki.trust(faulty.now)
    faulty.between.on_issue = lambda issue, dossier: issue(dossier)
    assert faulty.workflow.issue(OPERATOR, application.id).state is State.ISSUED
    assert len(faulty.store.decisions(application.id)) == 2


def test_two_that_finish_one_case_agree(faulty: World) -> None:
    """The clock comes by while the caller's own request waits for the CA."""

    def meanwhile(issue: Callable[[Dossier], Answers], dossier: Dossier) -> Answers:
        faulty.between.on_issue = lambda issue, dossier: issue(dossier)
        assert faulty.workflow.resume() == 1
        return issue(dossier)

    faulty.between.on_issue = meanwhile
    application = faulty.last_decision()
    assert application.state is State.ISSUED
    assert faulty.issued_by_the_ca() == 1
    assert len(faulty.store.certificates(application.id)) == 1


def test_a_case_that_cannot_be_finished_does_not_keep_the_others_waiting(faulty: World) -> None:
    faulty.between.on_issue = away
    merchant = faulty.last_decision()
    card = faulty.open_cardholder()

    def one_fails(issue: Callable[[Dossier], Answers], dossier: Dossier) -> Answers:
        if dossier.revision.member_class == "cardholder":
            raise RuntimeError("a fault")
        return issue(dossier)

    faulty.between.on_issue = one_fails
    assert faulty.workflow.resume() == 1
    assert faulty.store.application(merchant.id).state is State.ISSUED
    assert faulty.store.application(card.id).state is State.ISSUING


def test_a_key_reported_compromised_after_approval_ends_the_case(faulty: World) -> None:
    faulty.between.on_issue = refusing
    application = faulty.last_decision()
    revision = faulty.store.revision(application)
    assert revision is not None
    office = faulty.office
    order = office.revocation(office.vetter_2.certificate, office.vetter)
    record = RevocationRecord("merchant-ca", "1", "keyCompromise", order, "officer-1", "service:operator", faulty.now)
    faulty.store.add_revocation(record, denylisted=revision.csrs[0].spki_sha256)
    assert faulty.workflow.issue(OPERATOR, application.id).state is State.REJECTED


def _without_answer(_issue: object, _dossier: Dossier) -> Answers:
    return {}


def _for_another_key(issue: Callable[[Dossier], Answers], dossier: Dossier) -> Answers:
    (answer,) = issue(dossier).values()
    return {"signing": answer.model_copy(update={"certificate": answer.chain[0]})}


def _of_another_hierarchy(issue: Callable[[Dossier], Answers], dossier: Dossier) -> Answers:
    (answer,) = issue(dossier).values()
    broken = bytearray(answer.certificate)
    broken[-1] ^= 1
    return {"signing": answer.model_copy(update={"certificate": bytes(broken)})}


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        (_without_answer, "no certificate for the signing key"),
        (_for_another_key, "another key than the signing key"),
        (_of_another_hierarchy, "the signing certificate is not valid: bad_signature"),
    ],
)
def test_certificates_that_do_not_fit_the_case_are_not_taken(
    faulty: World, fault: Callable[..., Answers], trouble: str
) -> None:
    faulty.between.on_issue = fault
    application = faulty.last_decision()
    assert application.state is State.ISSUE_FAILED
    assert trouble in str(application.trouble)
    assert faulty.store.certificates(application.id) == []


def test_the_systems_step_waits_while_its_key_is_away(tmp_path: Path, office: Office) -> None:
    def no_token(_content_type: object, _content: bytes) -> bytes:
        raise Problem(503, "token-away", "the token does not answer")

    world = RaWorld(tmp_path, office, sign=no_token)
    application = world.open_cardholder()
    assert application.state is State.VETTING
    assert world.workflow.resume() == 0
    world.workflow.desk.sign = world._sign  # type: ignore[misc]  # the token is back
    assert world.workflow.resume() == 1
    assert world.store.application(application.id).state is State.ISSUED
    world.close()


def test_a_system_key_that_is_not_the_registration_authoritys_decides_nothing(tmp_path: Path, office: Office) -> None:
    impostor = office.pki.service("gateway")
    world = RaWorld(tmp_path, office, sign=lambda content_type, content: impostor.sign(content_type, content))
    with pytest.raises(RefusedError, match="decided by system"):
        world.open_cardholder()
    (application,) = world.store.applications()
    assert application.state is State.VETTING
    assert application.opened_by == ANONYMOUS.name
    world.close()
