"""The courier: takes what is due out of the outbox, one by one, and delivers it.

    claim (the attempt is counted) ──► send ──► note the outcome

A process that is killed between any two of these leaves a notice that is leased; after the lease somebody takes it
again, as a repeat. Whoever cannot be spoken to is left alone for the rest of the round, so that a mail server which is
away costs one attempt of one notice, and keeps nobody else waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from email.message import EmailMessage
from typing import Final, Protocol

from ra.notices.kinds import MAIL
from ra.notices.message import message
from ra.notices.outbox import Outbox, Skipped, StoredNotice
from ra.notices.outcome import Delivered, Failed, Outcome
from runtime.logging import get_logger

MOST: Final = 500
"""Deliveries of one round."""
_log: Final = get_logger("ra.notices")


class Mailer(Protocol):
    """What takes mail: `ra.notices.smtp.SmtpServer`, `ra.notices.spool.Spool`."""

    def send(self, mail: EmailMessage, *, sender: str, recipient: str) -> Outcome: ...


class Poster(Protocol):
    """What takes notices for one webhook: `ra.notices.webhook.Webhook`."""

    def send(self, notice: StoredNotice, now: datetime) -> Outcome: ...


class Courier:
    """Delivers the notices of one outbox."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        sender: str,
        mailer: Mailer,
        webhooks: Mapping[str, Poster],
        still_true: Callable[[StoredNotice], bool],
        clock: Callable[[], datetime],
        passing: Callable[[str], None] = lambda _step: None,
    ) -> None:
        """`still_true`: whether a notice that waited for its time is to be sent. `passing` is told of each step."""
        self._outbox = outbox
        self._sender = sender
        self._mailer = mailer
        self._webhooks = webhooks
        self._still_true = still_true
        self._clock = clock
        self._passing = passing

    def deliver(self) -> int:
        """Deliver what is due, at most `MOST`; returns how many were delivered."""
        mail_away, away = False, set[str]()
        delivered = 0
        for _ in range(MOST):
            notice = self._outbox.claim(self._clock(), skip=Skipped(mail_away, frozenset(away)))
            if notice is None:
                break
            self._passing("claimed")
            outcome = self._attempt(notice)
            self._passing("sent")
            if outcome is None:
                self._outbox.drop(notice, self._clock())
            elif isinstance(outcome, Delivered):
                self._outbox.sent(notice, self._clock())
                delivered += 1
            else:
                self._failed(notice, outcome)
                mail_away |= outcome.away and notice.channel == MAIL
                away |= {notice.recipient} if outcome.away and notice.channel != MAIL else set()
            self._passing("noted")
        return delivered

    def _attempt(self, notice: StoredNotice) -> Outcome | None:
        """None: it is no longer to be sent."""
        try:
            if not self._still_true(notice):
                return None
            if notice.channel == MAIL:
                mail = message(notice, sender=self._sender)
                return self._mailer.send(mail, sender=self._sender, recipient=notice.recipient)
            webhook = self._webhooks.get(notice.recipient)
            if webhook is None:
                return Failed("there is no such webhook any more", for_good=True)
            return webhook.send(notice, self._clock())
        except Exception as error:  # what is wrong with one notice must not keep the others waiting
            return Failed(f"not sent: {type(error).__name__}")

    def _failed(self, notice: StoredNotice, failed: Failed) -> None:
        _log.warning("notice-not-delivered", notice=notice.id, attempt=notice.attempts, trouble=failed.trouble)
        self._outbox.failed(notice, self._clock(), failed.trouble, for_good=failed.for_good)
