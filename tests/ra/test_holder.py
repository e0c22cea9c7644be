"""What a certificate's holder asks (row 6): answered once, acted upon once, and for nobody but the holder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cps.decision import Revocation, build_revocation
from kwbp.codes import CertificateStatus, ErrorCode, RegistrationStatus, RevocationReason
from kwbp.errors import ProtocolError
from kwbp.holder import build_revocation_request, build_status_request
from kwbp.wrapper import unwrap, wrap
from pki.extensions import authority_key_id, extensions_of
from pki.keys import spki_sha256
from pki.oids import CT_CERT_INQ_RES, CT_RENEW_REQ, CT_REV_REQ, CT_REVOCATION
from ra.access import Actor
from ra.authority import CertificateAuthority
from ra.errors import RefusedError
from ra.states import State
from runtime.identity import Caller
from runtime.problems import Problem
from tests.support.cps_cases import Office
from tests.support.databases import ra_database
from tests.support.holders import HEADERS, PATH, Holder, refused
from tests.support.pki_factory import p256
from tests.support.ra_world import OPERATOR, InProcessCa
from tests.support.registration_site import RegistrationSite

REASON, STATUS = RevocationReason, CertificateStatus
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, office: Office) -> Iterator[RegistrationSite]:
    """One for the tests that leave its holder's certificate as it is."""
    made = RegistrationSite(tmp_path_factory.mktemp("holders"), office)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shop(shared: RegistrationSite) -> Holder:
    return Holder.merchant(shared)


@pytest.fixture(scope="module")
def other(shared: RegistrationSite) -> Holder:
    return Holder.merchant(shared, merchant_id="M-2", name="Other shop")


@pytest.fixture
def site(tmp_path: Path, office: Office) -> Iterator[RegistrationSite]:
    made = RegistrationSite(tmp_path, office)
    yield made
    made.close()


def post(site: RegistrationSite, message: bytes) -> bytes:
    return site.http.post(PATH, content=message, headers=HEADERS).content


def revocation(holder: Holder, asked: RevocationReason, /, **changes: Any) -> bytes:
    """A RevReq with an order that says something else, or for a reason that no client of ours gives."""
    certificate, now = holder.certificate, holder.site.world.now
    key_id = authority_key_id(extensions_of(certificate))
    assert key_id is not None
    said: dict[str, Any] = {
        "issuer_key_id": key_id, "serial": certificate.serial_number, "reason": asked.protocol_name, "date": now,
    }  # fmt: skip
    order = changes.pop("order", None) or holder.sign(CT_REVOCATION, build_revocation(Revocation(**(said | changes))))
    draft = build_revocation_request(
        certificate, asked, order=order, rrpid=holder.site.world.workflow.desk.rng(20), chall=bytes(32), now=now
    )
    return draft.message(holder.sign(draft.content_type, draft.content))


def history(holder: Holder) -> tuple[Any, ...]:
    """Every change of the certificate's status that the CA knows."""
    authority = InProcessCa(holder.site.world.ca)
    return authority.look_up(holder.issued.issuer, holder.issued.serial).history


# --- how it stands ---


def test_a_holder_asks_how_its_certificate_stands(shop: Holder) -> None:
    told = shop.desk().status()
    assert (told.status, told.since, told.reason) == (STATUS.GOOD, None, None)
    assert told.serial == shop.certificate.serial_number


def test_the_same_question_has_the_same_answer(shared: RegistrationSite, shop: Holder) -> None:
    draft = build_status_request(shop.certificate, rrpid=b"\x01" * 20, chall=bytes(32), now=shared.world.now)
    message = draft.message(shop.sign(draft.content_type, draft.content))
    assert post(shared, message) == post(shared, message)


def test_another_question_under_the_same_rrpid(shared: RegistrationSite, shop: Holder) -> None:
    now = shared.world.now
    for chall, expected in ((bytes(32), None), (b"\x01" * 32, (ErrorCode.BAD_MESSAGE_HEADER, "K3", False))):
        draft = build_status_request(shop.certificate, rrpid=b"\x02" * 20, chall=chall, now=now)
        message = draft.message(shop.sign(draft.content_type, draft.content))
        assert expected is None or refused(shared, message) == expected
        post(shared, message)


