"""A notice as an e-mail: text and simple HTML, in UTF-8, in the recipient's language and direction.

    Message-ID              the same in every attempt
    X-KWBP-Notice-Id        the notice; X-KWBP-Notice-Event: what it tells of
    X-KWBP-Notice-Repeat    from the second attempt on, its number: the message may be there already

Headers are of our own words and of addresses without anything that a header could mean (`ra.notices.contacts`); the
`email` package refuses a line break in any of them.
"""

from __future__ import annotations

from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape
from typing import Final

from ra.notices.outbox import StoredNotice
from ra.notices.templates import Told, tell

REPEAT: Final = "X-KWBP-Notice-Repeat"


def message(notice: StoredNotice, *, sender: str) -> EmailMessage:
    """The message of this attempt at a notice (RFC 5322; RFC 3834 for what programs send)."""
    told = tell(notice.event, notice.fields, notice.language, attempt=notice.attempts)
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address(told.sender, addr_spec=sender)
    mail["To"] = notice.recipient
    mail["Subject"] = told.subject
    mail["Date"] = format_datetime(notice.at)
    mail["Message-ID"] = f"<{notice.id}@{sender.partition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-KWBP-Notice-Id"] = notice.id
    mail["X-KWBP-Notice-Event"] = notice.event
    if notice.attempts > 1:
        mail[REPEAT] = str(notice.attempts)
    encoding = "quoted-printable" if told.direction == "ltr" else "base64"
    mail.set_content("\n\n".join(told.paragraphs) + "\n", cte=encoding)
    mail.add_alternative(_html(told), subtype="html", cte=encoding)
    for part in mail.walk():  # after its parts were made: their making moves what is about content
        part["Content-Language"] = told.language.value
    mail.set_boundary(f"=_{notice.id}")
    return mail


def _html(told: Told) -> str:
    paragraphs = "\n".join(f"<p>{escape(each)}</p>" for each in told.paragraphs)
    return (
        "<!DOCTYPE html>\n"
        f'<html lang="{told.language.value}" dir="{told.direction}">\n'
        f'<head><meta charset="utf-8"><title>{escape(told.subject)}</title></head>\n'
        f'<body dir="{told.direction}">\n{paragraphs}\n</body>\n</html>\n'
    )
