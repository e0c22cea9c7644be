"""The outbox: notices are made of what happened, once each, and wait here until they are delivered or given up.

    WAITING ──► SENT          delivered, or handed to a server that promised to
       │  └───► DROPPED       no longer true when its time came
       └──────► UNDELIVERED   given up; a person may ask for it again

A transition is told of because its own row says so: `derive` reads the rows after a cursor and writes their notices in
one transaction with the cursor. Nothing has to be remembered when a transition is written, so nothing can be forgotten.
What is told by other sources has a key of its own (`Happening.source`), and the same key again changes nothing.

A notice is leased before it is sent, and the attempt is counted with the lease: another replica leaves it alone, and
if this process dies the next attempt says that it is a repeat.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import Connection, Engine, Row, Select, and_, exists, func, or_, select, text, update

from pki.notice import check_fields
from ra import schema
from ra.errors import UnknownError
from ra.notices.contacts import find as contact_of
from ra.notices.directory import Directory, Recipient
from ra.notices.kinds import MAIL, Channel, NoticeState
from ra.notices.rules import Rules
from ra.notices.tables import cursor, notices
from runtime.database import insert_new, reading
from runtime.language import Language

_TRANSITIONS: Final = "transitions"
_AT_ONCE: Final = 200
GIVEN_UP: Final = "the process ended during every attempt"


@dataclass(frozen=True, slots=True)
class Happening:
    """Something to tell of. `source` is its key: it is told once. `not_before`: when, if not at once."""

    source: str
    event: str
    at: datetime
    fields: Mapping[str, str]
    application_id: str | None = None
    waiting: tuple[str, ...] = ()
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredNotice:
    """A notice in the outbox, as the table has it."""

    seq: int
    id: str
    source: str
    event: str
    channel: Channel
    recipient: str
    language: Language
    application_id: str | None
    fields: Mapping[str, str]
    at: datetime
    state: NoticeState
    next_at: datetime
    attempts: int
    failures: int
    leased_until: datetime | None
    ended_at: datetime | None
    trouble: str | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """What not to take for now: all mail, or these webhooks, because nobody answered there a moment ago."""

    mail: bool = False
    webhooks: Collection[str] = field(default=())


_NOTHING: Final = Skipped()

Reader = Callable[[Connection, Row[Any], Rules], Sequence[Happening]]
"""Reads a transition's row, in the transaction of the connection, and says what it is to be told as."""


