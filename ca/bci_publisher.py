"""Sign and publish the list of all CRLs in force (`pki.bci`): after every new CRL, and before the last one ends.

It is numbered like CRLs are: the number grows, and is never below the time. Where no key for it was founded there is no
such list, which is logged; the CRLs do not wait for it.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Engine, func, select, tuple_

from ca import tables
from ca.crl import next_number
from ca.crl_kinds import FULL
from ca.files import replace_file
from ca.record import Record
from ca.signing import sign_bci
from hsm_service.service import SigningService
from pki.bci import LONGEST_LIFE, Bci, NamedCrl
from runtime.database import insert_new, reading

KEY: Final = "bci"
FILE: Final = "bci.p7s"
_RENEW_BEFORE: Final = LONGEST_LIFE / 2


class BciPublisher:
    """The BCI of one hierarchy."""

    def __init__(
        self, *, engine: Engine, signer: SigningService, record: Record, folder: Path, clock: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._signer = signer
        self._record = record
        self._path = folder / FILE
        self._clock = clock
        self._lock = threading.Lock()
        self._last: Bci | None = None

    def publish(self, shown: Mapping[tuple[str, str], int]) -> None:
        """Sign and show the next one if any list is newer than in the last, or that ends soon; raises as `sign_crl`.

        `shown` are the numbers of the lists that stand in the folder now, by issuer and scope. A replica may have
        stored newer ones: nobody is told of them here before they can be had here.
        """
        with self._lock:
            now, lists = self._clock().replace(microsecond=0), self._in_force(shown)
            last = self._last
            if not lists or (last and last.lists == lists and _lasts(last, now) and self._path.exists()):
                return
            with reading(self._engine) as db:
                highest = db.execute(select(func.max(tables.bcis.c.number))).scalar_one()
            bci = Bci(next_number(highest, now), now, now + LONGEST_LIFE, lists)
            der = sign_bci(self._signer, KEY, bci)
            sha256 = hashlib.sha256(der).hexdigest()
            with self._engine.begin() as db:
                added = insert_new(
                    db,
                    tables.bcis,
                    number=bci.number,
                    sha256=sha256,
                    this_update=bci.this_update,
                    next_update=bci.next_update,
                    der=der,
                )
            if not added:  # a replica took the number: it is asked for anew at the next occasion
                return
            self._record.note("ca.bci", f"bci/{bci.number}", number=str(bci.number), sha256=sha256, lists=len(lists))
            replace_file(self._path, der)
            self._last = bci

    def _in_force(self, shown: Mapping[tuple[str, str], int]) -> tuple[NamedCrl, ...]:
        """The list of each authority and scope; a delta only if it continues the newest full list."""
        row = tables.crls.c
        wanted = [(issuer, number) for (issuer, _scope), number in shown.items()]
        query = select(row.issuer, row.scope, row.number, row.sha256).where(tuple_(row.issuer, row.number).in_(wanted))
        with reading(self._engine) as db:
            rows = db.execute(query).all()
        full = {each.issuer: each.number for each in rows if each.scope == FULL}
        return tuple(
            sorted(
                (
                    NamedCrl(each.issuer, each.scope, each.number, bytes.fromhex(each.sha256))
                    for each in rows
                    if each.scope != "delta" or each.number > full.get(each.issuer, 0)
                ),
                key=lambda each: (each.issuer, each.scope),
            )
        )


def _lasts(bci: Bci, now: datetime) -> bool:
    """Whether half of its life is left, and it has begun: a clock that was fast may have made it."""
    return bci.this_update <= now and bci.next_update - now > _RENEW_BEFORE
