"""The revocation lists by which something about an order was judged: kept by content, once each.

They are long, and nearly always those of the order before. What is known to be in the book is not brought there again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from sqlalchemy import Connection

from pki.der import sha256
from runtime.database import insert_all_new
from storefront.merchant.schema import crls, order_crls

_MOST_KNOWN: Final = 1024


class JudgedBy:
    """Lists that go into the book with an order. `known`: digests of those that are there for certain."""

    def __init__(self, ders: Iterable[bytes], known: Collection[bytes] = ()) -> None:
        found = {sha256(der): der for der in ders}
        self.digests: Final = tuple(found)
        self._new: Final = [{"sha256": digest, "der": der} for digest, der in found.items() if digest not in known]

    def put(self, connection: Connection, xid: bytes) -> None:
        """Keep them with the order, in the caller's transaction."""
        insert_all_new(connection, crls, self._new)
        insert_all_new(connection, order_crls, [{"xid": xid, "sha256": digest} for digest in self.digests])


class KnownLists:
    """What is in the book for certain: lists whose transaction is on the disk. They are never deleted."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()

    def judged_by(self, ders: Iterable[bytes]) -> JudgedBy:
        """The lists (DER) to put into the book with an order."""
        return JudgedBy(ders, self._known)

    def committed(self, lists: JudgedBy) -> None:
        """The transaction that put them is on the disk."""
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.update(lists.digests)
