"""Tables of the order book.

`orders` has one row per order, keyed (merchant_id, xid, kind), which is what makes an order one order: a second
AuthReq for it, however it was signed, meets the same row. A row is only ever changed by compare-and-set on `state`.

No column holds a PAN, PIN, CVV2 or expiry. `pan_sealed` is the blob that only the HSM service opens, kept while a
reversal may still need it. The signed AuthReq is not kept whole: it carries the sealed PIN and CVV2, which nobody may
store after authorisation, sealed or not. Its digest, the merchant's invoice, the buyer's dual signature and our own
answer are kept; they prove the order without the card.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.types import BigInteger, TypeDecorator

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware UTC time as whole microseconds since 1970: exact, ordered, the same on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + int(value) * _MICROSECOND


metadata: Final = MetaData()

merchants: Final = Table(
    "merchants",
    metadata,
    Column("merchant_id", String, primary_key=True),
    Column("terminal_id", String, nullable=False, unique=True),
    Column("name", String, nullable=False, doc="DE 43"),
    Column("mcc", String(4), nullable=False, doc="DE 18, ISO 18245"),
    Column("active", Boolean, nullable=False),
    Column("order_limit", BigInteger, doc="rial, the most one order may cost; none for no limit (G11)"),
    Column("registered_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
)

orders: Final = Table(
    "orders",
    metadata,
    Column("merchant_id", String, ForeignKey("merchants.merchant_id"), primary_key=True),
    Column("xid", LargeBinary(20), primary_key=True),
    Column("kind", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    # what was asked
    Column("request_digest", LargeBinary(32), nullable=False, doc="SHA-256 of the signed AuthReq (DER)"),
    Column("rrpid", LargeBinary(20), nullable=False),
    Column("terminal_id", String, nullable=False),
    Column("amount", BigInteger, nullable=False, doc="rial"),
    Column("invoice", LargeBinary, nullable=False, doc="signed by the merchant (DER)"),
    Column("dual_signature", LargeBinary, nullable=False, doc="signed by the buyer (DER)"),
    # what was sent, kept unchanged for repeats and reversals
    Column("pan_sealed", LargeBinary),
    Column("masked_pan", String),
    Column("acquirer", String, doc="DE 32"),
    Column("business_day", String, doc="ISO date of the day the STAN is unique in"),
    Column("stan", String(6), doc="DE 11"),
    Column("rrn", String(12), doc="DE 37"),
    Column("sent_fields", JSON, doc="data elements of the 0200 that its reversal repeats; none of them is secret"),
    # what came back
    Column("approved", Boolean, doc="whether an answer in time approved"),
    Column("rc", String(2), doc="DE 39"),
    Column("approval", String(6), doc="DE 38"),
    Column("settle_date", String(4), doc="DE 15"),
    Column("late_rc", String(2), doc="DE 39 of an answer that came after the outcome was unknown"),
    Column("late_approved", Boolean),
    Column("late_approval", String(6)),
    Column("late_at", Instant),
    # what was answered
    Column("answer", LargeBinary, doc="the KwbpMessage answered to the merchant, for every repeat (DER)"),
    Column("auth_code", Integer, doc="of the AuthRes in `answer`; none if that is an Error"),
    Column("ack_by", Instant),
    Column("auth_ack", LargeBinary, doc="signed by the merchant (DER)"),
    # store-and-forward
    Column("reversal_reason", String),
    Column("reversal_stan", String(6), doc="DE 11 of the 0420 and of each 0421 after it"),
    Column("reversal_attempts", Integer, nullable=False, default=0),
    Column("reversal_next_at", Instant),
    Column("reversal_rc", String(2), doc="DE 39 of the 0430"),
    Column("reversal_found_original", Boolean, doc="FALSE: the switch knew no such original"),
    UniqueConstraint("acquirer", "business_day", "stan"),
    UniqueConstraint("acquirer", "rrn"),
)

# The two clocks look for few rows among many.
Index("orders_by_ack", orders.c.state, orders.c.ack_by)
Index("orders_by_reversal", orders.c.state, orders.c.reversal_next_at)

trace_numbers: Final = Table(
    "trace_numbers",
    metadata,
    Column("acquirer", String, primary_key=True),
    Column("business_day", String, nullable=False),
    Column("last", Integer, nullable=False, doc="1 to 999999, goes on over midnight and wraps"),
    Column("used", Integer, nullable=False, doc="numbers given out on business_day"),
)

# Authenticated answers that no waiting request claimed: late, repeated, or of nobody.
unclaimed_answers: Final = Table(
    "unclaimed_answers",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("mti", String(4), nullable=False),
    Column("acquirer", String),
    Column("stan", String(6)),
    Column("rrn", String(12)),
    Column("terminal_id", String),
    Column("rc", String(2)),
    Column("merchant_id", String, doc="of the order it belongs to, if one was found"),
    Column("xid", LargeBinary(20)),
)
