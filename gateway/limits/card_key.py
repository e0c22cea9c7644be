"""The key by which cards are told apart: it is in the key service's token, and this database knows which one it is.

With every order that it opens, the key service tells a digest of the card number, and of what version of its key. A
card's digest under another key is another digest: what the card has used is not found again, and each of its windows
begins anew. That must not happen unseen, nor because a gateway was pointed at another key service. So it is written
down which version was taken up when, and

    the version in use         orders are counted by it
    a higher one               it is taken up, with an alarm: the rules of cards begin anew, once
    a lower one                is still counted by for a moment, for orders that were opened before; then refused
    the same, another key      refused: this is another token. Its operator rotates the key beyond the version in use

An order that is refused so was not sent, and its merchant may try again. Where two rotations meet, or two gateways,
the table's key decides.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol

from sqlalchemy import Connection, select

from gateway.errors import CardKeyError
from gateway.limits.tables import card_keys
from runtime.after_commit import after_commit
from runtime.database import insert_new
from runtime.logging import get_logger

KEPT: Final = timedelta(minutes=1)
"""How long a version is believed without looking, and how long the one before still counts."""
_log = get_logger("gateway.limits")


class ToldCard(Protocol):
    """What the key service tells of the key with each card."""

    @property
    def card_key_version(self) -> int: ...
    @property
    def card_key_check(self) -> bytes: ...


class CardKey:
    """What this gateway has found out last; `look` is to be asked only if `knows` says no."""

    def __init__(self) -> None:
        self._seen: tuple[int, bytes] | None = None
        self._until: datetime | None = None

    def knows(self, told: ToldCard, now: datetime) -> bool:
        """Whether this key was found to be the right one just now."""
        same = self._seen is not None and self._seen == (told.card_key_version, told.card_key_check)
        return same and self._until is not None and self._until - KEPT <= now < self._until

    def look(self, told: ToldCard, now: datetime) -> Callable[[Connection], None]:
        """A transaction that takes the key up or raises CardKeyError."""

        def job(connection: Connection) -> None:
            take_up(connection, told.card_key_version, told.card_key_check, now)

        return job

    def found(self, told: ToldCard, now: datetime) -> None:
        """`look` found the key right."""
        self._seen, self._until = (told.card_key_version, told.card_key_check), now + KEPT


def take_up(connection: Connection, version: int, check_value: bytes, now: datetime) -> None:
    """Have the database know this version of the key; part of the caller's transaction.

    :raises CardKeyError: the database knows this version as another key, or a later version since a while.
    """
    before = connection.execute(select(card_keys).order_by(card_keys.c.version.desc()).limit(1)).first()
    if before is None or before.version < version:
        if insert_new(connection, card_keys, version=version, check_value=check_value, since=now):
            if before is not None:
                told = {"version": version, "alarm": True}
                after_commit(
                    connection, partial(_log.error, "cards have another key: what they used is counted anew", **told)
                )
            return
    elif before.version > version and now > before.since + KEPT:
        raise CardKeyError(f"cards are told apart by version {before.version} of the key, not by {version} any more")
    held = connection.execute(select(card_keys.c.check_value).where(card_keys.c.version == version)).scalar()
    if held is None or not hmac.compare_digest(held, check_value):
        raise CardKeyError(f"the database knows another key of cards as version {version}: rotate it beyond that")