class TestNobodyElse:
    """The hostile twins of an honest request: each is refused without a signature, and nothing is on record of it."""

    def test_about_anothers_certificate(self, shared: RegistrationSite, shop: Holder, other: Holder) -> None:
        expected = (ErrorCode.ROLE_NOT_ALLOWED, "X1", False)
        now = shared.world.now
        draft = build_status_request(shop.certificate, rrpid=b"\x03" * 20, chall=bytes(32), now=now)
        assert refused(shared, draft.message(other.sign(draft.content_type, draft.content))) == expected
        request = shop.desk(sign=other.sign).revocation(REASON.KEY_COMPROMISE)
        assert refused(shared, request) == expected
        assert shared.desk.holders.store.find("03" * 20) is None
        assert shop.desk().status().status is STATUS.GOOD

    def test_about_a_certificate_that_there_is_not(self, shared: RegistrationSite, shop: Holder) -> None:
        """The answer is the same: nobody learns which serials there are."""
        unknown = shared.office.pki.merchant("M-1")
        draft = build_status_request(unknown.certificate, rrpid=b"\x04" * 20, chall=bytes(32), now=shared.world.now)
        assert refused(shared, draft.message(shop.sign(draft.content_type, draft.content))) == (
            ErrorCode.ROLE_NOT_ALLOWED, "X1", False,
        )  # fmt: skip

    def test_a_service_asks_nothing(self, shared: RegistrationSite, shop: Holder) -> None:
        draft = build_status_request(shop.certificate, rrpid=b"\x05" * 20, chall=bytes(32), now=shared.world.now)
        signed = shared.office.ra.sign(draft.content_type, draft.content, signing_time=shared.world.now)
        assert refused(shared, draft.message(signed)) == (ErrorCode.ROLE_NOT_ALLOWED, "K5", False)

    def test_an_old_request_that_nobody_saw(self, shared: RegistrationSite, shop: Holder) -> None:
        then = shared.world.now - 3 * MINUTE
        draft = build_status_request(shop.certificate, rrpid=b"\x06" * 20, chall=bytes(32), now=then)
        signed = shop.sign(draft.content_type, draft.content, signing_time=then)
        assert refused(shared, draft.message(signed))[:2] == (
            ErrorCode.MESSAGE_TOO_OLD, "K7",
        )  # fmt: skip

    def test_a_broken_signature(self, shared: RegistrationSite, shop: Holder) -> None:
        message = shop.desk().revocation(REASON.KEY_COMPROMISE)
        inner = unwrap(message, expected=[CT_REV_REQ])
        broken = wrap(CT_REV_REQ, inner.body[:-1] + bytes([inner.body[-1] ^ 1]), rrpid=inner.rrpid)
        assert refused(shared, broken) == (ErrorCode.SIGNATURE_FAILURE, "K6", False)

    def test_an_order_that_says_something_else(self, shared: RegistrationSite, shop: Holder, other: Holder) -> None:
        foreign = other.sign(CT_REVOCATION, b"\x30\x00")
        for message, code in (
            (revocation(shop, REASON.KEY_COMPROMISE, reason="certificateHold"), ErrorCode.HASH_MISMATCH),
            (revocation(shop, REASON.KEY_COMPROMISE, serial=7), ErrorCode.HASH_MISMATCH),
            (revocation(shop, REASON.KEY_COMPROMISE, order=shop.sign(CT_REVOCATION, b"\x30\x00")),
             ErrorCode.DECODING_FAILURE),
            (revocation(shop, REASON.KEY_COMPROMISE, order=foreign), ErrorCode.SIGNATURE_FAILURE),
        ):  # fmt: skip
            assert refused(shared, message) == (code, "X7", False)
        assert shop.desk().status().status is STATUS.GOOD

    def test_a_key_that_was_certified(self, shared: RegistrationSite, shop: Holder, other: Holder) -> None:
        for key in (shop.key, other.key):
            assert refused(shared, shop.renewal(key)) == (ErrorCode.INVALID_CERTIFICATE, "X2", False)


def test_an_answer_of_another_authority_is_not_believed(shared: RegistrationSite, shop: Holder) -> None:
    foreign = shared.office.pki.service("ca")

    def sign(content_type: Any, content: bytes) -> bytes:
        return foreign.sign(content_type, content, signing_time=shared.world.now)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shared.world.workflow.desk, "sign", sign)
        with pytest.raises(ProtocolError) as caught:
            shop.desk().status()
    assert (caught.value.code, caught.value.check) == (ErrorCode.ROLE_NOT_ALLOWED, "X4")


def test_a_holder_asks_so_often_and_revokes_nevertheless(site: RegistrationSite) -> None:
    shop = Holder.merchant(site)
    for _ in range(site.desk.limits.holders.burst):
        shop.desk().status()
    draft = build_status_request(shop.certificate, rrpid=b"\x07" * 20, chall=bytes(32), now=site.world.now)
    message = draft.message(shop.sign(draft.content_type, draft.content))
    assert refused(site, message, status=429) == (ErrorCode.RATE_LIMITED, "X9", False)
    desk = shop.desk()
    assert desk.revoke(desk.revocation(REASON.KEY_COMPROMISE)).status is STATUS.REVOKED


# --- revoke ---


