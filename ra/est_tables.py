"""The tables of EST: one-time codes, and which certificates are being replaced (`ra.est_store`)."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, ForeignKey, Integer, String, Table, Text

from ra.schema import UtcTime, applications, metadata

est_codes: Final = Table(
    "est_codes",
    metadata,
    Column("application_id", ForeignKey(applications.c.id), primary_key=True),
    Column("code_sha256", String(64), nullable=False),
    Column("tries_left", Integer, nullable=False),
    Column("good_until", UtcTime, nullable=False),
    Column("prepared_by", String(80), nullable=False),  # the actor who hands in by whoever has the code
    Column("person", String(80), nullable=False),
    Column("organisation", String(200), nullable=False),
    Column("subject", Text, nullable=False),  # JSON
    Column("national_code", String(10), nullable=True),
    Column("after_revision", Integer, nullable=False),  # number of the last revision before; 0: none
    Column("csr_sha256", String(64), nullable=True),  # of the one request that the code is good for, once it came
)

est_renewals: Final = Table(
    "est_renewals",
    metadata,
    Column("certificate_sha256", String(64), primary_key=True),  # the certificate that is replaced
    Column("csr_sha256", String(64), nullable=False),
    Column("application_id", ForeignKey(applications.c.id), nullable=False),
    Column("after_revision", Integer, nullable=False),
)
