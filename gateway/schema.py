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
    # who works on it until its outcome is known, and until when nobody else may
    Column("runner", String, doc="name of the gateway's replica"),
    Column("runner_until", Instant),
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
    Column("route", String, doc="name of the connector that it and all that follows of it goes to, for life"),
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
    Column("ack_boot", String, doc="the start of the machine that answered, which `ack_until` is counted from"),
    Column("ack_until", BigInteger, doc="milliseconds since then; so long the approval stands, whatever clocks say"),
    Column("auth_ack", LargeBinary, doc="signed by the merchant (DER)"),
    # store-and-forward
    Column("reversal_reason", String),
    Column("reversal_stan", String(6), doc="DE 11 of the 0420 and of each 0421 after it"),
    Column("reversal_attempts", Integer, nullable=False, default=0),
    Column("reversal_next_at", Instant),
    Column("reversal_rc", String(2), doc="DE 39 of the 0430"),
    Column("reversal_found_original", Boolean, doc="FALSE: the switch knew no such original"),
    Column("reversal_number", Integer, nullable=False, default=0, doc="which reversal of the order it is, from 1"),
    Column("reversal_queued_at", Instant),
    Column("reversal_until", Instant, doc="while a message of it is under way: when that ends at the latest"),
    Column("lapses_at", Instant, doc="of an acknowledged hold: when what nobody has captured of it is given back"),
    Column("card_id", LargeBinary(16), doc="keyed digest of the PAN (`gateway.limits.card_key`)"),
    Column("counted", JSON(none_as_null=True), doc="what the order has used of limits, to be given back"),
    Column("steps", Integer, nullable=False, default=0, doc="number of its rows in `order_steps`"),
    UniqueConstraint("acquirer", "business_day", "stan"),
    UniqueConstraint("acquirer", "rrn"),
)

# The two clocks look for few rows among many.
Index("orders_by_ack", orders.c.state, orders.c.ack_by)
Index("orders_by_lapse", orders.c.state, orders.c.lapses_at)
Index("orders_by_change", orders.c.state, orders.c.changed_at)
Index("orders_by_reversal", orders.c.state, orders.c.reversal_next_at)
Index(
    "holds_by_end",
    orders.c.lapses_at,
    sqlite_where=orders.c.lapses_at.is_not(None),
    postgresql_where=orders.c.lapses_at.is_not(None),
)
# Lists for operators: newest first, all of them or one merchant's.
Index("orders_by_time", orders.c.received_at)
# Reversals of one card go one at a time.
Index(
    "reversals_by_card",
    orders.c.card_id,
    sqlite_where=orders.c.state == "REV_QUEUED",
    postgresql_where=orders.c.state == "REV_QUEUED",
)

# What a merchant asks for after the authorisation (rows 19 to 21), one row a request that passed its checks; and the
# gateway's own releases of what is still held (`gateway.settling.releases`), which nobody has asked for.
settlings: Final = Table(
    "settlings",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True, doc="order in which they were taken in"),
    Column("merchant_id", String, nullable=False),
    Column("xid", LargeBinary(20), nullable=False),
    Column("rrpid", LargeBinary(20), nullable=False),
    Column("content_type", String, doc="of the request, dotted; none of a release"),
    Column("request", LargeBinary, doc="signed by the merchant (DER); none of a release"),
    Column("digest", LargeBinary(32), doc="SHA-256 of `request`"),
    Column("leaves", BigInteger, doc="of a release: rial that stay held or captured (DE 95); none of a request"),
    Column("state", String, nullable=False, doc="see `gateway.settling.states`"),
    Column("received_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Column("runner", String, doc="name of the replica that did the last step"),
    # what was sent, kept unchanged for repeats
    Column("stan", String(6), nullable=False, doc="DE 11 of the message and of every repeat of it"),
    Column("rrn", String(12), nullable=False, doc="DE 37"),
    Column("mti", String(4)),
    Column("sent_fields", JSON, doc="data elements without the PAN; none of them is secret"),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Instant, nullable=False),
    # what came back
    Column("auth_code", Integer, doc="of the final answer"),
    Column("rc", String(2), doc="DE 39"),
    Column("approval", String(6), doc="DE 38"),
    Column("settle_date", String(4), doc="DE 15"),
    # what was answered
    Column("date", Instant, doc="of the final answer: which batch it belongs to"),
    Column(
        "open_answer", LargeBinary, doc="noReply, given to every repeat while the outcome is open (DER KwbpMessage)"
    ),
    Column("answer", LargeBinary, doc="the final answer (DER KwbpMessage)"),
    Column("h_answer", LargeBinary(32), doc="SHA-256 of the SignedData in `answer`"),
    UniqueConstraint("merchant_id", "xid", "rrpid"),
)
# One request of an order open at a time.
Index(
    "one_open_request",
    settlings.c.merchant_id,
    settlings.c.xid,
    unique=True,
    sqlite_where=settlings.c.state != "ANSWERED",
    postgresql_where=settlings.c.state != "ANSWERED",
)
Index("settlings_by_state", settlings.c.state, settlings.c.next_at)

