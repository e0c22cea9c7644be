"""One-time codes to an applicant's phone: given, sent, typed in (CPS 3.2.3).

A code is computed, never stored: HOTP (RFC 4226) of a key outside the database over the case, the number of the
message and random bytes made for it. So a message whose sending was interrupted is sent again with the same code and
the same key, and nobody who reads the database can type it in. How long a code lives, how often it may be tried and
sent, for one case and for one number, is data (`cps.check_model.CodeCheck`). A try is counted before it is compared.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import Connection, Engine, Row, func, insert, select, update

from cps.check_model import CodeCheck
from ra.checks.connector import Answer, Messenger, NoAnswerError
from ra.checks.tables import phone_numbers, phone_sends, phones
from ra.errors import ConflictError, InvalidSubmissionError, UnknownError, WrongStateError
from runtime.database import insert_new, put, reading
from runtime.logging import get_logger
from runtime.secrets import Secret
from shetab.iran import normalise_digits

_PHONE: Final = re.compile(r"(?:\+98|0098|0)?(9[0-9]{9})")
_CLAUSE: Final = "CPS 3.2.3"
_DAY: Final = timedelta(days=1)
_TEXT: Final = "KWBP: {code}"
_AT_ONCE: Final = 100
_log: Final = get_logger("ra.phone")


def parse_phone(text: str) -> str:
    """An Iranian mobile number as 09 and 9 digits; +98 and Persian digits are understood.

    Raises InvalidSubmissionError.
    """
    matched = _PHONE.fullmatch(normalise_digits(text).strip())
    if matched is None:
        raise InvalidSubmissionError("an Iranian mobile number is expected: 09 and 9 digits", clause=_CLAUSE)
    return f"0{matched[1]}"


@dataclass(frozen=True, slots=True)
class Phone:
    """A number and where its code stands; see `ra.checks.tables`. The number is in no `repr`."""

    application_id: str
    phone: str
    state: str
    version: int
    sends: int
    nonce: str
    tries_left: int
    asked_at: datetime
    expires_at: datetime
    attempts: int
    next_at: datetime
    confirmed_at: datetime | None

    def __repr__(self) -> str:
        return f"Phone({self.application_id!r}, {self.state!r})"


class PhoneCodes:
    """The phones of one registration authority; safe to use from any number of threads."""

    def __init__(
        self,
        engine: Engine,
        messenger: Messenger | None,
        rule: Callable[[], CodeCheck | None],
        *,
        key: Secret,
        rng: Callable[[int], bytes],
        clock: Callable[[], datetime],
    ) -> None:
        """`rule()` is what the statement in force says of codes; `key` has 32 bytes, which are in no database."""
        self._engine = engine
        self._messenger = messenger
        self._rule = rule
        self._key = key
        self._rng = rng
        self._clock = clock

    def close(self) -> None:
        """Let go of connections."""
        if self._messenger is not None:
            self._messenger.close()

    # applicants

    def give(self, application_id: str, number: str) -> Phone:
        """Take a number, or the same one again, and send it a code.

        Raises InvalidSubmissionError for what is no Iranian mobile number, WrongStateError for one too many, too soon,
        or after the code was confirmed.
        """
        rule, now, phone = self._required_rule(), self._now, parse_phone(number)
        with self._engine.begin() as db:
            put(db, phone_numbers, phone=phone, asked_at=now)  # the lock under which messages to it are counted
            before = _find(db, application_id)
            self._may_send(db, phone, before, rule, now)
            values = {
                "phone": phone,
                "state": "sending",
                "version": 1 if before is None else before.version + 1,
                "sends": 1 if before is None else before.sends + 1,
                "nonce": self._rng(16).hex(),
                "tries_left": rule.tries,
                "asked_at": now,
                "expires_at": now + rule.lifetime,
                "attempts": 0,
                "next_at": now,
                "confirmed_at": None,
            }
            if before is None:
                taken = insert_new(db, phones, application_id=application_id, **values)
            else:
                taken = _change(db, before, values)
            if not taken:
                raise ConflictError("another number was given meanwhile: read it again")
            db.execute(insert(phone_sends).values(phone=phone, at=now))
        given = self._read(application_id)
        assert given is not None  # just written
        self._deliver(given)
        return self._read(application_id) or given

    def confirm(self, application_id: str, code: str) -> Phone:
        """Take the code that the applicant typed in.

        Raises UnknownError if no number was given, WrongStateError if there is no code to be tried (any more),
        InvalidSubmissionError for a wrong one.
        """
        rule, now = self._required_rule(), self._now
        phone = self._read(application_id)
        if phone is None:
            raise UnknownError("no phone number was given")
        if phone.state == "confirmed":
            return phone
        if phone.tries_left == 0 or now >= phone.expires_at or phone.state == "spent":
            raise WrongStateError("this code cannot be tried any more; ask for another one")
        left = phone.tries_left - 1
        right = hmac.compare_digest(self._code(phone, rule.digits).encode(), normalise_digits(code).strip().encode())
        counted: dict[str, Any] = {"tries_left": left, "version": phone.version + 1}
        with self._engine.begin() as db:
            if not _change(db, phone, counted):
                raise ConflictError("another code was tried meanwhile: try again")
        phone = self._read(application_id) or phone
        if right:
            self._become(phone, state="confirmed", confirmed_at=now)
            return self._read(application_id) or phone
        if left == 0 and phone.sends >= rule.sends:
            self._become(phone, state="spent")
        raise InvalidSubmissionError("this is not the code that was sent; {left} tries left", clause=_CLAUSE, left=left)

    # the driver

    def is_same(self, application_id: str, number: str) -> bool:
        """Whether this is the number that was given for the case. Raises InvalidSubmissionError for no number."""
        return parse_phone(number) == self.number(application_id)

    def number(self, application_id: str) -> str | None:
        """The number that was given for a case; None if none was."""
        phone = self._read(application_id)
        return None if phone is None else phone.phone

    def outcome(self, application_id: str) -> Answer | None:
        """What came of the code; None while it may still be typed in."""
        phone = self._read(application_id)
        if phone is not None and phone.state == "confirmed":
            return Answer("confirmed", "", b"confirmed")
        if phone is not None and phone.state == "spent":
            return Answer("contradicted", "wrong_code", b"wrong_code")
        return None

    def deliver_due(self) -> None:
        """Have sent what was not sent yet, while its code is good for something and the statement asks for codes."""
        if self._rule() is None:
            return
        now = self._now
        query = select(phones).where(phones.c.state == "sending", phones.c.next_at <= now)
        with reading(self._engine) as db:
            due = [_phone(row) for row in db.execute(query.order_by(phones.c.next_at).limit(_AT_ONCE))]
        for phone in due:
            self._deliver(phone)

    # inside

    @property
    def _now(self) -> datetime:
        return self._clock().replace(microsecond=0)

    def _required_rule(self) -> CodeCheck:
        rule = self._rule()
        if rule is None:
            raise WrongStateError("the statement in force asks for no code to a phone")
        return rule

    @staticmethod
    def _may_send(db: Connection, phone: str, before: Phone | None, rule: CodeCheck, now: datetime) -> None:
        if before is not None:
            if before.state == "confirmed" and before.phone == phone:
                raise WrongStateError("this number is confirmed already")
            if before.sends >= rule.sends:
                raise WrongStateError("no more codes are sent for this application")
            if now < before.asked_at + rule.resend_after:
                raise WrongStateError("a code was sent a moment ago; ask again later")
        sent = select(func.count()).where(phone_sends.c.phone == phone, phone_sends.c.at > now - _DAY)
        if db.execute(sent).scalar_one() >= rule.daily_sends:
            raise WrongStateError("no more codes are sent to this number today")

    def _deliver(self, phone: Phone) -> None:
        """One try to have the message sent; never raises for a gateway that does not answer."""
        rule, now = self._required_rule(), self._now
        if now >= phone.expires_at:
            self._become(phone, state="sent")  # nobody can use it; the applicant asks for another one
            return
        pause = rule.timeout + rule.pause_after(phone.attempts + 1)
        if not self._become(phone, attempts=phone.attempts + 1, next_at=now + pause):
            return
        claimed = self._read(phone.application_id)
        if claimed is None or claimed.nonce != phone.nonce or self._messenger is None:
            return
        text = _TEXT.format(code=self._code(claimed, rule.digits))
        key = hashlib.sha256(f"{claimed.application_id}/{claimed.sends}/{claimed.nonce}".encode()).hexdigest()[:32]
        try:
            self._messenger.send(claimed.phone, text, key=key, timeout=rule.timeout.total_seconds())
        except NoAnswerError as error:
            _log.warning("not-sent", application=claimed.application_id, tries=claimed.attempts, reason=error.reason)
            return
        self._become(claimed, state="sent", expires_at=self._now + rule.lifetime)

    def _code(self, phone: Phone, digits: int) -> str:
        """RFC 4226 5.3, its counter being what names the message."""
        message = f"{phone.application_id}/{phone.sends}/{phone.nonce}".encode()
        digest = hmac.digest(self._key.reveal(), message, "sha256")
        (number,) = struct.unpack_from(">I", digest, digest[-1] & 0x0F)
        return f"{(number & 0x7FFFFFFF) % 10**digits:0{digits}d}"

    def _become(self, phone: Phone, **values: Any) -> bool:
        with self._engine.begin() as db:
            return _change(db, phone, {**values, "version": phone.version + 1})

    def _read(self, application_id: str) -> Phone | None:
        with reading(self._engine) as db:
            return _find(db, application_id)


def _find(db: Connection, application_id: str) -> Phone | None:
    row = db.execute(select(phones).where(phones.c.application_id == application_id)).one_or_none()
    return None if row is None else _phone(row)


def _change(db: Connection, phone: Phone, values: dict[str, Any]) -> bool:
    """Change a row if nobody has since it was read."""
    own = (phones.c.application_id == phone.application_id, phones.c.version == phone.version)
    return db.execute(update(phones).where(*own).values(**values)).rowcount == 1


def _phone(row: Row[Any]) -> Phone:
    return Phone(**cast("dict[str, Any]", dict(row._mapping)))
