"""The key registry: what keys there are, from which template, whose, in which token object, with which certificate.

The database is the truth; every row is also held in memory, because a lookup stands in the path of every signature and
this process is the only one that writes. A row is written before its key is made in the token (state PENDING), and
before its key is destroyed there (DESTROYED), so that a process killed in between leaves a row that says what to take
up again, never a key that nobody knows. Rows are never deleted, but for keys that a ceremony takes back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, insert, inspect, select, update

from hsm_service.errors import KeyExists
from hsm_service.key_states import Change, KeyState, after
from hsm_service.key_tables import (
    SCHEMA_VERSION,
    certificates,
    columns_of,
    keys,
    metadata,
    replicas,
    row_of,
    schema,
)
from hsm_service.key_versions import RegisteredKey, version_in_use
from hsm_service.limits import Limits


class SchemaError(Exception):
    """The database was written by another version of this software; raised at start-up, before any token is opened."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Registry:
    """The keys of one database; safe for threads. `clock` tells which version is in use."""

    def __init__(self, engine: Engine, *, clock: Callable[[], datetime] = _utc_now) -> None:
        """Raises SchemaError."""
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._rows: dict[str, dict[int, RegisteredKey]] = {}
        _check_schema(engine)
        with engine.connect() as connection:
            chains: dict[tuple[str, int], list[bytes]] = {}
            for name, version, der in connection.execute(
                select(certificates.c.name, certificates.c.version, certificates.c.der).order_by(
                    certificates.c.position
                )
            ):
                chains.setdefault((name, version), []).append(der)
            copies: dict[tuple[str, int], list[str]] = {}
            for name, version, token in connection.execute(select(replicas).order_by(replicas.c.token)):
                copies.setdefault((name, version), []).append(token)
            for row in connection.execute(select(keys)):
                key = (row.name, row.version)
                self._remember(row_of(row, tuple(chains.get(key, ())), tuple(copies.get(key, ()))))

    def find(self, name: str, version: int | None = None) -> RegisteredKey | None:
        """Version `version` of the key, by default the one in use, else the newest; None if there is none."""
        versions = self._rows.get(name)
        if versions is None:
            return None
        if version is not None:
            return versions.get(version)
        return version_in_use(versions.values(), self._clock()) or versions[max(versions)]

    def in_use(self, name: str) -> RegisteredKey | None:
        """The version in use now, in whatever state; None if none has begun."""
        return version_in_use(self._rows.get(name, {}).values(), self._clock())

    def versions(self, name: str) -> list[RegisteredKey]:
        """Every version of the key, the newest first."""
        return sorted(self._rows.get(name, {}).values(), key=lambda row: -row.version)

    def all(self) -> list[RegisteredKey]:
        """Every version of every key, by name and version."""
        with self._lock:
            rows = [row for versions in self._rows.values() for row in versions.values()]
        return sorted(rows, key=lambda row: (row.name, row.version))

    def reserve(
        self,
        name: str,
        *,
        template: str,
        owner: str | None,
        token: str,
        cka_id: bytes,
        now: datetime,
        backup: bool = False,
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
            return self._insert(
                RegisteredKey(
                    name,
                    1,
                    token,
                    cka_id,
                    template,
                    owner,
                    KeyState.PENDING,
                    None,
                    created=now,
                    activates_at=now,
                    backup=backup,
                )
            )

    def reserve_next(
        self, name: str, *, token: str, cka_id: bytes, now: datetime, activates_at: datetime, backup: bool = False
    ) -> RegisteredKey:
        """Writes the PENDING row of the next version of a key, or takes up the one that a killed process left.

        Template, owner and limits are the newest version's; numbers only grow, whatever became of the older versions.
        """
        with self._lock:
            newest = max(self._rows[name].values(), key=lambda row: row.version)
            if newest.state is KeyState.PENDING:
                return self._write(newest, activates_at=activates_at)
            return self._insert(
                RegisteredKey(
                    name,
                    newest.version + 1,
                    token,
                    cka_id,
                    newest.template,
                    newest.owner,
                    KeyState.PENDING,
                    None,
                    created=now,
                    activates_at=activates_at,
                    limits=newest.limits,
                    backup=backup,
                )
            )

    def made(self, name: str, version: int, public_key: bytes | None) -> RegisteredKey:
        """The key is in the token and sound; `public_key` is its SubjectPublicKeyInfo (DER), None for a secret key."""
        with self._lock:
            row = self._rows[name][version]
            made = self._write(row, state=after(row.state, Change.MADE), public_key=public_key)
            self._retire_older(made)
            return made

    def change(
        self, name: str, version: int, change: Change, *, at: datetime | None = None, now: datetime | None = None
    ) -> RegisteredKey:
        """Changes the state; Problem 409 where the table has no such change.

        `at` is when a version that is scheduled may be destroyed, or when one that is enabled before it ever began does
        begin (default: at once). A version that is taken out before it began does not begin by itself any more.
        """
        now = now or self._clock()
        with self._lock:
            row = self._rows[name][version]
            values: dict[str, Any] = {"state": after(row.state, change), "destroy_at": None}
            if change is Change.SCHEDULE:
                values["destroy_at"] = at or now
            elif change is Change.ENABLE and not row.has_begun(now):
                values["activates_at"] = at or now
            elif change is Change.DISABLE and not row.has_begun(now):
                values["activates_at"] = None
            changed = self._write(row, **values)
            self._retire_older(changed)
            return changed

    def limit(self, name: str, version: int, limits: Limits) -> RegisteredKey:
        """Gives the version limits of its own, in place of those it had."""
        with self._lock:
            return self._write(self._rows[name][version], limits=limits)

    def attach(self, name: str, version: int, chain: Sequence[bytes]) -> RegisteredKey:
        """Replaces the certificate chain (DER, the key's own certificate first)."""
        with self._lock:
            row = replace(self._rows[name][version], chain=tuple(chain))
            # What waited for its certificate begins now, not at the time that has passed.
            begins = row.activates_at
            if not self._rows[name][version].chain and version > 1 and begins is not None:
                begins = max(begins, self._clock())
            here = (certificates.c.name == name) & (certificates.c.version == version)
            with self._engine.begin() as connection:
                connection.execute(certificates.delete().where(here))
                connection.execute(
                    insert(certificates),
                    [
                        {"name": name, "version": version, "position": position, "der": der}
                        for position, der in enumerate(chain)
                    ],
                )
                row = replace(row, activates_at=begins)
                connection.execute(
                    update(keys)
                    .where((keys.c.name == name) & (keys.c.version == version))
                    .values(activates_at=columns_of(row)["activates_at"])
                )
            self._remember(row)
            self._retire_older(row)
            return row

    def add_replica(self, name: str, version: int, token: str) -> RegisteredKey:
        """A further token holds the same key, under the same CKA_ID."""
        with self._lock:
            row = self._rows[name][version]
            if token in row.replicas:
                return row
            with self._engine.begin() as connection:
                connection.execute(insert(replicas).values(name=name, version=version, token=token))
            row = replace(row, replicas=tuple(sorted({*row.replicas, token})))
            self._remember(row)
            return row

    def move(self, name: str, version: int, token: str) -> RegisteredKey:
        """The replica in `token` becomes the key itself; the token that was its own holds it no more.

        A key that came out of a backup leaves its token no more, so no further backup can be made of it.
        """
        with self._lock:
            row = self._rows[name][version]
            row = replace(
                row,
                token=token,
                restored=True,
                backup=False,
                replicas=tuple(each for each in row.replicas if each != token),
            )
            here = (keys.c.name == name) & (keys.c.version == version)
            there = (replicas.c.name == name) & (replicas.c.version == version) & (replicas.c.token == token)
            with self._engine.begin() as connection:
                connection.execute(replicas.delete().where(there))
                connection.execute(update(keys).where(here).values(**columns_of(row)))
            self._remember(row)
            return row

    def forget(self, name: str) -> None:
        """Deletes the rows of a key that a ceremony took back, all of whose versions are destroyed; KeyExists if not.

        What was done with it stays in the audit journal.
        """
        with self._lock:
            if any(row.state is not KeyState.DESTROYED for row in self._rows.get(name, {}).values()):
                raise KeyExists(f"key {name!r} is not destroyed")
            with self._engine.begin() as connection:
                for table in (certificates, replicas, keys):
                    connection.execute(table.delete().where(table.c.name == name))
            self._rows = {known: versions for known, versions in self._rows.items() if known != name}

    def close(self) -> None:
        """Lets go of the database."""
        self._engine.dispose()

    def _insert(self, row: RegisteredKey) -> RegisteredKey:
        with self._engine.begin() as connection:
            connection.execute(insert(keys).values(**columns_of(row)))
        self._remember(row)
        return row

    def _write(self, row: RegisteredKey, **values: Any) -> RegisteredKey:
        row = replace(row, **values)
        here = (keys.c.name == row.name) & (keys.c.version == row.version)
        with self._engine.begin() as connection:
            connection.execute(update(keys).where(here).values(**columns_of(row)))
        self._remember(row)
        return row

    def _retire_older(self, row: RegisteredKey) -> None:
        """Says in the older versions' rows when they retire, for people; what decides is `version_in_use`."""
        begins = row.activates_at if row.version == 1 or row.public_key is None or row.chain else None
        older = self._rows[row.name].get(row.version - 1)
        if older is not None and older.retires_at != begins:
            self._write(older, retires_at=begins)

    def _remember(self, row: RegisteredKey) -> None:
        # A new dictionary instead of a changed one: readers take no lock.
        self._rows[row.name] = {**self._rows.get(row.name, {}), row.version: row}


def _check_schema(engine: Engine) -> None:
    """Makes the tables of an empty database; refuses one of another version, which has to be migrated first."""
    with engine.begin() as connection:
        there = set(inspect(connection).get_table_names())
        if schema.name in there:
            found = connection.scalar(select(schema.c.version))
            if found != SCHEMA_VERSION:
                raise SchemaError(f"the key registry has schema version {found}; this software writes {SCHEMA_VERSION}")
        elif there & metadata.tables.keys():
            raise SchemaError(f"the key registry states no schema version; this software writes {SCHEMA_VERSION}")
        else:
            metadata.create_all(connection)
            connection.execute(insert(schema).values(version=SCHEMA_VERSION))
