"""The roots that a wallet believes: the one it was made with, and those that followed it (RFC 8649, `pki.rollover`).

    root      the oldest root that is believed, PEM
    roots     those after it, in their order; the newest decides which one may follow
    dropped   roots that were believed once, and are not any more

A next root is taken from wherever it comes, because the newest one names its key. It is kept in the wallet's own file:
what a repository shows tomorrow takes it away no more than it brought it. A root that was dropped does not come back,
one that skips a generation does not come in, and every other is a stranger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pki.errors import CertificateError, RolloverError
from pki.rollover import check_next_root, next_roots
from runtime.language import Term
from storefront.errors import RootRefused


def first(root: x509.Certificate) -> dict[str, Any]:
    """What a new wallet keeps."""
    return {"root": _pem(root)}


def pinned(document: Mapping[str, Any]) -> tuple[x509.Certificate, ...]:
    """The roots that are believed, the oldest first."""
    return tuple(_read(each) for each in (document["root"], *document.get("roots", ())))


def following(document: Mapping[str, Any], found: Sequence[x509.Certificate], now: datetime) -> list[x509.Certificate]:
    """Those of the certificates found, in any order, that follow the newest root one after the other at `now`."""
    return list(next_roots(pinned(document)[-1], found, now=now))


def accept(
    document: dict[str, Any], candidate: x509.Certificate, *, now: datetime, known: Sequence[x509.Certificate] = ()
) -> None:
    """Believe the root that follows the newest one. `known`: other roots at hand; they serve to say what is wrong.

    :raises RootRefused: it is not that one.
    """
    before = [_read(each) for each in document.get("dropped", ())]
    believed = pinned(document)
    try:
        check_next_root(believed[-1], candidate, now=now, known=[*before, *believed, *known])
    except (RolloverError, CertificateError) as error:
        why = Term("root", error.reason, f"{error.detail} ({error.reason})")
        raise RootRefused("this root is not believed: {reason}", reason=why) from None
    document["roots"] = [*document.get("roots", ()), _pem(candidate)]


def drop_older(document: dict[str, Any]) -> tuple[x509.Certificate, ...]:
    """Believe the newest root alone; returns those that are not believed any more."""
    *older, newest = pinned(document)
    document["dropped"] = [*document.get("dropped", ()), *(_pem(each) for each in older)]
    document["root"], document["roots"] = _pem(newest), []
    return tuple(older)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _read(pem: object) -> x509.Certificate:
    return x509.load_pem_x509_certificate(str(pem).encode())