def test_a_holder_has_its_certificate_revoked(site: RegistrationSite) -> None:
    shop = Holder.merchant(site)
    desk = shop.desk()
    request = desk.revocation(REASON.KEY_COMPROMISE)
    told = desk.revoke(request)
    assert (told.status, told.reason) == (STATUS.REVOKED, REASON.KEY_COMPROMISE)
    record = site.world.store.revocation(shop.issued.issuer, shop.issued.serial)
    assert record is not None
    assert (record.reason, record.received_from) == ("keyCompromise", "merchant:M-1")
    assert site.world.store.application(shop.application_id).state is State.REVOKED
    # the same bytes: the same answer; another request: the same word, and no error; a question: the truth
    answer = post(site, request)
    site.world.clock.forward(10 * MINUTE)
    assert post(site, request) == answer
    again = desk.revoke(desk.revocation(REASON.CESSATION_OF_OPERATION))
    assert (again.status, again.reason, again.since) == (STATUS.REVOKED, REASON.KEY_COMPROMISE, told.since)
    assert desk.status().status is STATUS.REVOKED
    assert len(history(shop)) == 1
    # whose certificate is revoked has it renewed no more
    assert refused(site, shop.renewal())[:2] == (ErrorCode.REVOKED_CERTIFICATE, "K5")


def test_a_card_is_suspended_and_then_revoked_by_its_holder(site: RegistrationSite) -> None:
    card = Holder.card(site)
    desk = card.desk()
    held = desk.revoke(desk.revocation(REASON.CERTIFICATE_HOLD))
    assert (held.status, held.reason) == (STATUS.SUSPENDED, REASON.CERTIFICATE_HOLD)
    assert desk.status().status is STATUS.SUSPENDED
    assert desk.revoke(desk.revocation(REASON.CERTIFICATE_HOLD)).since == held.since
    site.world.clock.forward(MINUTE)
    gone = desk.revoke(desk.revocation(REASON.KEY_COMPROMISE))
    assert (gone.status, gone.reason) == (STATUS.REVOKED, REASON.KEY_COMPROMISE)


@pytest.mark.parametrize("reason", [REASON.AFFILIATION_CHANGED, REASON.PRIVILEGE_WITHDRAWN, REASON.SUPERSEDED])
def test_a_reason_that_is_an_officers(shared: RegistrationSite, shop: Holder, reason: RevocationReason) -> None:
    message = revocation(shop, reason)
    for _ in range(2):  # the refusal is signed, and stays
        assert refused(shared, message) == (ErrorCode.ROLE_NOT_ALLOWED, "X8", True)
    assert shop.desk().status().status is STATUS.GOOD


def test_the_choke_point_takes_a_holders_order_by_the_certificates_own_key_alone(
    shared: RegistrationSite, shop: Holder
) -> None:
    order = shared.office.revocation(shop.certificate, shared.office.vetter, date=shared.world.now)
    with pytest.raises(RefusedError, match="key of the certificate alone"):
        shared.world.workflow.revoke_own(Actor("merchant:M-1"), order)


class Away:
    """A CA that is away, or dies, before or after it has taken an order."""

    def __init__(self, ca: CertificateAuthority) -> None:
        self.ca = ca
        self.before: BaseException | None = None
        self.after: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ca, name)

    def revoke(self, order: bytes) -> Any:
        if self.before is not None:
            raise self.before
        answer = self.ca.revoke(order)
        if self.after is not None:
            raise self.after
        return answer


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", [KeyboardInterrupt(), Problem(503, "ca-unreachable", "away")])
def test_what_stops_between_two_steps_is_finished_by_the_same_bytes(
    site: RegistrationSite, monkeypatch: pytest.MonkeyPatch, when: str, what: BaseException
) -> None:
    """A process that is killed at the CA, and a CA that does not answer: once revoked, once told."""
    shop = Holder.merchant(site)
    away = Away(site.world.workflow.authority)
    monkeypatch.setattr(site.world.workflow.desk, "authority", away)
    desk = shop.desk()
    request = desk.revocation(REASON.KEY_COMPROMISE)
    setattr(away, when, what)
    with pytest.raises(type(what)):
        site.desk.answer(OPERATOR, request)
    setattr(away, when, None)
    site.world.clock.forward(5 * MINUTE)
    assert desk.revoke(request).status is STATUS.REVOKED
    assert site.world.store.application(shop.application_id).state is State.REVOKED or when == "after"
    site.world.workflow.sweep()
    assert site.world.store.application(shop.application_id).state is State.REVOKED
    assert len(history(shop)) == 1


