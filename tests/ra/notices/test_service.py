"""The notices of a registration authority at work: from a case's first step to mail in the folder."""

from __future__ import annotations

from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, cast

from cryptography import x509
from starlette.testclient import TestClient

from pki.oids import CT_NOTICE
from ra.app import create_app
from ra.client import NoticeView
from ra.notices.contacts import Contact
from ra.notices.kinds import NoticeState
from ra.notices.outbox import Happening
from ra.notices.service import Notices
from ra.states import State
from ra.submission import Submission
from runtime.identity import Caller
from runtime.language import Language
from runtime.notice_settings import NoticesSettings
from tests.support.cps_cases import csr
from tests.support.pki_factory import p256
from tests.support.ra_world import OPERATOR, RaWorld, as_caller, merchant_subject

PEOPLE = [
    {"role": "vetting_officer", "address": "vetting@kwbp.example", "language": "fa"},
    {"role": "security_officer", "address": "security@kwbp.example"},
]


def notices_of(world: RaWorld, spool: Path, **changes: object) -> Notices:
    settings = {"sender": "ra@kwbp.example", "recipients": PEOPLE, **changes}
    return Notices(
        world.engine,
        NoticesSettings.model_validate(settings),
        spool=spool,
        statement=lambda: world.workflow.pack,
        sign=lambda content: world.office.ra.sign(CT_NOTICE, content, signing_time=world.now),
        clock=world.clock,
    )


def mails(spool: Path) -> dict[tuple[str, str], EmailMessage]:
    """What is in the folder, by event and recipient."""
    found = [
        cast(EmailMessage, message_from_bytes(file.read_bytes(), policy=default)) for file in (spool / "new").iterdir()
    ]
    return {(str(each["X-KWBP-Notice-Event"]), str(each["To"])): each for each in found}


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def certified(world: RaWorld, contact: str = "shop@example.ir", **changes: Any) -> tuple[str, x509.Certificate]:
    """A merchant that gave an address, from opening to certificate."""
    application = world.workflow.open(OPERATOR, "merchant", contact=Contact(contact, Language.FA))
    submission = Submission(merchant_subject(**changes), {"signing": csr(p256())})
    world.workflow.submit(OPERATOR, application.id, submission)
    for kind in ("acquirer_agreement", "company_register", "iban_owner"):
        world.add_document(application.id, kind)
    world.decide(application.id, "vet", world.office.vetter)
    issued = world.decide(application.id, "approve", world.office.approver)
    assert issued.state is State.ISSUED
    [stored] = world.store.certificates(application.id)
    return application.id, x509.load_der_x509_certificate(stored.der)


def test_an_applicant_reads_what_becomes_of_their_case_and_officers_of_orders(world: RaWorld, tmp_path: Path) -> None:
    spool = tmp_path / "notices"
    notices = notices_of(world, spool)
    application, certificate = certified(world)
    assert notices.work() == 5
    assert notices.work() == 0
    told = mails(spool)
    version = world.workflow.pack.cps.version
    assert told.keys() == {
        ("submitted", "shop@example.ir"),
        ("approved", "shop@example.ir"),
        ("issued", "shop@example.ir"),
        ("statement_published", "vetting@kwbp.example"),
        ("statement_published", "security@kwbp.example"),
    }
    assert f"{certificate.serial_number:x}" in text_of(told["issued", "shop@example.ir"])
    assert f"Version {version}" in text_of(told["statement_published", "security@kwbp.example"])
    assert not any(application in text_of(mail) for mail in told.values())

    world.workflow.revoke(OPERATOR, world.office.revocation(certificate, world.office.vetter))
    assert notices.work() == 3
    told = mails(spool)
    alarm = text_of(told["emergency_review", "security@kwbp.example"])
    assert "One person alone ordered" in alarm
    assert f"{certificate.serial_number:x}" in alarm
    assert "keyCompromise" in text_of(told["revoked", "shop@example.ir"])
    assert f"{certificate.serial_number:x}" in text_of(told["revoked", "security@kwbp.example"])


def test_the_end_of_a_certificate_is_told_in_time_and_only_if_it_still_matters(world: RaWorld, tmp_path: Path) -> None:
    notices = notices_of(world, tmp_path / "notices", recipients=[])
    certified(world)
    _other, revoked = certified(world, "other@example.ir", merchant_id="M-2")
    world.workflow.revoke(OPERATOR, world.office.revocation(revoked, world.office.vetter))
    notices.work()
    assert {each.event for each in notices.outbox.listing([NoticeState.WAITING])} == {"certificate_expiring"}
    world.clock.forward((revoked.not_valid_after_utc - revoked.not_valid_before_utc) * 0.81)
    assert notices.work() == 1
    found = [each for each in notices.outbox.listing(list(NoticeState)) if each.event == "certificate_expiring"]
    assert {each.recipient: each.state for each in found} == {
        "shop@example.ir": NoticeState.SENT,
        "other@example.ir": NoticeState.DROPPED,
    }


