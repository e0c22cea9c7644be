"""The tables of the key registry, and a row as the rest of the service knows it. Times are RFC 3339, UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    UniqueConstraint,
)

from hsm_service.key_states import KeyState
from hsm_service.key_versions import RegisteredKey
from hsm_service.limits import Limits

SCHEMA_VERSION: Final = 2
"""Grows with every change of the tables below; a database of another version is not opened."""

metadata: Final = MetaData()

schema: Final = Table("key_registry_schema", metadata, Column("version", Integer, primary_key=True))
keys: Final = Table(
    "keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("token", String(32), nullable=False),
    Column("cka_id", LargeBinary(16), nullable=False),
    Column("template", String(64), nullable=False),
    Column("owner", String(64)),
    Column("state", String(32), nullable=False),
    Column("public_key", LargeBinary),  # SubjectPublicKeyInfo, DER; none for secret keys
    Column("created", String(32), nullable=False),
    Column("activates_at", String(32)),
    Column("retires_at", String(32)),
    Column("destroy_at", String(32)),
    Column("limits", String(512)),  # JSON of hsm_service.limits.Limits; none where the template's hold
    Column("backup", Boolean, nullable=False),
    Column("restored", Boolean, nullable=False),
    UniqueConstraint("token", "cka_id"),
)
certificates: Final = Table(
    "key_certificates",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),  # 0 is the key's own
    Column("der", LargeBinary, nullable=False),
    ForeignKeyConstraint(["name", "version"], ["keys.name", "keys.version"]),
)
replicas: Final = Table(
    "key_replicas",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("token", String(32), primary_key=True),
    ForeignKeyConstraint(["name", "version"], ["keys.name", "keys.version"]),
)


def columns_of(row: RegisteredKey) -> dict[str, Any]:
    """The values of a row of `keys`."""
    return {
        "name": row.name,
        "version": row.version,
        "token": row.token,
        "cka_id": row.cka_id,
        "template": row.template,
        "owner": row.owner,
        "state": row.state.value,
        "public_key": row.public_key,
        "created": _text(row.created),
        "activates_at": _text(row.activates_at),
        "retires_at": _text(row.retires_at),
        "destroy_at": _text(row.destroy_at),
        "limits": row.limits.to_json(),
        "backup": row.backup,
        "restored": row.restored,
    }


def row_of(row: Row[tuple[Any, ...]], chain: tuple[bytes, ...], replicas: tuple[str, ...]) -> RegisteredKey:
    """The key of a row of `keys`, with its certificates and the further tokens that hold it."""
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
        activates_at=_time(row.activates_at),
        retires_at=_time(row.retires_at),
        destroy_at=_time(row.destroy_at),
        limits=Limits() if row.limits is None else Limits.model_validate_json(row.limits),
        backup=row.backup,
        restored=row.restored,
        replicas=replicas,
        chain=chain,
    )


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
