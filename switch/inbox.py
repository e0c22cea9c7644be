"""The holders' telephones: where the simulator's banks send one-time passwords.

In memory alone, and the newest few of each card: the one place where a password stands in clear, as it would on the
holder's telephone. What was sent before a restart is gone; whoever misses it asks for another one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_KEPT: Final = 8
"""Messages of one card."""
_TELEPHONES: Final = 10_000
_TEXT: Final = (
    "رمز پویا: {password}\nمبلغ: {amount:,} ریال\nپذیرنده: {merchant}\nاعتبار تا {until} UTC. آن را به کسی نگویید.\n"
    "One-time password: {password}\nAmount: {amount:,} rial\nMerchant: {merchant}\nGood until {until} UTC. Tell nobody."
)


@dataclass(frozen=True, slots=True, repr=False)
class ShortMessage:
    """What the holder of a card is told. Has no repr: the password is in it. Amount in rial."""

    card_id: str
    number: str
    password: str
    merchant: str
    amount: int
    valid_until: datetime

    @property
    def text(self) -> str:
        """As it is shown on the telephone."""
        until = f"{self.valid_until.astimezone(UTC):%H:%M:%S}"
        return _TEXT.format(password=self.password, amount=self.amount, merchant=self.merchant, until=until)


class Inbox:
    """All telephones. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: OrderedDict[str, deque[ShortMessage]] = OrderedDict()

    def deliver(self, message: ShortMessage) -> None:
        """Show the message on the holder's telephone."""
        with self._lock:
            self._of.setdefault(message.card_id, deque(maxlen=_KEPT)).append(message)
            self._of.move_to_end(message.card_id)
            if len(self._of) > _TELEPHONES:
                self._of.popitem(last=False)

    def messages(self, card_id: str) -> list[ShortMessage]:
        """The newest messages about a card, oldest first."""
        with self._lock:
            return list(self._of.get(card_id, ()))
