"""The table of `gateway.password_book`: holders' requests for one-time passwords. No card and no password is in it."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, LargeBinary, String, Table, UniqueConstraint

from gateway.schema import Instant, metadata

password_requests: Final = Table(
    "password_requests",
    metadata,
    Column("merchant_id", String, ForeignKey("merchants.merchant_id"), primary_key=True),
    Column("h_otp_req", LargeBinary(32), primary_key=True, doc="SHA-256 of the sealed OTPReq"),
    Column("rrpid", LargeBinary(20), nullable=False),
    Column("xid", LargeBinary(20), nullable=False),
    Column("amount", BigInteger, nullable=False, doc="rial"),
    Column("route", String, nullable=False, doc="name of the connector that it goes to"),
    Column("asked_at", Instant, nullable=False, index=True),
    Column("answer", LargeBinary, doc="the KwbpMessage with the OTPRes, for every repeat (DER)"),
    UniqueConstraint("merchant_id", "rrpid"),
)
