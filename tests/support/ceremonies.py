"""Founding ceremonies for tests: the product's own, with requests made here and rooms of your choice."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ceremony import Ceremony, Founded, Plan, founding_ceremony, load_act, plan, read_standing, run
from ca.ceremony.room import CeremonyRoom
from ca.publication import Publication
from cps.packs import published
from pki.names import name
from tests.support.pki_factory import Key, p256
from tests.support.software_signing import SoftwareSigning, generate

PUBLICATION = Publication("http://127.0.0.1:7111", published().cps.uri)


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


class SharedRoot:
    """Makes keys, of RSA-4096 only the first: making one takes a second. The next root's is on P-384."""

    def __init__(self) -> None:
        self._first = True

    def __call__(self, algorithm: str) -> Any:
        if algorithm != "rsa-4096":
            return generate(algorithm)
        if self._first:
            self._first = False
            return _root_key(algorithm)
        return generate("ec-p384")


@dataclass
class Rooms:
    """The two rooms over software keys; remembers in which order they were opened, and refuses both at once."""

    service: CeremonyRoom
    root: CeremonyRoom

    def __post_init__(self) -> None:
        self.opened: list[str] = []
        self._inside: str | None = None

    @classmethod
    def software(cls) -> Rooms:
        return cls(SoftwareSigning(make=SharedRoot()), SoftwareSigning(make=SharedRoot()))

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


def journal_of(folder: Path) -> Path:
    """Where these tests have the ceremonies of a hierarchy journalled."""
    return folder.with_name("ceremony") / "journal.jsonl"


def found(folder: Path, rooms: Rooms, plan: Plan | None = None, **options: Any) -> Founded:
    """Run a ceremony in `rooms` and publish it in `folder`, now."""
    return run(
        plan or planned(),
        folder=folder,
        journal=journal_of(folder),
        **{**environment(rooms), **options},
    )


def environment(rooms: Rooms) -> dict[str, Any]:
    """What `run`, `resume` and the like are given besides the files."""
    return {
        "service_room": rooms.service_room,
        "root_room": rooms.root_room,
        "rng": os.urandom,
        "clock": lambda: datetime.now(UTC),
    }


def act(
    folder: Path, text: str | Mapping[str, Any], inputs: Mapping[str, bytes] | None = None, now: datetime | None = None
) -> Plan:
    """A ceremony of any kind from YAML (or its fields), planned for the hierarchy in `folder`."""
    document = text if isinstance(text, str) else yaml.safe_dump(text)
    standing = read_standing(folder)
    return plan(load_act(document), inputs or {}, PUBLICATION, standing=standing, now=now or datetime.now(UTC))