# Every movement of a merchant's money that the gateway approved: sales once acknowledged, and rows 19 to 21.
entries: Final = Table(
    "entries",
    metadata,
    Column("h_answer", LargeBinary(32), primary_key=True, doc="SHA-256 of the answer (SignedData) that approved it"),
    Column("merchant_id", String, nullable=False),
    Column("kind", Integer, nullable=False, doc="EntryKind"),
    Column("xid", LargeBinary(20), nullable=False),
    Column("amount", BigInteger, nullable=False, doc="rial"),
    Column("date", Instant, nullable=False, doc="in that answer: which batch it belongs to"),
    Column("business_day", String, nullable=False, doc="ISO date that the network counts it in (DE 15)"),
    Column("route", String, nullable=False, doc="name of the connector that it went to"),
    Column(
        "settled_day",
        String,
        doc="ISO date of the day that it is advised and paid with: its own, or a later one if its own was finished; "
        "none until that one is finished",
    ),
)
Index("entries_by_date", entries.c.merchant_id, entries.c.date)
Index("entries_by_day", entries.c.merchant_id, entries.c.business_day)
Index("entries_by_settled_day", entries.c.merchant_id, entries.c.settled_day)

batches: Final = Table(
    "batches",
    metadata,
    Column("merchant_id", String, primary_key=True),
    Column("batch_id", Integer, primary_key=True),
    Column("begins", Instant),
    Column("until", Instant, doc="none while it is open"),
)

batch_requests: Final = Table(
    "batch_requests",
    metadata,
    Column("merchant_id", String, primary_key=True),
    Column("rrpid", LargeBinary(20), primary_key=True),
    Column("request", LargeBinary, nullable=False, doc="signed by the merchant (DER)"),
    Column("digest", LargeBinary(32), nullable=False),
    Column("batch_id", Integer, nullable=False),
    Column("begins", Instant),
    Column("until", Instant, doc="as the batch stood after the request"),
    Column("counted_until", Instant, nullable=False),
    Column("totals", LargeBinary, nullable=False, doc="BatchTotals (DER)"),
    Column("answer", LargeBinary, doc="DER KwbpMessage"),
)

# One row a merchant, business day and route: totals as the gateway and the network behind the route have them.
reconciliations: Final = Table(
    "reconciliations",
    metadata,
    Column("merchant_id", String, primary_key=True),
    Column("business_day", String, primary_key=True),
    Column("route", String, primary_key=True, doc="name of the connector"),
    Column("state", String, nullable=False, doc="see `gateway.settling.reconciliation`"),
    Column("next_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("over_at", Instant, doc="when the gateway learnt that the network counts in a later day"),
    Column("compared_at", Instant),
    Column("rc", String(2), doc="DE 39"),
    Column("settled", String(1), doc="DE 66"),
    Column("own", JSON, doc="data elements 74 to 77, 86 to 89 and 97 as sent"),
    Column("theirs", JSON, doc="the same as the switch answered them"),
)

advices: Final = Table(
    "advices",
    metadata,
    Column("merchant_id", String, primary_key=True),
    Column("business_day", String, primary_key=True),
    Column("part", Integer, primary_key=True),
    Column("parts", Integer, nullable=False),
    Column("message", LargeBinary, nullable=False, doc="KwbpMessage with the SettleAdvice (DER)"),
    Column("made_at", Instant, nullable=False),
)

merchant_accounts: Final = Table(
    "merchant_accounts",
    metadata,
    Column("merchant_id", String, ForeignKey("merchants.merchant_id"), primary_key=True),
    Column("iban", String(26), nullable=False, doc="where the acquirer pays to"),
)


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
