"""Founding ceremonies for tests: the product's own, with requests made here and rooms of your choice."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ceremony import Ceremony, Founded, Plan, founding_ceremony, plan, run
from ca.publication import Publication
from cps.packs import published
from hsm_service.service import SigningService
from pki.names import name
from tests.support.pki_factory import Key, p256
from tests.support.software_signing import SoftwareSigning, generate

PUBLICATION = Publication("http://127.0.0.1:7111", published().cps.uri)
OpenRoom = Callable[[], AbstractContextManager[SigningService]]


def request(key: Key, common_name: str = "ignored") -> bytes:
    """A PKCS#10 request (PEM) by `key`."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name(cn=common_name))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def holders(ceremony: Ceremony) -> dict[str, Key]:
    """A key for each request that a ceremony needs."""
    return {title: p256() for title in ceremony.requests}


def planned(ceremony: Ceremony | None = None, keys: Mapping[str, Key] | None = None) -> Plan:
    """The founding ceremony, planned with requests by `keys` (fresh ones unless given)."""
    ceremony = ceremony or founding_ceremony()
    keys = keys or holders(ceremony)
    return plan(ceremony, {title: request(key) for title, key in keys.items()}, PUBLICATION)


@lru_cache(maxsize=1)
def _root_key(algorithm: str) -> Any:
    return generate(algorithm)


def shared_root(algorithm: str) -> Any:
    """Makes keys, but only one RSA-4096 key a test process: making one takes a second."""
    return _root_key(algorithm) if algorithm == "rsa-4096" else generate(algorithm)


@dataclass
class Rooms:
    """The two rooms over software keys; remembers in which order they were opened, and refuses both at once."""

    service: SigningService
    root: SigningService

    def __post_init__(self) -> None:
        self.opened: list[str] = []
        self._inside: str | None = None

    @classmethod
    def software(cls) -> Rooms:
        return cls(SoftwareSigning(make=shared_root), SoftwareSigning(make=shared_root))

    @contextlib.contextmanager
    def service_room(self) -> Any:
        with self._enter("service"):
            yield self.service

    @contextlib.contextmanager
    def root_room(self) -> Any:
        with self._enter("root"):
            yield self.root

    @contextlib.contextmanager
    def _enter(self, room: str) -> Any:
        assert self._inside is None, "two rooms open at once"
        self._inside = room
        self.opened.append(room)
        try:
            yield
        finally:
            self._inside = None


def found(folder: Path, rooms: Rooms, plan: Plan | None = None, **options: Any) -> Founded:
    """Run a ceremony in `rooms` and publish it as `folder`, now."""
    return run(
        plan or planned(),
        service_room=rooms.service_room,
        root_room=rooms.root_room,
        folder=folder,
        rng=os.urandom,
        clock=lambda: datetime.now(UTC),
        **options,
    )
