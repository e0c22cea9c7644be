"""Revocation through the RA: an officer's signature, the CA's CRL, the denylist."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from audit import read
from cps.model import load_pack
from cps.rules import Rule
from pki.errors import PathError
from pki.path import validate_path
from pki.roles import Role
from ra.access import Actor
from ra.errors import NotAllowedError, RefusedError
from ra.orders import Orders
from ra.records import Application
from ra.states import State
from runtime.problems import Problem
from tests.cps.test_model import TEXT
from tests.support.cps_cases import Office
from tests.support.pki_factory import Credential, PkiFactory, p256
from tests.support.ra_world import OPERATOR, RaWorld


def certificate_of(world: RaWorld, application: Application) -> x509.Certificate:
    (issued,) = world.store.certificates(application.id)
    return x509.load_der_x509_certificate(issued.der)


def test_an_officers_order_takes_effect_at_once(world: RaWorld) -> None:
    certificate = certificate_of(world, world.certified_merchant())
    validate_path(certificate, trust=world.trust_source(), now=world.now, roles={Role.MERCHANT})
    order = world.office.revocation(certificate, world.office.vetter, reason="cessationOfOperation")
    revoked = world.workflow.revoke(OPERATOR, order)
    assert (revoked.record.issuer, revoked.record.ordered_by) == ("merchant-ca", "officer-1")
    assert revoked.crl_number is not None
    with pytest.raises(PathError) as error:
        validate_path(certificate, trust=world.trust_source(), now=world.now, roles={Role.MERCHANT})
    assert error.value.reason == "revoked"
    assert world.store.revocation("merchant-ca", f"{certificate.serial_number:x}") == revoked.record


def test_the_same_order_again_changes_nothing(world: RaWorld) -> None:
    certificate = certificate_of(world, world.certified_merchant())
    order = world.office.revocation(certificate, world.office.vetter)
    first = world.workflow.revoke(OPERATOR, order)
    assert world.workflow.revoke(OPERATOR, order).record == first.record


@pytest.mark.parametrize(("reason", "state"), [("keyCompromise", State.REJECTED), ("superseded", State.RETURNED)])
def test_a_compromised_key_ends_every_later_application(world: RaWorld, reason: str, state: State) -> None:
    key = p256()
    certificate = certificate_of(world, world.certified_merchant(key=key))
    order = world.office.revocation(certificate, world.office.vetter, reason=reason)  # type: ignore[arg-type]
    world.workflow.revoke(OPERATOR, order)
    assert world.open_merchant(key=key, merchant_id="M-2", documents=()).state is state


def test_an_order_of_the_wrong_person_is_refused_by_clause_and_recorded(world: RaWorld) -> None:
    certificate = certificate_of(world, world.certified_merchant())
    order = world.office.revocation(certificate, world.office.approver)
    with pytest.raises(RefusedError) as error:
        world.workflow.revoke(OPERATOR, order)
    finding = error.value.findings[0]
    assert (finding.code, finding.clause) == (Rule.REV_ROLE, "CPS 4.9.2")
    last = list(read(world.journal))[-1].entry
    assert (last["event"], last["action"], last["rules"]) == ("ra.refused", "revoke", ["REV-ROLE"])


def test_an_order_for_a_certificate_that_the_ca_did_not_issue_is_refused_by_the_ca(world: RaWorld) -> None:
    foreign = world.office.pki.merchant("M-7").certificate
    with pytest.raises(Problem) as problem:
        world.workflow.revoke(OPERATOR, world.office.revocation(foreign, world.office.vetter))
    assert problem.value.status == 404


def test_orders_are_handed_in_by_officers_and_the_operator(world: RaWorld) -> None:
    certificate = certificate_of(world, world.certified_merchant())
    with pytest.raises(NotAllowedError):
        world.workflow.revoke(Actor("merchant:M-1"), world.office.revocation(certificate, world.office.vetter))


def test_suspension_and_release_go_through_and_leave_nothing_revoked(world: RaWorld) -> None:
    certificate = certificate_of(world, world.certified_merchant())
    serial = f"{certificate.serial_number:x}"
    hold = world.office.revocation(certificate, world.office.vetter, reason="certificateHold")
    held = world.workflow.revoke(OPERATOR, hold)
    assert (held.state, held.record.reason) == ("held", "certificateHold")
    with pytest.raises(PathError) as error:
        validate_path(certificate, trust=world.trust_source(), now=world.now, roles={Role.MERCHANT})
    assert error.value.reason == "revoked"

    release = world.office.revocation(certificate, world.office.vetter, reason="removeFromCRL")
    assert world.workflow.revoke(OPERATOR, release).state == "released"

    validate_path(certificate, trust=world.trust_source(), now=world.now, roles={Role.MERCHANT})
    assert world.store.revocation("merchant-ca", serial) is None
    events = [each.entry["event"] for each in read(world.journal)]
    assert events[-4:] == ["ra.suspended", "ra.review-due", "ra.released", "ra.review-due"]


def test_the_holder_suspends_with_the_very_key_through_the_ra(world: RaWorld) -> None:
    key = p256()
    application = world.certified_merchant(key=key)
    (issued,) = world.store.certificates(application.id)
    chain = tuple(map(x509.load_der_x509_certificate, issued.chain))
    holder = Credential(x509.load_der_x509_certificate(issued.der), key, chain)
    order = world.office.revocation(holder.certificate, holder, reason="certificateHold")
    assert world.workflow.revoke(OPERATOR, order).record.ordered_by == "urn:kwbp:merchant:M-1"


class Answering:
    """A CA that answers as planned instead of taking the next orders; `taken`: it takes them before it does."""

    def __init__(self, world: RaWorld, *problems: Problem, taken: bool = False) -> None:
        self._revoke = world.workflow.authority.revoke
        self._problems = list(problems)
        self._taken = taken
        world.workflow.authority.revoke = self  # type: ignore[method-assign]

    @property
    def left(self) -> int:
        """How many answers are planned yet."""
        return len(self._problems)

    def __call__(self, order: bytes) -> Any:
        if not self._problems:
            return self._revoke(order)
        if self._taken:
            self._revoke(order)
        raise self._problems.pop(0)


AWAY = Problem(503, "ca-unreachable", "the certificate authority does not answer")
REFUSED = Problem(403, "revocation-refused", "the order does not count", findings=[{"code": "REV-STATE"}])


@pytest.mark.parametrize("taken", [False, True])
def test_an_order_whose_outcome_is_not_known_is_carried_out_by_the_clock(world: RaWorld, taken: bool) -> None:
    application = world.certified_merchant()
    order = world.office.revocation(certificate_of(world, application), world.office.vetter)
    Answering(world, AWAY, AWAY, taken=taken)
    with pytest.raises(Problem, match="does not answer"):
        world.workflow.revoke(OPERATOR, order)
    assert world.store.application(application.id).state is State.ISSUED  # unknown, and not told as anything else
    world.workflow.sweep()
    assert [each.cms for each in Orders(world.engine).under_way()] == [order]
    world.workflow.sweep()
    assert world.store.application(application.id).state is State.REVOKED
    assert Orders(world.engine).under_way() == []
    events = [each.entry["event"] for each in read(world.journal)]
    assert events.count("ra.revoked") == events.count("ra.review-due") == 1


def test_an_order_that_the_ca_took_is_finished_though_it_takes_it_no_more(world: RaWorld) -> None:
    """As when the officer who signed it was revoked since."""
    application = world.certified_merchant()
    order = world.office.revocation(certificate_of(world, application), world.office.vetter)
    Answering(world, AWAY, REFUSED, taken=True)
    with pytest.raises(Problem):
        world.workflow.revoke(OPERATOR, order)
    world.workflow.sweep()
    assert world.store.application(application.id).state is State.REVOKED
    assert Orders(world.engine).under_way() == []


def test_an_order_that_the_ca_refuses_is_forgotten(world: RaWorld) -> None:
    application = world.certified_merchant()
    order = world.office.revocation(certificate_of(world, application), world.office.vetter)
    Answering(world, AWAY, REFUSED, REFUSED)
    with pytest.raises(Problem, match="does not answer"):
        world.workflow.revoke(OPERATOR, order)
    world.workflow.sweep()
    assert (Orders(world.engine).under_way(), world.workflow.reviews.open()) == ([], [])
    with pytest.raises(Problem, match="does not count"):
        world.workflow.revoke(OPERATOR, order)
    assert Orders(world.engine).under_way() == []
    told = [each.entry for each in read(world.journal) if each.entry["event"] == "ra.refused"]
    assert [(each["actor"], each["rules"]) for each in told] == [(OPERATOR.name, ["REV-STATE"])] * 2
    assert {each["statement_sha256"] for each in told} == {hashlib.sha256(order).hexdigest()}
    assert world.store.application(application.id).state is State.ISSUED


def test_an_order_about_a_certificate_that_the_ca_does_not_have_is_forgotten(world: RaWorld) -> None:
    """As after the CA's database was replaced by an older one; while it cannot be asked, the order is under way."""
    application = world.certified_merchant()
    order = world.office.revocation(certificate_of(world, application), world.office.vetter)
    asked = Answering(world, AWAY, REFUSED, REFUSED)
    answers = [AWAY]

    def look_up(_issuer: str, _serial: str) -> Any:
        raise answers.pop()

    world.workflow.authority.look_up = look_up  # type: ignore[assignment, method-assign]
    with pytest.raises(Problem, match="does not answer"):
        world.workflow.revoke(OPERATOR, order)
    world.workflow.sweep()
    assert len(Orders(world.engine).under_way()) == 1
    answers[:] = [Problem(404, "not-on-record", "no such certificate")] * 2
    world.workflow.sweep()
    assert (Orders(world.engine).under_way(), asked.left) == ([], 0)


