"""What kinds of notices there are: where one stands, and by which way it goes. Imports nothing: clients use it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

Channel = Literal["mail", "webhook"]
MAIL: Final = "mail"
WEBHOOK: Final = "webhook"


class NoticeState(StrEnum):
    """Where a notice stands (`ra.notices.outbox`)."""

    WAITING = "WAITING"
    SENT = "SENT"
    DROPPED = "DROPPED"
    UNDELIVERED = "UNDELIVERED"
