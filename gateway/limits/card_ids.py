"""What tells one card from another without its number: HMAC-SHA256 of the PAN under a key that is in no database.

A card number has so few unknown digits that its plain hash is as good as the number. The key is in a file of the
gateway's secrets, made at the first start; gateways that share a database must share it, and one with another key does
not start. Who has the database and the key can find numbers by trying: they are kept, and backed up, apart.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, select

from gateway.errors import CardKeyError
from gateway.limits.tables import card_id_key
from runtime.database import insert_new
from shetab.types import Pan

FILE: Final = "gateway-card-ids.key"
_BYTES: Final = 32
_CARD: Final = b"kwbp-card-id-v1\0"
_CHECK: Final = b"kwbp-card-id-check-v1\0"


class CardIds:
    """The digests under one key. Has no repr that shows it."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """:param key: 32 random bytes; raises CardKeyError if they are not so many."""
        if len(key) != _BYTES:
            raise CardKeyError(f"the key of card digests has {_BYTES} bytes")
        self._key = key

    @classmethod
    def of(cls, folder: Path, *, rng: Callable[[int], bytes] = os.urandom) -> CardIds:
        """Under the key in this folder, which is made if it is not there."""
        path = folder / FILE
        try:
            return cls(path.read_bytes())
        except FileNotFoundError:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        staged = path.with_name(f"{FILE}.{os.getpid()}")
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, rng(_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(staged, path)  # of two that make it at once the first is kept
        except FileExistsError:
            pass
        finally:
            staged.unlink()
        return cls(path.read_bytes())

    def id_of(self, pan: Pan) -> bytes:
        """32 bytes, the same for the same card."""
        return hmac.digest(self._key, _CARD + pan.reveal().encode("ascii"), sha256)

    def bind(self, connection: Connection) -> None:
        """Have the database know the key by its check value; raises CardKeyError if it knows another."""
        own = hmac.digest(self._key, _CHECK, sha256)[:8]
        insert_new(connection, card_id_key, number=1, check_value=own)
        if not hmac.compare_digest(own, connection.execute(select(card_id_key.c.check_value)).scalar_one()):
            raise CardKeyError(f"the database knows cards by another {FILE}: gateways that share it share that key")
