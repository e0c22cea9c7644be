"""Cardholders by the protocol's own messages: one application a request, no card anywhere but at its bank."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import inspect, select

from kwbp.codes import ErrorCode, RegistrationStatus
from kwbp.error_message import read_error
from kwbp.registration.answer import CheckedAnswer, check_commitment
from kwbp.wrapper import MEDIA_TYPE, unwrap, wrap
from pki.der import sha256
from pki.keys import spki_sha256
from pki.oids import CT_CERT_REQ, CT_ERROR
from pki.roles import Role
from ra import schema
from ra.registration import challenge_secret
from ra.states import State
from runtime.identity import Caller
from runtime.problems import Problem
from shetab.types import Pin
from storefront.errors import NoMessage
from storefront.wallet.registration import RefusedByAuthority
from tests.support.canaries import traces
from tests.support.cps_cases import BIN, Office
from tests.support.ra_world import ANONYMOUS
from tests.support.registration_site import NewCard, RegistrationSite

PATH = "/v1/registration"
HEADERS = {"content-type": MEDIA_TYPE}

WRONG_PIN2 = "846192735046"  # as long as one may be: nowhere by chance


@pytest.fixture
def site(tmp_path: Path, office: Office) -> Iterator[RegistrationSite]:
    made = RegistrationSite(tmp_path, office)
    yield made
    made.close()


def applications(site: RegistrationSite) -> list[State]:
    return [each.state for each in site.world.store.applications()]


def refused(site: RegistrationSite, message: bytes, *, status: int = 200) -> tuple[ErrorCode, str, bool]:
    """Code and check of the Error that answers the message, and whether the authority signed it."""
    response = site.http.post(PATH, content=message, headers=HEADERS)
    assert (response.status_code, response.headers["content-type"]) == (status, MEDIA_TYPE)
    found = unwrap(response.content, expected=[CT_ERROR])
    trust = site.trust(site.world.now)
    error = read_error(found, sent=message, role=Role.SERVICE, trust=trust, now=site.world.now)
    return error.body.error_code, error.body.clause, error.signer is not None


def test_a_card_gets_its_certificate(site: RegistrationSite) -> None:
    card = site.new_card()
    answer = site.enrol(card)
    assert answer.body.status is RegistrationStatus.ISSUED
    leaf = answer.chains["signing"][0]
    assert spki_sha256(leaf.public_key()) == spki_sha256(card.held.key.public_key())
    held = card.held
    assert len(check_commitment(answer, pan=held.pan, expiry=held.expiry, card_secret=held.card_secret)) == 32
    application = site.world.store.application(answer.body.application)
    assert (application.state, application.opened_by) == (State.ISSUED, "registration")


def test_the_same_request_again_is_the_same_application_and_answer(site: RegistrationSite) -> None:
    request = site.request(site.new_card())
    first = site.http.post(PATH, content=request.message, headers=HEADERS).content
    site.world.clock.forward(timedelta(hours=3))  # long after the window of a live message
    again = site.http.post(PATH, content=request.message, headers=HEADERS).content
    assert again == first
    assert applications(site) == [State.ISSUED]
    assert site.banks.asked == 1


def test_many_times_at_once(site: RegistrationSite) -> None:
    request = site.request(site.new_card())
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(site.desk.answer(ANONYMOUS, request.message))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert len(set(answers)) == 1
    assert applications(site) == [State.ISSUED]


class TestCrashes:
    """What a killed process leaves, another one finishes: one application, one attempt at the bank."""

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_at_the_bank(self, tmp_path: Path, office: Office, when: str) -> None:
        site = RegistrationSite(tmp_path, office)
        card = site.new_card()
        request = site.request(card)

        def die() -> None:
            raise KeyboardInterrupt

        setattr(site.banks, when, die)
        with pytest.raises(KeyboardInterrupt):
            site.desk.answer(ANONYMOUS, request.message)
        assert applications(site) == [State.DRAFT]
        site.close()
        restarted = RegistrationSite(tmp_path, office, limits=site.desk.limits)
        answer = restarted.registrar().certificate(request)
        assert answer.body.status is RegistrationStatus.ISSUED
        assert applications(restarted) == [State.ISSUED]
        assert restarted.bank.card(card.issued.card_id).wrong_tries == 0
        restarted.close()

    def test_before_it_is_submitted(self, site: RegistrationSite, monkeypatch: pytest.MonkeyPatch) -> None:
        request = site.request(site.new_card())

        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(site.world.workflow, "submit", die)
            with pytest.raises(KeyboardInterrupt):
                site.desk.answer(ANONYMOUS, request.message)
        answer = site.registrar().certificate(request)
        assert answer.body.status is RegistrationStatus.ISSUED
        assert site.banks.asked == 1
        assert len(site.world.store.evidence(answer.body.application)) == 1


class TestRefusals:
    def test_junk_is_answered_without_a_signature(self, site: RegistrationSite) -> None:
        assert refused(site, b"junk") == (ErrorCode.DECODING_FAILURE, "K1", False)

    def test_a_message_of_another_kind(self, site: RegistrationSite) -> None:
        message = wrap(CT_ERROR, b"\x30\x00", rrpid=bytes(20))
        assert refused(site, message) == (ErrorCode.MESSAGE_NOT_SUPPORTED, "K2", False)

    def test_what_is_no_message(self, site: RegistrationSite) -> None:
        assert site.http.post(PATH, content=b"{}").status_code == 415

    def test_a_bin_of_no_bank(self, site: RegistrationSite) -> None:
        with pytest.raises(RefusedByAuthority) as caught:
            site.registrar().form("123456")
        assert (caught.value.error.code, caught.value.error.check) == (ErrorCode.MESSAGE_NOT_SUPPORTED, "C2")

    def test_a_bank_without_a_certificate(self, site: RegistrationSite) -> None:
        with pytest.raises(NoMessage):
            site.registrar().form("621986")

    def test_wrong_card_data_end_the_application_and_the_refusal_stays(self, site: RegistrationSite) -> None:
        card = site.new_card()
        request = site.request(card, pin2=Pin("00000"))
        for _ in range(3):
            assert refused(site, request.message) == (ErrorCode.UNSPECIFIED_FAILURE, "C9", True)
        assert applications(site) == [State.WITHDRAWN]
        assert site.bank.card(card.issued.card_id).wrong_tries == 1
        assert site.enrol(card).body.status is RegistrationStatus.ISSUED

    def test_another_request_under_the_same_rrpid(self, site: RegistrationSite) -> None:
        request = site.request(site.new_card())
        site.registrar().certificate(request)
        other = site.request(site.new_card())
        inner = unwrap(other.message, expected=[CT_CERT_REQ])
        rrpid = unwrap(request.message, expected=[CT_CERT_REQ]).rrpid
        assert refused(site, wrap(CT_CERT_REQ, inner.body, rrpid=rrpid))[:2] == (
            ErrorCode.WRAPPER_MSG_MISMATCH,
            "K2",
        )

    def test_a_key_that_was_certified_before(self, site: RegistrationSite) -> None:
        card = site.new_card()
        site.enrol(card)
        assert refused(site, site.request(card).message) == (ErrorCode.INVALID_CERTIFICATE, "C6", False)
        assert applications(site) == [State.ISSUED]

    def test_a_challenge_of_another_authority(self, site: RegistrationSite) -> None:
        request = site.request(site.new_card())
        site.desk.secret = bytes(32)  # type: ignore[misc]  # as if another authority had given it out
        assert refused(site, request.message) == (ErrorCode.CHALLENGE_MISMATCH, "C3", False)
        assert applications(site) == []

    def test_an_old_request_that_nobody_saw(self, site: RegistrationSite) -> None:
        request = site.request(site.new_card())
        site.world.clock.forward(timedelta(minutes=10))
        assert refused(site, request.message) == (ErrorCode.MESSAGE_TOO_OLD, "K7", False)

    def test_one_card_is_certified_so_often_and_another_one_still_is(self, site: RegistrationSite) -> None:
        card = site.new_card()
        for _ in range(site.desk.limits.cards.burst):
            assert site.enrol(site.other_key(card)).body.status is RegistrationStatus.ISSUED
        request = site.request(site.other_key(card))
        assert refused(site, request.message, status=429) == (ErrorCode.RATE_LIMITED, "C7", False)
        assert site.enrol(site.new_card()).body.status is RegistrationStatus.ISSUED

    def test_a_bank_that_has_enough_of_a_card(self, site: RegistrationSite) -> None:
        card = site.new_card()
        for _ in range(2):
            refused(site, site.request(card, pin2=Pin("00000")).message)
        for _ in range(3):
            site.enrol(site.other_key(card))
        request = site.request(site.other_key(card))
        response = site.http.post(PATH, content=request.message, headers=HEADERS)
        assert (response.status_code, response.headers["retry-after"]) == (429, str(4 * 3600))
        site.world.clock.forward(timedelta(days=1))
        answer: CheckedAnswer = site.registrar().certificate(request)
        assert answer.body.status is RegistrationStatus.ISSUED

    def test_a_bank_that_is_away(self, site: RegistrationSite) -> None:
        request = site.request(site.new_card())

        def away() -> None:
            raise Problem(503, "bank-unreachable", "away")

        site.banks.before = away
        assert site.http.post(PATH, content=request.message, headers=HEADERS).status_code == 503
        site.banks.before = lambda: None
        assert site.registrar().certificate(request).body.status is RegistrationStatus.ISSUED
        assert applications(site) == [State.ISSUED]


def test_officers_see_the_signed_request(site: RegistrationSite) -> None:
    request = site.request(site.new_card())
    answer = site.registrar().certificate(request)
    path = f"/v1/applications/{answer.body.application}/registration-request"
    assert site.http.get(path).status_code == 401
    with site.as_caller(Caller("service", "operator")) as operator:
        shown = operator.get(path)
        missing = operator.get(f"/v1/applications/{'0' * 32}/registration-request")
    assert sha256(shown.content) == request.sent.digest
    assert missing.status_code == 404


def test_the_challenge_secret_is_kept(tmp_path: Path) -> None:
    made = challenge_secret(tmp_path / "secret", rng=lambda size: bytes(range(size)))
    assert challenge_secret(tmp_path / "secret", rng=lambda size: bytes(size)) == made == bytes(range(32))


def test_no_card_in_any_file_or_log_of_the_authorities(
    site: RegistrationSite, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """The canary: card number, its tail, CardSecret and PIN2 are in no database, journal, log or answer; neither are
    expiry and CVV2, whose few digits are searched for beside each other and under their names."""
    card = site.new_card()
    other = site.new_card()
    answers = [
        site.http.post(PATH, content=site.request(card, pin2=Pin(WRONG_PIN2)).message, headers=HEADERS).content,
        site.http.post(PATH, content=site.request(other).message, headers=HEADERS).content,
    ]
    there = set(inspect(site.world.engine).get_table_names())
    with site.world.engine.begin() as db:
        tables = [table for table in schema.metadata.sorted_tables if table.name in there]
        rows = [repr(row) for table in tables for row in db.execute(select(table)).all()]
    assert {"registrations", "evidence_bodies", "applications"} <= there
    told = capsys.readouterr()
    files = [path for path in site.folder.rglob("*") if path.is_file() and site.home.path not in path.parents]
    assert files
    haystacks = [path.read_bytes() for path in files] + answers
    haystacks += [text.encode() for text in (*rows, caplog.text, told.out, told.err)]
    for each in (card, other):
        for needle in _needles(each):
            assert not any(needle in haystack for haystack in haystacks)
        issued = each.issued
        typed = traces(
            pan=issued.pan.reveal(),
            expiry=issued.expiry.reveal(),
            cvv2=issued.cvv2.reveal(),
            pin2=WRONG_PIN2 if each is card else issued.pin2.reveal(),
        )
        assert not any(typed.search(haystack) for haystack in haystacks)


def _needles(card: NewCard) -> list[bytes]:
    pan, secret = card.issued.pan.reveal(), card.held.card_secret
    return [
        pan.encode(),
        pan[len(BIN) :].encode(),
        WRONG_PIN2.encode(),
        secret,
        secret.hex().encode(),
        repr(secret).encode(),
    ]