def test_nobody_is_told_anything_while_the_ca_is_away(
    shared: RegistrationSite, shop: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = build_status_request(shop.certificate, rrpid=b"\x08" * 20, chall=bytes(32), now=shared.world.now)
    message = draft.message(shop.sign(draft.content_type, draft.content))

    def away(*_: object) -> None:
        raise Problem(503, "ca-unreachable", "away")

    with monkeypatch.context() as patched:
        patched.setattr(shared.world.workflow.authority, "look_up", away)
        assert shared.http.post(PATH, content=message, headers=HEADERS).status_code == 503
    assert unwrap(post(shared, message), expected=[CT_CERT_INQ_RES]).rrpid == b"\x08" * 20


# --- renew ---


def test_a_merchant_has_its_certificate_renewed_for_a_new_key(site: RegistrationSite) -> None:
    shop, key = Holder.merchant(site), p256()
    desk, request = shop.desk(), shop.renewal(key)
    waiting = desk.renew(request)
    assert (waiting.body.status, waiting.chain) == (RegistrationStatus.PENDING, ())
    application = site.world.store.application(waiting.body.application)
    assert (application.state, application.step, application.replaces) == (
        State.VETTING,
        "approve",
        shop.application_id,
    )
    site.world.clock.forward(60 * MINUTE)
    assert desk.renew(request).body.application == application.id
    site.world.decide(application.id, "approve", site.office.approver)
    found = desk.renew(request)
    assert found.body.status is RegistrationStatus.ISSUED
    assert spki_sha256(found.chain[0].public_key()) == spki_sha256(key.public_key())
    assert found.chain[0].subject == shop.certificate.subject
    answer = post(site, request)
    site.world.clock.forward(60 * MINUTE)
    assert post(site, request) == answer
    assert len(site.world.store.applications()) == 2
    with site.as_caller(Caller("service", "operator")) as operator:
        shown = operator.get(f"/v1/applications/{application.id}/registration-request").content
    assert shown == unwrap(request, expected=[CT_RENEW_REQ]).body
    # the next certificate's holder is the same one: it asks about the older one
    renewed = Holder(site, application.id, key)
    draft = build_status_request(shop.certificate, rrpid=b"\x09" * 20, chall=bytes(32), now=site.world.now)
    assert unwrap(
        post(site, draft.message(renewed.sign(draft.content_type, draft.content))), expected=[CT_CERT_INQ_RES]
    )


def test_a_certificate_is_renewed_once_at_a_time(shared: RegistrationSite, other: Holder) -> None:
    desk, request = other.desk(), other.renewal()
    first = desk.renew(request)
    assert refused(shared, other.renewal()) == (ErrorCode.ROLE_NOT_ALLOWED, "X8", True)
    assert desk.renew(request).body.application == first.body.application


def test_many_times_at_once(site: RegistrationSite) -> None:
    shop = Holder.merchant(site)
    request, answers = shop.renewal(), list[bytes]()
    threads = [threading.Thread(target=lambda: answers.append(site.desk.answer(OPERATOR, request))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 5
    assert len(site.world.store.applications()) == 2


def test_cardholders_apply_anew_for_each_certificate(shared: RegistrationSite) -> None:
    card = Holder.card(shared)
    assert refused(shared, card.renewal()) == (ErrorCode.ROLE_NOT_ALLOWED, "X8", True)


def test_a_chain_of_renewals_grows_too_old(site: RegistrationSite, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Holder.merchant(site)
    rule = site.office.pack.classes["merchant"].rekey
    assert rule is not None
    monkeypatch.setattr("ra.intake.oldest_check", lambda _: site.world.now - rule.max_chain_age - MINUTE)
    assert refused(site, shop.renewal()) == (ErrorCode.ROLE_NOT_ALLOWED, "X8", True)
    assert len(site.world.store.applications()) == 1


@pytest.mark.parametrize("step", ["open", "add_evidence", "submit"])
def test_a_renewal_that_was_killed_goes_on(site: RegistrationSite, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    shop = Holder.merchant(site)
    request = shop.renewal()

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(site.world.workflow, step, die)
        with pytest.raises(KeyboardInterrupt):
            site.desk.answer(OPERATOR, request)
    site.world.clock.forward(10 * MINUTE)
    application = shop.desk().renew(request).body.application
    assert site.world.store.application(application).state is State.VETTING
    assert [each.kind for each in site.world.store.evidence(application)] == ["old_key"]
    assert len(site.world.store.applications()) == 2


def test_on_postgresql(tmp_path: Path, office: Office) -> None:
    site = RegistrationSite(tmp_path, office, database=ra_database("postgresql", tmp_path))
    shop = Holder.merchant(site)
    desk, request = shop.desk(), shop.renewal()
    assert desk.renew(request).body.status is RegistrationStatus.PENDING
    order = desk.revocation(REASON.KEY_COMPROMISE)
    assert desk.revoke(order).status is STATUS.REVOKED
    assert post(site, order) == post(site, order)
    assert desk.status().status is STATUS.REVOKED
    site.close()
