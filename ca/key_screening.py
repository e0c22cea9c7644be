"""Keys are screened once more when they are about to be certified: against all others that ever were (CPS 6.1.6).

That a key is large enough and has no weakness of its own is `pki.keys`; that it is nobody else's and not denied is a
constraint of the database (`ca.store`). What remains is that it shares no prime with another, for which all RSA moduli
are kept. A modulus is on record before it is held against the others, so that of two that come at the same moment, to
two replicas, one at least meets the other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from sqlalchemy import Engine, select

from ca import tables
from ca.errors import KeyRefusedError
from ca.shared_factors import SharedFactors
from pki.keys import spki_sha256
from runtime.database import insert_new, reading
from runtime.language import Message

_LATE: Final = 1_000
"""Rows that are read again: numbers are given before transactions end, so a lower one may appear after a higher."""


class KeyScreening:
    """The RSA moduli of one certificate authority's database. Safe for threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known = SharedFactors()
        self._lock = threading.Lock()
        self._last = 0

    def require_unshared(self, keys: Sequence[PublicKeyTypes]) -> None:
        """Raises KeyRefusedError if one of `keys` has a prime in common with another key that was screened here."""
        moduli = [key.public_numbers().n for key in keys if isinstance(key, rsa.RSAPublicKey)]
        if not moduli:
            return
        self.remember(keys)
        self._catch_up()
        if any(factor is not None for factor in self._known.find_many(moduli)):
            raise KeyRefusedError(
                Message("this key shares a prime with another one: whoever finds that has both private keys"),
                clause="CPS 6.1.6",
            )

    def remember(self, keys: Iterable[PublicKeyTypes]) -> None:
        """Take keys on record, so that later ones are held against them."""
        rows = {
            spki_sha256(key).hex(): key.public_numbers().n.to_bytes((key.key_size + 7) // 8, "big")
            for key in keys
            if isinstance(key, rsa.RSAPublicKey)
        }
        if not rows:
            return
        column = tables.rsa_moduli.c.spki_sha256
        with reading(self._engine) as db:
            known = set(db.execute(select(column).where(column.in_(list(rows)))).scalars())
        if known == rows.keys():
            return
        with self._engine.begin() as db:
            for digest, modulus in rows.items():
                insert_new(db, tables.rsa_moduli, spki_sha256=digest, modulus=modulus)

    def _catch_up(self) -> None:
        """Read what came since, from this replica or another."""
        row = tables.rsa_moduli.c
        with self._lock:
            query = select(row.id, row.modulus).where(row.id > self._last - _LATE).order_by(row.id)
            with reading(self._engine) as db:
                for number, modulus in db.execute(query):
                    self._known.add([int.from_bytes(modulus, "big")])
                    self._last = max(self._last, number)
