"""The key registry: what keys there are, from which template, whose, in which token object, with which certificate.

The database is the truth; every row is also held in memory, because a lookup stands in the path of every signature and
this process is the only one that writes. A row is written before its key is made in the token (state PENDING), so that
a process killed in between leaves a row to take up again, never a key that nobody knows.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    UniqueConstraint,
    insert,
    select,
    update,
)

from hsm_service.errors import KeyExists

_metadata = MetaData()

_keys = Table(
    "keys",
    _metadata,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("token", String(32), nullable=False),
    Column("cka_id", LargeBinary(16), nullable=False),
    Column("template", String(64), nullable=False),
    Column("owner", String(64)),
    Column("state", String(16), nullable=False),
    Column("public_key", LargeBinary),  # SubjectPublicKeyInfo, DER; none for secret keys
    Column("created", String(27), nullable=False),  # RFC 3339, UTC
    UniqueConstraint("token", "cka_id"),
)
_certificates = Table(
    "key_certificates",
    _metadata,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),  # 0 is the key's own
    Column("der", LargeBinary, nullable=False),
    ForeignKeyConstraint(["name", "version"], ["keys.name", "keys.version"]),
)


class KeyState(StrEnum):
    """PENDING: the row is there, the key may not be. ENABLED: in use."""

    PENDING = "PENDING"
    ENABLED = "ENABLED"


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """One row: version `version` of key `name`. `chain` is DER certificates, the key's own first, without the root."""

    name: str
    version: int
    token: str
    cka_id: bytes
    template: str
    owner: str | None
    state: KeyState
    public_key: bytes | None
    created: datetime
    chain: tuple[bytes, ...] = ()


class Registry:
    """The keys of one database; safe for threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        _metadata.create_all(engine)
        self._rows: dict[str, dict[int, RegisteredKey]] = {}
        with engine.connect() as connection:
            for row in connection.execute(select(_keys)):
                self._remember(_key(row, _chain(connection, row.name, row.version)))

    def find(self, name: str, version: int | None = None) -> RegisteredKey | None:
        """Version `version` of the key, by default the newest ENABLED one, else the newest; None if there is none."""
        versions = self._rows.get(name)
        if versions is None:
            return None
        if version is not None:
            return versions.get(version)
        enabled = [number for number, row in versions.items() if row.state is KeyState.ENABLED]
        return versions[max(enabled or versions)]

    def all(self) -> list[RegisteredKey]:
        """Every version of every key, by name and version."""
        with self._lock:
            rows = [row for versions in self._rows.values() for row in versions.values()]
        return sorted(rows, key=lambda row: (row.name, row.version))

    def reserve(
        self, name: str, *, template: str, owner: str | None, token: str, cka_id: bytes, now: datetime
    ) -> RegisteredKey:
        """Writes the PENDING row of a new key, or gives the one that a killed process left for the same key.

        Raises KeyExists if the name is in use.
        """
        with self._lock:
            versions = self._rows.get(name)
            if versions is not None:
                left = versions[max(versions)]
                if left.state is KeyState.PENDING and (left.template, left.owner) == (template, owner):
                    return left
                raise KeyExists(f"there is already a key {name!r}")
            row = RegisteredKey(name, 1, token, cka_id, template, owner, KeyState.PENDING, None, now)
            with self._engine.begin() as connection:
                connection.execute(
                    insert(_keys).values(
                        name=name,
                        version=row.version,
                        token=token,
                        cka_id=cka_id,
                        template=template,
                        owner=owner,
                        state=row.state.value,
                        created=now.astimezone(UTC).isoformat(),
                    )
                )
            self._remember(row)
            return row

    def enable(self, name: str, version: int, public_key: bytes | None) -> RegisteredKey:
        """The key is in the token and sound; `public_key` is its SubjectPublicKeyInfo (DER), None for a secret key."""
        with self._lock:
            row = replace(self._rows[name][version], state=KeyState.ENABLED, public_key=public_key)
            here = (_keys.c.name == name) & (_keys.c.version == version)
            with self._engine.begin() as connection:
                connection.execute(update(_keys).where(here).values(state=row.state.value, public_key=public_key))
            self._remember(row)
            return row

    def attach(self, name: str, version: int, chain: Sequence[bytes]) -> RegisteredKey:
        """Replaces the certificate chain (DER, the key's own certificate first)."""
        with self._lock:
            row = replace(self._rows[name][version], chain=tuple(chain))
            here = (_certificates.c.name == name) & (_certificates.c.version == version)
            with self._engine.begin() as connection:
                connection.execute(_certificates.delete().where(here))
                connection.execute(
                    insert(_certificates),
                    [
                        {"name": name, "version": version, "position": position, "der": der}
                        for position, der in enumerate(chain)
                    ],
                )
            self._remember(row)
            return row

    def close(self) -> None:
        """Lets go of the database."""
        self._engine.dispose()

    def _remember(self, row: RegisteredKey) -> None:
        # A new dictionary instead of a changed one: readers take no lock.
        self._rows[row.name] = {**self._rows.get(row.name, {}), row.version: row}


def _chain(connection: Connection, name: str, version: int) -> tuple[bytes, ...]:
    here = (_certificates.c.name == name) & (_certificates.c.version == version)
    return tuple(connection.scalars(select(_certificates.c.der).where(here).order_by(_certificates.c.position)))


def _key(row: Row[tuple[object, ...]], chain: tuple[bytes, ...]) -> RegisteredKey:
    return RegisteredKey(
        name=row.name,
        version=row.version,
        token=row.token,
        cka_id=row.cka_id,
        template=row.template,
        owner=row.owner,
        state=KeyState(row.state),
        public_key=row.public_key,
        created=datetime.fromisoformat(row.created),
        chain=chain,
    )