class Outbox:
    """The notices of one registration authority."""

    def __init__(self, engine: Engine, directory: Directory, rules: Rules) -> None:
        """What happened before there was an outbox is not told of."""
        self._engine = engine
        self._directory = directory
        self.rules: Final = rules
        with engine.begin() as db:
            last = db.execute(select(func.max(schema.transitions.c.seq))).scalar_one_or_none()
            insert_new(db, cursor, name=_TRANSITIONS, position=last or 0)

    # in

    def derive(self, read: Reader) -> int:
        """Write the notices of transitions that none were made of yet; returns how many transitions these were."""
        done = 0
        if (until := self._settled()) is None:
            return 0
        while True:
            with self._engine.begin() as db:
                position = position_of(db, _TRANSITIONS)
                table = schema.transitions
                rows = db.execute(
                    select(table)
                    .where(table.c.seq > position, table.c.seq <= until)
                    .order_by(table.c.seq)
                    .limit(_AT_ONCE)
                ).all()
                if not rows:
                    return done
                for row in rows:
                    for happening in read(db, row, self.rules):
                        self.tell(db, happening)
                move(db, _TRANSITIONS, rows[-1].seq)
            done += len(rows)

    def tell(self, db: Connection, happening: Happening) -> int:
        """Write the notices of a happening, in the transaction of `db`; returns how many were new."""
        event = self.rules.events[happening.event]
        check_fields(happening.fields)
        if not set(event.has) <= happening.fields.keys() <= event.fields:
            raise ValueError(f"the fields of {happening.event} are {sorted(event.fields)}")
        contact = None
        if happening.application_id is not None:
            contact = contact_of(db, happening.application_id)
        recipients = self._directory.of_event(happening.event, event.to, contact=contact, waiting=happening.waiting)
        stream = happening.application_id if event.ordered else None
        return sum(self._add(db, happening, recipient, stream) for recipient in recipients)

    def announce(self, happening: Happening) -> int:
        """As `tell`, in a transaction of its own. The same happening again is told of once."""
        with self._engine.begin() as db:
            return self.tell(db, happening)

    def _settled(self) -> int | None:
        """The number up to which no transition can appear any more; None if there is nothing new.

        PostgreSQL gives numbers out before it commits rows, so a smaller one may appear later. Whoever writes holds
        the table against SHARE until the end of their transaction: once it is had, every number given out is settled.
        """
        latest = select(func.max(schema.transitions.c.seq))
        with reading(self._engine) as db:
            seen = db.execute(select(cursor.c.position).where(cursor.c.name == _TRANSITIONS)).scalar_one()
            if (db.execute(latest).scalar_one_or_none() or 0) <= seen:
                return None
        with self._engine.begin() as db:
            if db.dialect.name == "postgresql":
                db.execute(text(f"LOCK TABLE {schema.transitions.name} IN SHARE MODE"))
            return db.execute(latest).scalar_one_or_none()

    def _add(self, db: Connection, happening: Happening, recipient: Recipient, stream: str | None) -> bool:
        return insert_new(
            db,
            notices,
            id=notice_id(happening.source, happening.event, recipient.channel, recipient.address),
            source=happening.source,
            event=happening.event,
            channel=recipient.channel,
            recipient=recipient.address,
            language=recipient.language.value,
            stream=stream,
            application_id=happening.application_id,
            fields=json.dumps(dict(happening.fields), sort_keys=True),
            at=happening.at,
            state=NoticeState.WAITING.value,
            next_at=happening.not_before or happening.at,
            attempts=0,
            failures=0,
        )

    # out

    def claim(self, now: datetime, *, skip: Skipped = _NOTHING) -> StoredNotice | None:
        """Take the next notice that is due, with its attempt counted; None if there is none.

        Nobody else gets it before the lease ends. Those of one application reach each recipient in their order.
        """
        lease = now + timedelta(seconds=self.rules.delivery.lease)
        while True:
            with self._engine.begin() as db:
                row = db.execute(_due(now, skip)).one_or_none()
                if row is None:
                    return None
                given_up = row.failures >= self.rules.delivery.attempts
                values: dict[str, Any] = {"leased_until": lease, "attempts": row.attempts + 1}
                values["failures"] = row.failures + 1
                if given_up:  # counted, and never told of: each attempt took its process along
                    values = {"state": NoticeState.UNDELIVERED.value, "ended_at": now, "trouble": GIVEN_UP}
                taken = db.execute(
                    update(notices)
                    .where(_is(row), notices.c.state == NoticeState.WAITING.value)
                    .values(**values)
                    .returning(*notices.c)
                ).one_or_none()
            if taken is not None and not given_up:
                return _notice(taken)

    def sent(self, notice: StoredNotice, now: datetime) -> None:
        """Note that a notice was delivered, whoever has it leased by now."""
        self._end(notice, NoticeState.SENT, now, None)

    def drop(self, notice: StoredNotice, now: datetime) -> None:
        """Note that a notice is not sent, because it is no longer true."""
        self._end(notice, NoticeState.DROPPED, now, None)

    def failed(self, notice: StoredNotice, now: datetime, trouble: str, *, for_good: bool = False) -> None:
        """Note that an attempt failed: it waits for its next one, or is given up."""
        if for_good or notice.failures >= self.rules.delivery.attempts:
            self._end(notice, NoticeState.UNDELIVERED, now, trouble)
            return
        pause = timedelta(seconds=self.rules.delivery.pause(notice.failures))
        with self._engine.begin() as db:
            db.execute(
                update(notices)
                .where(_is(notice), notices.c.state == NoticeState.WAITING.value)
                .values(leased_until=None, next_at=now + pause, trouble=trouble)
            )

    def _end(self, notice: StoredNotice, state: NoticeState, now: datetime, trouble: str | None) -> None:
        # What was sent is sent, even if somebody else took it for lost meanwhile.
        late = (NoticeState.WAITING.value, NoticeState.UNDELIVERED.value)
        mine = (
            and_(notices.c.seq == notice.seq, notices.c.state.in_(late))
            if state is NoticeState.SENT
            else and_(_is(notice), notices.c.state == NoticeState.WAITING.value)
        )
        with self._engine.begin() as db:
            db.execute(
                update(notices).where(mine).values(state=state.value, ended_at=now, leased_until=None, trouble=trouble)
            )

    # people

    def listing(self, states: Collection[NoticeState], *, limit: int = 200) -> list[StoredNotice]:
        """Notices in one of the states, newest first."""
        query = select(notices).where(notices.c.state.in_([each.value for each in states]))
        with reading(self._engine) as db:
            return [_notice(row) for row in db.execute(query.order_by(notices.c.seq.desc()).limit(limit)).all()]

    def retry(self, identifier: str | None, now: datetime) -> int:
        """Have an undelivered notice (None: all of them) delivered after all; returns how many. UnknownError."""
        chosen = notices.c.state == NoticeState.UNDELIVERED.value
        if identifier is not None:
            chosen = and_(chosen, notices.c.id == identifier)
        values = {"state": NoticeState.WAITING.value, "failures": 0, "next_at": now, "ended_at": None}
        with self._engine.begin() as db:
            changed = db.execute(update(notices).where(chosen).values(**values)).rowcount
        if identifier is not None and not changed:
            raise UnknownError("there is no such undelivered notice")
        return int(changed)

    def tidy(self, now: datetime) -> int:
        """Forget the addresses of notices that reached their end long ago; returns how many. The rows stay: a source
        that tells of the same again must find them."""
        before = now - timedelta(days=self.rules.delivery.keep_days)
        ended = (NoticeState.SENT.value, NoticeState.DROPPED.value)
        old = (notices.c.state.in_(ended), notices.c.ended_at < before, notices.c.recipient != "")
        with self._engine.begin() as db:
            return int(db.execute(update(notices).where(*old, notices.c.channel == MAIL).values(recipient="")).rowcount)