@pytest.mark.parametrize(
    "problem",
    [
        Problem(429, "rate-limited", "too many requests: ask again later"),
        Problem(403, "caller-not-allowed", "service:ra may not do this"),
        Problem(401, "client-certificate-required", "this needs a client certificate"),
        Problem(404, "unreadable-answer", "the service answered 404"),
    ],
    ids=lambda problem: problem.type,
)
def test_an_order_that_the_ca_did_not_judge_is_still_under_way(world: RaWorld, problem: Problem) -> None:
    application = world.certified_merchant()
    order = world.office.revocation(certificate_of(world, application), world.office.vetter)
    Answering(world, problem)
    with pytest.raises(Problem):
        world.workflow.revoke(OPERATOR, order)
    world.workflow.sweep()
    assert world.store.application(application.id).state is State.REVOKED


def test_while_the_ca_is_away_the_clock_waits_for_one_order_alone(world: RaWorld) -> None:
    application = world.certified_merchant()
    certificate = certificate_of(world, application)
    asked = Answering(world, *[AWAY] * 3)
    for reason in ("certificateHold", "keyCompromise"):
        with pytest.raises(Problem):
            world.workflow.revoke(OPERATOR, world.office.revocation(certificate, world.office.vetter, reason=reason))
    world.workflow.sweep()
    assert asked.left == 0
    assert len(Orders(world.engine).under_way()) == 2
    world.workflow.sweep()
    assert Orders(world.engine).under_way() == []
    assert world.store.application(application.id).state is State.REVOKED


