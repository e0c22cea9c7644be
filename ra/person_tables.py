"""The tables of the register of officers (`ra.persons`).

officer_persons ──┬── officer_accounts              person_codes
                  └── officer_credentials ── officer_grants
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, ForeignKey, Integer, LargeBinary, String, Table

from ra.schema import UtcTime, metadata

persons: Final = Table(
    "officer_persons",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("organisation", String(64), nullable=False),
    Column("known_since", UtcTime, nullable=False),
)

accounts: Final = Table(
    "officer_accounts",
    metadata,
    Column("name", String(80), primary_key=True),  # as the RA calls them: officer:<person id>
    Column("person_id", ForeignKey("officer_persons.id"), nullable=False, index=True),
    Column("opened_at", UtcTime, nullable=False),
)

credentials: Final = Table(
    "officer_credentials",
    metadata,
    Column("issuer", String(64), primary_key=True),
    Column("serial", String(40), primary_key=True),
    Column("person_id", ForeignKey("officer_persons.id"), nullable=False, index=True),
    Column("application_id", String(64), nullable=True),  # None: certified at a ceremony
    Column("sha256", String(64), nullable=False, index=True),  # of the certificate: what signed requests name
    Column("spki_sha256", String(64), nullable=False),
    Column("not_before", UtcTime, nullable=False),
    Column("not_after", UtcTime, nullable=False),
    Column("der", LargeBinary, nullable=False),
)

grants: Final = Table(
    "officer_grants",
    metadata,
    Column("issuer", String(64), primary_key=True),
    Column("serial", String(40), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("person_id", ForeignKey("officer_persons.id"), nullable=False, index=True),
    Column("role", String(64), nullable=False),
    Column("scope", String(256), nullable=True),  # classes with a blank between; None: whatever the role is for
    Column("not_before", UtcTime, nullable=False),
    Column("not_after", UtcTime, nullable=False),
)

person_codes: Final = Table(
    "person_codes",
    metadata,
    Column("blinded", String(64), primary_key=True),
    Column("person_id", String(64), nullable=False, index=True),
    Column("application_id", String(64), nullable=False),  # by which it was first said
)
