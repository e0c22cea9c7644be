"""Tables of the acquirer: ledger, fees, lists of the network and their differences, payouts.

What was once written into the ledger, charged, received or sent to the bank never changes: those tables take no update
and no deletion. A difference and a payout have a state, which is only changed by compare-and-set.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, UniqueConstraint

from gateway.schema import Instant, metadata
from runtime.append_only import append_only

# The lines of one cause are one entry; they sum to zero.
ledger_lines: Final = Table(
    "ledger_lines",
    metadata,
    Column("cause_kind", String, primary_key=True, doc="see `gateway.acquirer.ledger.CauseKind`"),
    Column("cause", String, primary_key=True, doc="what of that kind: it can be posted once"),
    Column("account", String, primary_key=True),
    Column("amount", BigInteger, nullable=False, doc="rial, positive for a debit, negative for a credit"),
    Column("business_day", String, nullable=False, doc="ISO date"),
    Column("posted_at", Instant, nullable=False),
)
append_only(ledger_lines)
Index("ledger_lines_by_account", ledger_lines.c.account, ledger_lines.c.business_day)

# Business days whose books are made up: fees charged, the networks' payments booked. Nothing is added to them.
finished_days: Final = Table(
    "finished_days",
    metadata,
    Column("merchant_id", String, primary_key=True),
    Column("business_day", String, primary_key=True),
    Column("gross", BigInteger, nullable=False, doc="rial: movements settled with the day, each with its sign"),
    Column("fees", BigInteger, nullable=False, doc="rial"),
    Column("finished_at", Instant, nullable=False),
)
append_only(finished_days)

# What each network settles with the acquirer of a finished day; they sum to what it said last.
network_payments: Final = Table(
    "network_payments",
    metadata,
    Column("merchant_id", String, primary_key=True),
    Column("business_day", String, primary_key=True),
    Column("route", String, primary_key=True),
    Column("part", Integer, primary_key=True, doc="2 and on: something came late, and the network said another net"),
    Column("net", BigInteger, nullable=False, doc="rial by DE 97 of the answer that closed the day, less parts before"),
    Column("booked_at", Instant, nullable=False),
)
append_only(network_payments)

charged_fees: Final = Table(
    "charged_fees",
    metadata,
    Column("h_answer", LargeBinary(32), primary_key=True, doc="of the entry that is charged"),
    Column("merchant_id", String, nullable=False),
    Column("business_day", String, nullable=False),
    Column("amount", BigInteger, nullable=False, doc="rial"),
    Column("rule", String, nullable=False, doc="name of the rule that it was reckoned by"),
)
append_only(charged_fees)
Index("charged_fees_by_day", charged_fees.c.merchant_id, charged_fees.c.business_day)

network_lists: Final = Table(
    "network_lists",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("route", String, nullable=False),
    Column("business_day", String, nullable=False),
    Column("digest", String(64), nullable=False, doc="SHA-256 of the content, hexadecimal"),
    Column("content", LargeBinary, nullable=False, doc="as it came, signed by the network"),
    Column("made_at", Instant, nullable=False, doc="as the network says in it"),
    Column("imported_at", Instant, nullable=False),
    Column("imported_by", String, nullable=False),
    UniqueConstraint("route", "digest"),
)
append_only(network_lists)
Index("network_lists_by_day", network_lists.c.route, network_lists.c.business_day)

differences: Final = Table(
    "differences",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("merchant_id", String, nullable=False),
    Column("route", String, nullable=False),
    Column("business_day", String, nullable=False, doc="which the list is of"),
    Column("terminal_id", String, nullable=False, doc="DE 41"),
    Column("stan", String(6), nullable=False, doc="DE 11"),
    Column("rrn", String(12), nullable=False, doc="DE 37"),
    Column("movement", String, nullable=False, doc="debit, debit_reversal, credit or credit_reversal"),
    Column("kind", String, nullable=False, doc="see `gateway.acquirer.matching.DifferenceKind`"),
    Column("own_amount", BigInteger, doc="rial; none if we have no such movement"),
    Column("their_amount", BigInteger, doc="rial; none if the network has no such movement"),
    Column("own_day", String),
    Column("their_day", String),
    Column("excess", BigInteger, nullable=False, doc="rial that the network pays for it in this day beyond our books"),
    Column("state", String, nullable=False, doc="OPEN, EXPLAINED, CORRECTED or GONE"),
    Column("found_at", Instant, nullable=False),
    Column("list_number", Integer, nullable=False, doc="the list that shows it"),
    Column("decided_at", Instant),
    Column("decided_by", String),
    Column("reason", String),
)
Index("differences_by_day", differences.c.merchant_id, differences.c.business_day)
Index("differences_by_state", differences.c.state)
Index(
    "one_difference_a_movement",
    differences.c.route,
    differences.c.business_day,
    differences.c.merchant_id,
    differences.c.terminal_id,
    differences.c.stan,
    differences.c.rrn,
    differences.c.movement,
    differences.c.kind,
    unique=True,
)

# What was booked of a difference, one row a decision: they sum to what stands of it in suspense.
corrections: Final = Table(
    "corrections",
    metadata,
    Column("difference", Integer, primary_key=True, doc="its number"),
    Column("part", Integer, primary_key=True, doc="1 and on: a newer list showed another amount, or none, in between"),
    Column("route", String, nullable=False),
    Column("business_day", String, nullable=False),
    Column("excess", BigInteger, nullable=False, doc="rial that this decision books, beyond those before it"),
    Column("decided_at", Instant, nullable=False),
    Column("decided_by", String, nullable=False),
    Column("reason", String, nullable=False),
)
append_only(corrections)

payouts: Final = Table(
    "payouts",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("merchant_id", String, nullable=False),
    Column("business_day", String, nullable=False),
    Column("attempt", Integer, nullable=False, doc="2 and on: the bank returned the one before"),
    Column("reference", String(35), nullable=False, unique=True, doc="EndToEndId of the transfer"),
    Column("state", String, nullable=False, doc="see `gateway.acquirer.payouts.PayoutState`"),
    Column("gross", BigInteger, nullable=False, doc="rial: movements of the day, each with its sign"),
    Column("fees", BigInteger, nullable=False, doc="rial"),
    Column("brought_forward", BigInteger, nullable=False, doc="rial that the merchant owes from earlier days, ≤ 0"),
    Column("amount", BigInteger, nullable=False, doc="rial that are transferred, 0 if the merchant owes"),
    Column("carried_forward", BigInteger, nullable=False, doc="rial that it goes on owing, ≤ 0"),
    Column("iban", String(26), doc="bound to the merchant's certificate when it was made; none if nothing is paid"),
    Column("beneficiary", String, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("created_by", String, nullable=False),
    Column("file", Integer, doc="the payment file that it is in"),
    Column("sent_at", Instant),
    Column("sent_by", String),
    Column("paid_at", Instant),
    Column("returned_at", Instant),
    Column("answered_by", String, doc="who told what the bank said"),
    Column("reason", String, doc="why the bank returned it"),
    UniqueConstraint("merchant_id", "business_day", "attempt"),
)
Index("payouts_by_state", payouts.c.state)

payment_files: Final = Table(
    "payment_files",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("message_id", String(35), nullable=False, unique=True),
    Column("digest", String(64), nullable=False, doc="SHA-256 of the content, hexadecimal"),
    Column("content", LargeBinary, nullable=False, doc="pain.001.001.09"),
    Column("count", Integer, nullable=False),
    Column("total", BigInteger, nullable=False, doc="rial"),
    Column("made_at", Instant, nullable=False),
    Column("made_by", String, nullable=False),
)
append_only(payment_files)
