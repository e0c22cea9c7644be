"""An outbox over a database of its own, with cases and transitions put there by hand.

    book = NoticeBook(url, settings)
    book.case("01" * 16, contact="shop@example.ir")
    book.step("01" * 16, "decide", "AWAITING_APPROVAL", "REJECTED")
    book.derive()

It is also what processes do, to be killed while they deliver: for each line `DATABASE SPOOL STEP MINUTES` that comes
in, a child that stands still when it first passes the step, and says so.

    python -m tests.support.notice_book
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, update

from ra import schema
from ra.database import bring_up_to_date
from ra.notices import sources
from ra.notices.contacts import Contact, put
from ra.notices.courier import Courier, Mailer, Poster
from ra.notices.directory import Directory
from ra.notices.kinds import NoticeState
from ra.notices.outbox import Outbox, StoredNotice
from ra.notices.rules import rules
from ra.notices.spool import Spool
from ra.queue import cell_of
from runtime.database import open_database
from runtime.language import Language
from runtime.notice_settings import NoticesSettings

NOW = datetime(2027, 3, 1, 9, tzinfo=UTC)
ONE, TWO = "01" * 16, "02" * 16
OFFICERS = NoticesSettings.model_validate(
    {
        "sender": "ra@kwbp.example",
        "recipients": [
            {"role": "vetting_officer", "address": "vetting@kwbp.example"},
            {"role": "security_officer", "address": "security@kwbp.example", "language": "fa"},
        ],
    }
)


class NoticeBook:
    """The outbox, and a clock that stands until it is set."""

    def __init__(self, url: str, settings: NoticesSettings = OFFICERS) -> None:
        self.engine = open_database(url)
        bring_up_to_date(self.engine)
        self.settings = settings
        self.outbox = Outbox(self.engine, Directory(settings), rules())
        self.now = NOW

    def close(self) -> None:
        self.engine.dispose()

    def case(self, application_id: str, *, contact: str | None = None, language: str = "en", **columns: Any) -> None:
        values: dict[str, Any] = {
            "id": application_id,
            "member_class": "merchant",
            "state": "VETTING",
            "version": 1,
            "opened_by": "service:operator",
            "opened_at": NOW,
            "due_from": NOW,
            "due_at": NOW + timedelta(days=7),
            "due_warned": 0,
            "decide_warned": 0,
            **columns,
        }
        with self.engine.begin() as db:
            cell = cell_of(db, values["state"], values["member_class"], None, values.get("waiting_for"))
            db.execute(insert(schema.applications).values(**values, cell=cell, urgent_at=values["due_at"]))
            if contact is not None:
                put(db, application_id, Contact(contact, Language(language)), NOW)

    def change(self, application_id: str, **columns: Any) -> None:
        with self.engine.begin() as db:
            db.execute(update(schema.applications).where(schema.applications.c.id == application_id).values(columns))

    def step(
        self, application_id: str, action: str, before: str, after: str, detail: Mapping[str, str] | None = None
    ) -> None:
        values = {"action": action, "before": before, "after": after, "actor": "service:ra", "at": self.now}
        with self.engine.begin() as db:
            db.execute(
                insert(schema.transitions).values(
                    application_id=application_id, detail=json.dumps(dict(detail or {})), replica="ra", **values
                )
            )

    def derive(self) -> int:
        return self.outbox.derive(sources.of_transition)

    def all(self) -> list[StoredNotice]:
        """Every notice, oldest first."""
        return self.outbox.listing(list(NoticeState))[::-1]

    def courier(self, mailer: Mailer, webhooks: Mapping[str, Poster] | None = None, **more: Any) -> Courier:
        return Courier(
            self.outbox,
            sender=self.settings.sender,
            mailer=mailer,
            webhooks=webhooks or {},
            still_true=lambda notice: sources.still_true(self.engine, notice.event, notice.application_id),
            clock=lambda: self.now,
            **more,
        )


def work(database: str, spool: str, step: str, minutes: str) -> None:
    """Derive and deliver, and stand still at a step until killed."""
    book = NoticeBook(database)
    book.now = NOW + timedelta(minutes=int(minutes))

    def passing(reached: str) -> None:
        if reached == step:
            print(f"reached {os.getpid()}", flush=True)
            time.sleep(600)

    passing("begun")
    book.derive()
    passing("derived")
    book.courier(Spool(Path(spool)), passing=passing).deliver()


def main() -> None:
    """A child for each line; they have the imports of this process, and nothing that was opened."""
    while line := sys.stdin.readline():
        if os.fork() == 0:
            work(*line.split())
            os._exit(0)
        _child, status = os.wait()
        print("killed" if os.WIFSIGNALED(status) else f"ended {status}", flush=True)


if __name__ == "__main__":
    main()