def position_of(db: Connection, name: str) -> int:
    """How far a source was read; nobody else reads on before this transaction ends."""
    return int(db.execute(select(cursor.c.position).where(cursor.c.name == name).with_for_update()).scalar_one())


def move(db: Connection, name: str, position: int) -> None:
    """Note how far a source was read."""
    db.execute(update(cursor).where(cursor.c.name == name).values(position=position))


def notice_id(source: str, event: str, channel: str, recipient: str) -> str:
    """The identifier of a notice: the same for the same, in every process."""
    told = "\n".join((source, event, channel, recipient))
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _due(now: datetime, skip: Skipped) -> Select[Any]:
    earlier = notices.alias("earlier")
    waits = exists(
        select(earlier.c.seq).where(
            earlier.c.stream == notices.c.stream,
            earlier.c.state == NoticeState.WAITING.value,
            earlier.c.channel == notices.c.channel,
            earlier.c.recipient == notices.c.recipient,
            earlier.c.seq < notices.c.seq,
        )
    )
    query = select(notices).where(
        notices.c.state == NoticeState.WAITING.value,
        notices.c.next_at <= now,
        or_(notices.c.leased_until.is_(None), notices.c.leased_until <= now),
        ~waits,
    )
    if skip.mail:
        query = query.where(notices.c.channel != MAIL)
    if skip.webhooks:
        query = query.where(or_(notices.c.channel == MAIL, notices.c.recipient.not_in(skip.webhooks)))
    return query.order_by(notices.c.next_at, notices.c.seq).limit(1)


def _is(notice: Row[Any] | StoredNotice) -> Any:
    """The notice as it was read: of two who take it, or of one who comes too late, the attempts tell."""
    return and_(notices.c.seq == notice.seq, notices.c.attempts == notice.attempts)


def _notice(row: Row[Any]) -> StoredNotice:
    values = dict(row._mapping)
    del values["stream"]
    values["fields"] = json.loads(row.fields)
    values["state"] = NoticeState(row.state)
    values["language"] = Language(row.language)
    values["channel"] = cast(Channel, row.channel)
    return StoredNotice(**values)
