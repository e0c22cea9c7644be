"""The notices of a registration authority in service: outbox, sources, courier, and when each is looked at.

| schedule   | every      | does                                                        |
| ---------- | ---------- | ----------------------------------------------------------- |
| notices    | 20 s       | writes notices of what happened, and delivers what is due   |
| work       | day, 04:30 | tells each role what waits for it                           |
| forgetting | day, 02:45 | forgets addresses of notices that reached their end long ago |

Each bears being done again and by any replica.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Engine

from cps.model import Pack
from ra.notices import sources
from ra.notices.courier import Courier, Mailer
from ra.notices.directory import Directory
from ra.notices.entry_source import EntrySource
from ra.notices.outbox import Happening, Outbox
from ra.notices.rules import rules
from ra.notices.smtp import SmtpServer
from ra.notices.spool import Spool
from ra.notices.webhook import Sign, Webhook
from runtime.durable import Schedule
from runtime.notice_settings import NoticesSettings

OFTEN: Final = "10,30,50 * * * * *"  # aside of the clock of cases
MORNING: Final = "0 30 4 * * *"  # UTC: before the working day in Iran
NIGHT: Final = "0 45 2 * * *"


class Notices:
    """Everything that has to do with notices."""

    def __init__(
        self,
        engine: Engine,
        settings: NoticesSettings,
        *,
        spool: Path,
        statement: Callable[[], Pack],
        sign: Sign,
        clock: Callable[[], datetime],
    ) -> None:
        """`engine` is the RA's database, whose tables are there; `spool` the folder for mail without a server;
        `statement()` the one in force; `sign` signs the JSON of a notice with the RA's key (CMS, DER)."""
        self._engine = engine
        self._statement = statement
        self._clock = clock
        self._told = b""
        self.outbox: Final = Outbox(engine, Directory(settings), rules())
        self._entries = EntrySource(engine, self._now())
        self.courier: Final = Courier(
            self.outbox,
            sender=settings.sender,
            mailer=_mailer(settings, spool),
            webhooks={name: Webhook(hook, sign) for name, hook in settings.webhooks.items()},
            still_true=lambda notice: sources.still_true(engine, notice.event, notice.application_id),
            clock=self._now,
        )

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """In the order of the table."""
        return (
            Schedule("notices", OFTEN, self.work),
            Schedule("work", MORNING, self.tell_of_work),
            Schedule("forgetting", NIGHT, self.forget),
        )

    def work(self) -> int:
        """Write the notices of what happened and deliver what is due; returns how many were delivered."""
        self.derive()
        return self.courier.deliver()

    def derive(self) -> None:
        """Write the notices of what happened."""
        self.outbox.derive(sources.of_transition)
        self._entries.read(self.outbox, self._now())
        pack = self._statement()
        if pack.digest != self._told:
            self.outbox.announce(sources.statement_in_force(pack, self._now()))
            self._told = pack.digest

    def announce(self, happening: Happening) -> int:
        """Tell of something that neither a transition nor the journal shows; the same again is told once."""
        return self.outbox.announce(happening)

    def tell_of_work(self) -> None:
        """Tell each role what waits for it."""
        for happening in sources.waiting_work(self._engine, self._now()):
            self.outbox.announce(happening)

    def forget(self) -> None:
        """Forget addresses that are not needed any more."""
        self.outbox.tidy(self._now())

    def retry(self, identifier: str | None) -> int:
        """Have an undelivered notice, or all, delivered after all; returns how many. Raises UnknownError."""
        return self.outbox.retry(identifier, self._now())

    def _now(self) -> datetime:
        return self._clock().replace(microsecond=0)


def _mailer(settings: NoticesSettings, spool: Path) -> Mailer:
    if settings.smtp is None:
        return Spool(settings.spool or spool)
    return SmtpServer(settings.smtp, name=settings.sender.partition("@")[2])