def test_an_order_is_written_down_with_its_review_or_not_at_all(
    world: RaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = world.certified_merchant()
    order = world.office.revocation(certificate_of(world, application), world.office.vetter)

    def killed(*_given: object, **_named: object) -> bool:
        raise SystemExit

    monkeypatch.setattr("ra.orders.insert_new", killed)
    with pytest.raises(SystemExit):
        world.workflow.revoke(OPERATOR, order)
    monkeypatch.undo()
    assert (Orders(world.engine).under_way(), world.workflow.reviews.open()) == ([], [])


def test_while_the_ca_is_away_what_nobody_accepted_waits_with_one_order(tmp_path: Path) -> None:
    pack = load_pack(TEXT.replace("within: P14D", "within: PT2H"))
    world = RaWorld(tmp_path, Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0)), pack))
    application = world.certified_merchant()
    Answering(world, *[AWAY] * 3)
    world.clock.forward(timedelta(hours=2))
    for _ in range(3):
        world.workflow.sweep()
        world.clock.forward(timedelta(seconds=15))
        assert len(Orders(world.engine).under_way()) == 1
    world.workflow.sweep()
    assert world.store.application(application.id).state is State.REVOKED
    assert Orders(world.engine).under_way() == []
    world.close()


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[RaWorld]:
    """An RA whose certificates are to be accepted within two hours."""
    pack = load_pack(TEXT.replace("within: P14D", "within: PT2H"))
    made = RaWorld(tmp_path, Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0)), pack))
    yield made
    made.close()


def test_what_the_ca_revoked_by_itself_ends_here_when_nobody_accepts_it(hasty: RaWorld) -> None:
    application = hasty.certified_merchant()
    certificate = certificate_of(hasty, application)
    hasty.workflow.authority.revoke(hasty.office.revocation(certificate, hasty.office.vetter))  # not through the RA
    hasty.clock.forward(timedelta(hours=2))
    for _ in range(3):
        hasty.workflow.sweep()
    assert hasty.store.application(application.id).state is State.REVOKED
    [issued] = hasty.store.certificates(application.id)
    record = hasty.store.revocation(issued.issuer, issued.serial)
    assert record is not None
    assert (record.ordered_by, record.received_from) == ("officer-1", "service:ca")
    events = [each.entry["event"] for each in read(hasty.journal)]
    assert (events.count("ra.revoked"), events.count("ra.refused")) == (1, 1)


def test_the_clock_tells_once_that_its_own_order_is_refused(hasty: RaWorld) -> None:
    """As when the RA was away for longer than it may order this by itself, and than the lists last."""
    application = hasty.certified_merchant()
    hasty.clock.forward(timedelta(hours=2) + hasty.office.pack.acceptance.order_within + timedelta(minutes=1))
    for _ in range(3):
        hasty.workflow.sweep()
        hasty.clock.forward(timedelta(seconds=15))
    assert hasty.store.application(application.id).state is State.ISSUED
    [told] = [each.entry for each in read(hasty.journal) if each.entry["event"] == "ra.refused"]
    assert (told["actor"], told["rules"]) == ("service:ra", ["DEC-CREDENTIAL"])


def test_one_that_was_accepted_at_the_same_moment_ends_revoked(world: RaWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    application = world.certified_merchant()
    order = world.office.revocation(certificate_of(world, application), world.office.vetter)
    load = world.store.certificates

    def accepted_meanwhile(application_id: str) -> Any:
        monkeypatch.undo()
        world.workflow.accept(OPERATOR, application_id)
        return load(application_id)

    monkeypatch.setattr(world.store, "certificates", accepted_meanwhile)
    world.workflow.revoke(OPERATOR, order)
    assert world.store.application(application.id).state is State.ACTIVE
    world.workflow.sweep()
    assert world.store.application(application.id).state is State.REVOKED
