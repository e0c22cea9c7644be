"""Where an applicant is written to: an address given when the application was opened, or nothing.

    contacts.put(db, application.id, Contact("shop@example.ir", Language.FA), now)     # in the opening's transaction

An address is one that mail systems agree about: ASCII, a dot-atom before the @ and host names after it (RFC 5321
4.1.2). So it can stand in a header and in a command of SMTP and mean nothing else there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from ra.errors import InvalidSubmissionError
from ra.notices.tables import contacts
from runtime.database import put as put_row
from runtime.language import Language

_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
ADDRESS: Final = rf"^(?=.{{3,254}}$)(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*$"
"""What an address looks like; a pattern for `re` with `fullmatch`."""
_ADDRESS: Final = re.compile(ADDRESS)


@dataclass(frozen=True, slots=True)
class Contact:
    """An address and the language that is written to it."""

    address: str
    language: Language

    def __post_init__(self) -> None:
        if _ADDRESS.fullmatch(self.address) is None:
            raise InvalidSubmissionError("this is not an e-mail address that can be written to", clause="CPS 4.1.2")


def put(db: Connection, application_id: str, contact: Contact, now: datetime) -> None:
    """Keep the contact of an application, in the transaction of `db`."""
    values = {"address": contact.address, "language": contact.language.value, "at": now}
    put_row(db, contacts, application_id=application_id, **values)


def find(db: Connection, application_id: str) -> Contact | None:
    """The contact of an application, if it has one."""
    query = select(contacts.c.address, contacts.c.language).where(contacts.c.application_id == application_id)
    row = db.execute(query).one_or_none()
    return None if row is None else Contact(row.address, Language(row.language))
