"""The store's methods for many, asked about one: for tests that read better so."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

from ca.certificate_store import CertificateRecord
from ca.errors import CaError
from ca.store import Intent, Lease, NewIntent, Store
from cps.application import KnownKeys


def reserve_serial(store: Store, issuer: str, serial: str, now: datetime) -> bool:
    """Whether the serial was never used before; it is ours now."""
    return store.reserve_serials([(issuer, serial)], now) == {(issuer, serial)}


def open_intent(store: Store, new: NewIntent, lease: Lease, now: datetime) -> Intent:
    """The open intent; raises what the store answers."""
    [answer] = store.open_intents([new], lease, now)
    if isinstance(answer, CaError):
        raise answer
    return answer


def finish_intent(store: Store, intent: Intent, certificate: x509.Certificate, now: datetime) -> CertificateRecord:
    """The stored certificate; raises what the store answers."""
    [answer] = store.finish_intents([(intent, certificate)], now)
    if isinstance(answer, CaError):
        raise answer
    return answer


def known_keys(store: Store, keys: list[bytes], *, application_id: str) -> KnownKeys:
    """What is on record about the keys of a case."""
    [known] = store.known_keys([(application_id, keys)])
    return known