def test_a_certificate_that_another_one_followed_does_not_end_unnoticed(world: RaWorld, tmp_path: Path) -> None:
    notices = notices_of(world, tmp_path / "notices", recipients=[])
    _first, certificate = certified(world)
    world.clock.forward(timedelta(hours=1))
    certified(world)
    notices.work()
    world.clock.forward((certificate.not_valid_after_utc - certificate.not_valid_before_utc) * 0.81)
    assert notices.work() == 1
    states = [each.state for each in notices.outbox.listing(list(NoticeState)) if each.event == "certificate_expiring"]
    assert states == [NoticeState.SENT, NoticeState.DROPPED]


def test_every_hold_reminder_and_end_comes_from_the_row_that_says_so(world: RaWorld, tmp_path: Path) -> None:
    notices = notices_of(world, tmp_path / "notices", recipients=[])
    application = world.workflow.open(OPERATOR, "merchant", contact=Contact("shop@example.ir", Language.EN))
    world.workflow.submit(OPERATOR, application.id, Submission(merchant_subject(), {"signing": csr(p256())}))
    for _ in range(4):
        lasts = world.workflow.pack.classes["merchant"].sla.request_expires
        world.clock.forward(lasts * 0.3)
        world.workflow.sweep()
    notices.derive()
    events = [each.event for each in notices.outbox.listing(list(NoticeState))][::-1]
    assert events == ["submitted", "expires_soon", "expires_soon", "expired"]
    reminders = [
        each.fields["percent"] for each in notices.outbox.listing(list(NoticeState)) if "percent" in each.fields
    ]
    assert reminders == ["80", "50"]


def test_what_the_journal_held_before_is_not_told_of(world: RaWorld, tmp_path: Path) -> None:
    _application, certificate = certified(world)
    world.workflow.revoke(OPERATOR, world.office.revocation(certificate, world.office.vetter))
    notices = notices_of(world, tmp_path / "notices")
    notices.derive()
    assert {each.event for each in notices.outbox.listing(list(NoticeState))} == {"statement_published"}


def test_work_that_waits_is_told_to_its_role_and_alarms_to_security(world: RaWorld, tmp_path: Path) -> None:
    notices = notices_of(world, tmp_path / "notices")
    world.open_merchant()
    happening = Happening(
        "review/1", "emergency_review", world.now, {"serials": "0a", "due": world.now.strftime("%Y-%m-%dT%H:%M:%SZ")}
    )
    assert [schedule.name for schedule in notices.schedules] == ["notices", "work", "forgetting"]
    for schedule in notices.schedules[::-1]:
        notices.announce(happening)
        schedule.work()
    told = mails(tmp_path / "notices")
    assert told["work_waiting", "vetting@kwbp.example"]["Content-Language"] == "fa"
    assert str(told["emergency_review", "security@kwbp.example"]["Subject"]).startswith("ALARM")


def test_officers_see_what_was_not_delivered_and_have_it_delivered(world: RaWorld, tmp_path: Path) -> None:
    blocked = tmp_path / "notices"
    blocked.write_bytes(b"a file where a folder should be")
    notices = notices_of(world, blocked, recipients=PEOPLE[:1])
    app = create_app(world.workflow, notices=notices)
    operator = TestClient(as_caller(app, Caller("service", "operator")))
    stranger = TestClient(as_caller(app, Caller("merchant", "M-1")))
    notices.derive()
    assert operator.get("/v1/notices").json() == []
    for _ in range(notices.outbox.rules.delivery.attempts):
        assert notices.work() == 0
        world.clock.forward(timedelta(days=1))
    [row] = operator.get("/v1/notices").json()
    shown = NoticeView.model_validate(row)
    assert (shown.event, shown.recipient, shown.state) == (
        "statement_published",
        "v…@kwbp.example",
        NoticeState.UNDELIVERED,
    )
    assert shown.trouble is not None
    assert shown.trouble.startswith("the folder for mail cannot be written")
    assert stranger.get("/v1/notices").status_code == 403
    assert stranger.post("/v1/notices/retry", json={}).status_code == 403
    assert operator.post("/v1/notices/retry", json={"id": "0" * 32}).status_code == 404
    assert operator.post("/v1/notices/retry", json={"id": "x"}).status_code == 422
    blocked.unlink()
    assert operator.post("/v1/notices/retry", json={"id": shown.id}).json() == {"count": 1}
    assert notices.work() == 1
    [mail] = mails(blocked).values()
    assert mail["X-KWBP-Notice-Repeat"] == str(notices.outbox.rules.delivery.attempts + 1)
    [row] = operator.get("/v1/notices", params={"state": "SENT"}).json()
    assert row["id"] == shown.id


def test_an_address_is_taken_when_an_application_is_opened(world: RaWorld, tmp_path: Path) -> None:
    notices = notices_of(world, tmp_path / "notices", recipients=[])
    wallet = TestClient(as_caller(create_app(world.workflow, notices=notices), Caller("service", "operator")))
    opened = wallet.post(
        "/v1/applications", json={"class": "merchant", "contact": "shop@example.ir"}, headers={"accept-language": "fa"}
    )
    assert opened.status_code == 201
    bad = wallet.post("/v1/applications", json={"class": "merchant", "contact": "shop@example.ir\nBcc: x@y"})
    assert bad.status_code == 422
    world.clock.forward(timedelta(days=400))
    world.workflow.sweep()
    notices.work()
    assert mails(tmp_path / "notices")["expired", "shop@example.ir"]["Content-Language"] == "fa"
