"""A message reads in its language and direction, says when it is a repeat, and holds nothing that a person wrote."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import cast

import pytest

from ra.notices.message import message
from ra.notices.outbox import StoredNotice
from runtime.language import Language
from tests.support.notice_book import NOW, ONE, NoticeBook

PLANTED = ("6037701689095443", "0499370899", "IR820540102680020817909002", "123456")
SENDER = "ra@kwbp.example"


@pytest.fixture
def book(tmp_path: Path) -> Iterator[NoticeBook]:
    made = NoticeBook(f"sqlite:///{tmp_path / 'ra.db'}")
    yield made
    made.close()


def claimed(book: NoticeBook, language: str = "en") -> StoredNotice:
    book.case(ONE, contact="shop@example.ir", language=language)
    book.step(ONE, "submit", "DRAFT", "SCREENING")
    book.derive()
    notice = book.outbox.claim(NOW)
    assert notice is not None
    return notice


def received(mail: EmailMessage) -> EmailMessage:
    """As a reader of mail has it."""
    return cast(EmailMessage, message_from_bytes(mail.as_bytes(), policy=default))


def part(mail: EmailMessage, kind: str) -> str:
    body = mail.get_body((kind,))
    assert body is not None
    return str(body.get_content())


@pytest.mark.parametrize(("tag", "direction", "word"), [("en", "ltr", "merchant"), ("fa", "rtl", "پذیرنده")])
def test_text_and_html_in_the_recipients_language(book: NoticeBook, tag: str, direction: str, word: str) -> None:
    notice = claimed(book, tag)
    raw = message(notice, sender=SENDER).as_bytes()
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998  # RFC 5322 2.1.1
    mail = received(message(notice, sender=SENDER))
    assert mail.get_content_type() == "multipart/alternative"
    assert word in part(mail, "plain")
    assert f'<html lang="{tag}" dir="{direction}">' in part(mail, "html")
    assert word in part(mail, "html")
    assert mail["Content-Language"] == tag
    assert mail["Auto-Submitted"] == "auto-generated"
    assert (mail["To"], mail["From"].addresses[0].addr_spec) == ("shop@example.ir", SENDER)
    assert mail["Date"].datetime == NOW


def test_a_repeat_is_the_same_message_that_says_so(book: NoticeBook) -> None:
    first = claimed(book)
    book.outbox.failed(first, NOW, "the connection was lost")
    second = book.outbox.claim(book.all()[0].next_at)
    assert second is not None
    one, two = (received(message(each, sender=SENDER)) for each in (first, second))
    assert one["Message-ID"] == two["Message-ID"] == f"<{first.id}@kwbp.example>"
    assert (one["X-KWBP-Notice-Repeat"], two["X-KWBP-Notice-Repeat"]) == (None, "2")
    assert "repeat" not in part(one, "plain")
    assert "(attempt 2)" in part(two, "plain")


def test_what_people_wrote_is_in_no_message(book: NoticeBook) -> None:
    """Whoever wrote it: applicants in their forms, officers in their reasons, registers in their answers."""
    book.case(ONE, contact="shop@example.ir", trouble=" ".join(PLANTED), national_code=PLANTED[1])
    book.change(ONE, organisation=PLANTED[0], subject_id=PLANTED[0], waiting_for="vetting_officer")
    for action, before, after in (
        ("submit", "DRAFT", "SCREENING"),
        ("screen", "SCREENING", "RETURNED"),
        ("hold", "VETTING", "ON_HOLD"),
        ("decide", "VETTING", "REJECTED"),
        ("return", "VETTING", "RETURNED"),
        ("fail", "ISSUING", "ISSUE_FAILED"),
        ("expire", "VETTING", "EXPIRED"),
    ):
        planted = " ".join(PLANTED)
        detail = dict.fromkeys(("findings", "reason", "step"), f"CPS 4.2.1 X: {planted} <b>CPS 6.{PLANTED[0]}")
        book.step(ONE, action, before, after, detail)
    book.derive()
    events = set()
    while (notice := book.outbox.claim(NOW)) is not None:
        mail = received(message(notice, sender=SENDER))
        whole = f"{mail.items()} {part(mail, 'plain')} {part(mail, 'html')} {notice.fields}"
        assert not any(each in whole for each in PLANTED)
        events.add(notice.event)
        book.outbox.sent(notice, NOW)
    assert events == {"submitted", "returned", "held", "rejected", "expired"}
    assert book.all()[1].fields["clauses"] == "CPS 4.2.1"


def test_no_header_takes_a_second_line(book: NoticeBook) -> None:
    notice = claimed(book)
    for hostile in ("shop@example.ir\r\nBcc: all@example.ir", "shop@example.ir\nX: y"):
        object.__setattr__(notice, "recipient", hostile)  # as if somebody had written to the database
        with pytest.raises(ValueError, match=r"linefeed|newline"):
            message(notice, sender=SENDER)


def test_html_says_what_the_text_says_and_no_markup(book: NoticeBook) -> None:
    notice = claimed(book)
    object.__setattr__(notice, "fields", {**notice.fields, "member_class": "<script>alert(1)</script>"})
    html = part(received(message(notice, sender=SENDER)), "html")
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert Language.EN.value in html
