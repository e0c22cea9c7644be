"""Notices are made of what happened once each, wait their turn, and are given up where everybody sees it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert

from pki.errors import NoticeError
from ra import schema
from ra.errors import InvalidSubmissionError, UnknownError
from ra.notices import sources
from ra.notices.contacts import Contact
from ra.notices.kinds import NoticeState
from ra.notices.outbox import GIVEN_UP, Happening, Skipped, notice_id
from runtime.language import Language
from runtime.notice_settings import NoticesSettings
from tests.support.databases import DATABASES, empty_database
from tests.support.notice_book import NOW, ONE, TWO, NoticeBook

MINUTE = timedelta(minutes=1)


@pytest.fixture(params=DATABASES)
def book(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NoticeBook]:
    made = NoticeBook(empty_database(request.param, tmp_path))
    yield made
    made.close()


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[NoticeBook]:
    """On SQLite alone: what the database does not decide."""
    made = NoticeBook(empty_database("sqlite", tmp_path))
    yield made
    made.close()


def told(book: NoticeBook) -> list[tuple[str, str]]:
    return [(each.event, each.recipient) for each in book.all()]


def test_a_transition_is_told_of_once_however_often_it_is_looked_at(book: NoticeBook) -> None:
    book.case(ONE, contact="shop@example.ir")
    book.step(ONE, "submit", "DRAFT", "SCREENING")
    book.step(ONE, "screen", "SCREENING", "RETURNED", {"findings": "CPS 4.2.1 APP-X: no; CPS 6.1.5 KEY: weak"})
    assert book.derive() == 2
    assert book.derive() == 0
    assert told(book) == [("submitted", "shop@example.ir"), ("returned", "shop@example.ir")]
    assert book.all()[1].fields["clauses"] == "CPS 4.2.1, CPS 6.1.5"
    again = NoticeBook(book.engine.url.render_as_string(hide_password=False))
    assert again.derive() == 0
    again.close()


def test_what_happened_before_there_were_notices_is_not_told_of(tmp_path: Path) -> None:
    url = empty_database("sqlite", tmp_path)
    book = NoticeBook(url)
    book.case(ONE, contact="shop@example.ir")
    with book.engine.begin() as db:
        for name in ("notices", "notice_cursor", "notice_contacts"):
            db.execute(schema.metadata.tables[name].delete())
    book.step(ONE, "submit", "DRAFT", "SCREENING")
    book.close()
    book = NoticeBook(url)
    assert (book.derive(), book.all()) == (0, [])
    book.close()


def test_what_is_rolled_back_is_told_to_nobody(book: NoticeBook) -> None:
    book.case(ONE, contact="shop@example.ir")
    with pytest.raises(RuntimeError, match="power cut"), book.engine.begin() as db:
        db.execute(
            insert(schema.transitions).values(
                application_id=ONE,
                action="reject",
                before="VETTING",
                after="REJECTED",
                actor="x",
                at=NOW,
                detail="{}",
                replica="ra",
            )
        )
        raise RuntimeError("power cut")
    assert book.derive() == 0


def test_a_transition_that_is_committed_after_a_later_number_is_not_passed_over(tmp_path: Path) -> None:
    book = NoticeBook(empty_database("postgresql", tmp_path))
    book.case(ONE, contact="shop@example.ir")
    values = {"application_id": ONE, "action": "submit", "before": "DRAFT", "after": "SCREENING"}
    found: list[int] = []
    with book.engine.begin() as slow:
        slow.execute(insert(schema.transitions).values(**values, actor="x", at=NOW, detail="{}", replica="ra"))
        book.step(ONE, "expire", "VETTING", "EXPIRED")  # a higher number, on disk first
        reader = threading.Thread(target=lambda: found.append(book.derive()))
        reader.start()
        reader.join(timeout=0.3)
        assert reader.is_alive()  # it waits for the transaction that has the lower number
    reader.join()
    assert (found, told(book)) == ([2], [("submitted", "shop@example.ir"), ("expired", "shop@example.ir")])
    book.close()


def test_two_replicas_that_look_at_once_write_each_notice_once(book: NoticeBook) -> None:
    book.case(ONE, contact="shop@example.ir")
    for _ in range(20):
        book.step(ONE, "submit", "DRAFT", "SCREENING")
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(book.derive())) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (sum(counts), len(book.all())) == (20, 20)


def test_officers_are_written_to_by_role_and_applicants_only_where_they_gave_an_address(quick: NoticeBook) -> None:
    quick.case(ONE, waiting_for="vetting_officer approving_officer")
    quick.step(ONE, "submit", "DRAFT", "SCREENING")
    quick.step(ONE, "warn", "VETTING", "VETTING", {"clock": "decide", "share": "0.8", "ends": NOW.isoformat()})
    quick.derive()
    assert told(quick) == [("decision_late", "vetting@kwbp.example")]
    assert quick.all()[0].fields["percent"] == "80"


def test_one_person_with_two_roles_is_told_once(tmp_path: Path) -> None:
    address = "both@kwbp.example"
    people = [{"role": role, "address": address} for role in ("vetting_officer", "security_officer")]
    book = NoticeBook(empty_database("sqlite", tmp_path), NoticesSettings.model_validate({"recipients": people}))
    happening = Happening("statement/x", "statement_published", NOW, {"statement": "1.0.0", "since": _time()})
    assert (book.outbox.announce(happening), book.outbox.announce(happening)) == (1, 0)
    book.close()


def _time() -> str:
    return "2027-03-01T09:00:00Z"


def test_a_happening_has_the_fields_that_its_event_declares(quick: NoticeBook) -> None:
    happening = Happening("check/1", "check_unanswered", NOW, {"application": ONE, "check": "iban_owner"})
    with pytest.raises(ValueError, match="member_class"):
        quick.outbox.announce(happening)
    with pytest.raises(NoticeError):
        quick.outbox.announce(replace(happening, fields={**happening.fields, "member_class": "0499370899 said so"}))
    assert quick.outbox.announce(replace(happening, fields={**happening.fields, "member_class": "merchant"})) == 1


def test_a_notice_is_leased_to_one_and_comes_back_counted_if_that_one_dies(book: NoticeBook) -> None:
    book.case(ONE, contact="shop@example.ir")
    book.step(ONE, "submit", "DRAFT", "SCREENING")
    book.derive()
    first = book.outbox.claim(NOW)
    assert first is not None
    assert first.attempts == 1
    assert book.outbox.claim(NOW + 4 * MINUTE) is None
    second = book.outbox.claim(NOW + 5 * MINUTE)
    assert second is not None
    assert (second.id, second.attempts) == (first.id, 2)
    book.outbox.failed(first, NOW + 6 * MINUTE, "too late to say so")
    assert book.outbox.claim(NOW + 9 * MINUTE) is None  # still leased to the second
    book.outbox.sent(first, NOW + 9 * MINUTE)  # what was sent is sent
    assert book.all()[0].state is NoticeState.SENT
    book.outbox.failed(second, NOW + 9 * MINUTE, "refused", for_good=True)
    assert book.all()[0].state is NoticeState.SENT


def test_of_many_who_claim_each_notice_has_one(book: NoticeBook) -> None:
    for number in range(12):
        name = f"{number:032x}"
        book.case(name, contact="shop@example.ir")
        book.step(name, "submit", "DRAFT", "SCREENING")
    book.derive()
    taken: list[str] = []

    def work() -> None:
        while (notice := book.outbox.claim(NOW)) is not None:
            taken.append(notice.id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (len(taken), len(set(taken))) == (12, 12)


def test_those_of_one_application_reach_a_recipient_in_their_order(quick: NoticeBook) -> None:
    for case in (ONE, TWO):
        quick.case(case, contact="shop@example.ir")
        quick.step(case, "submit", "DRAFT", "SCREENING")
        quick.step(case, "expire", "VETTING", "EXPIRED")
    quick.derive()
    first, other = quick.outbox.claim(NOW), quick.outbox.claim(NOW)
    assert first is not None
    assert other is not None
    assert [(each.application_id, each.event) for each in (first, other)] == [(ONE, "submitted"), (TWO, "submitted")]
    quick.outbox.failed(first, NOW, "SMTP 450 to RCPT")
    quick.outbox.sent(other, NOW)
    following = quick.outbox.claim(NOW)
    assert following is not None
    assert (following.application_id, following.event) == (TWO, "expired")
    assert quick.outbox.claim(NOW) is None  # the other case's end waits for its beginning
    quick.outbox.failed(first, NOW, "SMTP 550 to RCPT", for_good=True)
    last = quick.outbox.claim(NOW)
    assert last is not None
    assert (last.application_id, last.event) == (ONE, "expired")


def test_pauses_grow_and_after_the_last_attempt_a_person_must_look(quick: NoticeBook) -> None:
    quick.case(ONE, contact="shop@example.ir")
    quick.step(ONE, "submit", "DRAFT", "SCREENING")
    quick.derive()
    delivery = quick.outbox.rules.delivery
    now, pauses = NOW, []
    for _ in range(delivery.attempts):
        notice = quick.outbox.claim(now)
        assert notice is not None
        quick.outbox.failed(notice, now, "SMTP 450 to RCPT")
        pauses.append((quick.all()[0].next_at - now).total_seconds())
        now = quick.all()[0].next_at
    assert pauses[: len(delivery.pauses)] == list(delivery.pauses)
    assert quick.outbox.claim(now + timedelta(days=30)) is None
    [left] = quick.outbox.listing([NoticeState.UNDELIVERED])
    assert (left.trouble, left.attempts) == ("SMTP 450 to RCPT", delivery.attempts)
    assert quick.outbox.retry(left.id, now) == 1
    again = quick.outbox.claim(now)
    assert again is not None
    assert again.attempts == delivery.attempts + 1
    with pytest.raises(UnknownError):
        quick.outbox.retry(left.id, now)
    assert quick.outbox.retry(None, now) == 0


def test_a_notice_that_takes_every_process_along_is_given_up(quick: NoticeBook) -> None:
    quick.case(ONE, contact="shop@example.ir")
    quick.step(ONE, "submit", "DRAFT", "SCREENING")
    quick.derive()
    now = NOW
    for _ in range(quick.outbox.rules.delivery.attempts):
        assert quick.outbox.claim(now) is not None
        now += 5 * MINUTE
    assert quick.outbox.claim(now) is None
    [left] = quick.outbox.listing([NoticeState.UNDELIVERED])
    assert left.trouble == GIVEN_UP


def test_whoever_is_away_is_passed_over(tmp_path: Path) -> None:
    hooks = {name: {"url": f"https://{name}.example/"} for name in ("desk", "log")}
    people = [{"role": "auditor", "address": "audit@kwbp.example"}]
    settings = NoticesSettings.model_validate({"webhooks": hooks, "recipients": people})
    book = NoticeBook(empty_database("sqlite", tmp_path), settings)
    happening = Happening("statement/x", "statement_published", NOW, {"statement": "1.0.0", "since": _time()})
    assert book.outbox.announce(happening) == 3
    taken = book.outbox.claim(NOW, skip=Skipped(mail=True, webhooks={"desk"}))
    assert taken is not None
    assert taken.recipient == "log"
    assert book.outbox.claim(NOW, skip=Skipped(mail=True, webhooks={"desk"})) is None
    book.close()


def test_addresses_are_forgotten_and_what_was_told_is_not_told_again(quick: NoticeBook) -> None:
    happening = Happening("statement/x", "statement_published", NOW, {"statement": "1.0.0", "since": _time()})
    quick.outbox.announce(happening)
    while (notice := quick.outbox.claim(NOW)) is not None:
        quick.outbox.sent(notice, NOW)
    assert quick.outbox.tidy(NOW + timedelta(days=29)) == 0
    assert quick.outbox.tidy(NOW + timedelta(days=31)) == 2
    assert {each.recipient for each in quick.all()} == {""}
    assert quick.outbox.announce(happening) == 0


def test_a_digest_counts_what_waits_for_each_role_once_a_day(quick: NoticeBook) -> None:
    quick.case(ONE, waiting_for="vetting_officer", opened_at=NOW - timedelta(days=2))
    quick.case(TWO, waiting_for="vetting_officer security_officer", state="AWAITING_APPROVAL")
    quick.case("03" * 16, waiting_for="vetting_officer", state="ISSUED")
    for happening in 2 * sources.waiting_work(quick.engine, NOW):
        quick.outbox.announce(happening)
    found = {each.recipient: (each.fields["role"], each.fields["count"]) for each in quick.all()}
    assert found == {
        "security@kwbp.example": ("security_officer", "1"),
        "vetting@kwbp.example": ("vetting_officer", "2"),
    }
    assert quick.all()[1].fields["since"] == "2027-02-27T09:00:00Z"
    [*_, tomorrow] = sources.waiting_work(quick.engine, NOW + timedelta(days=1))
    assert quick.outbox.announce(tomorrow) == 1


@pytest.mark.parametrize(
    "address",
    ["", "a", "a@", "@b", "a b@c", "a@b\r\nBcc: x@y", "a@b\n", "<a@b>", "a@b>", "a@-b", "a..b@c", "é@b", "a@b,c@d",
     '"a"@b', "a@[127.0.0.1]", "a@" + "b" * 64, "a" * 65 + "@b", "a@b." * 80],
)  # fmt: skip
def test_an_address_is_one_that_means_nothing_else(address: str) -> None:
    with pytest.raises(InvalidSubmissionError):
        Contact(address, Language.EN)


def test_identifiers_tell_everything_apart() -> None:
    assert len({notice_id("a", "b", "c", "d"), notice_id("a", "b", "d", "c"), notice_id("ab", "", "c", "d")}) == 3
