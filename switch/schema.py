"""Tables of the bank side: accounts, cards, transactions, ledger. No clear PAN, CVV2, expiry or PIN in any column.

A card is found by a keyed hash of its PAN and shown by its masked PAN. Expiry and PIN are kept as keyed values that
only a presented expiry or PIN can be compared with; CVV2 is derived when it is presented and not kept at all. A
one-time password is kept as a keyed value too, with what it is good for.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData()

accounts = Table(
    "accounts",
    metadata,
    Column("iban", String(26), primary_key=True),
    Column("kind", String(12), nullable=False, doc="customer, intermediary (حساب واسط) or cash (the world outside)"),
    Column("holder", String(200), nullable=False),
    Column("national_code", String(10)),
    Column(
        "bin", String(6), nullable=False, doc="issuer of the cards on this account; acquirer of an intermediary one"
    ),
    Column("balance", BigInteger, nullable=False, doc="rial; the sum of the account's entries"),
    Column("opened_at", DateTime, nullable=False),
    CheckConstraint("kind <> 'customer' OR balance >= 0", name="customers_do_not_overdraw"),
)

acquirers = Table(
    "acquirers",
    metadata,
    Column("code", String(11), primary_key=True, doc="DE 32 and, when it signs on, DE 33"),
    Column("name", String(200), nullable=False),
    Column("intermediary", ForeignKey("accounts.iban"), nullable=False, doc="credited with every sale"),
)

cards = Table(
    "cards",
    metadata,
    Column("card_id", String(16), primary_key=True, doc="random name of the card, for people and logs"),
    Column("pan_lookup", LargeBinary(32), nullable=False, unique=True),
    Column("masked_pan", String(19), nullable=False),
    Column("iban", ForeignKey("accounts.iban"), nullable=False),
    Column("expiry_value", LargeBinary(32), nullable=False),
    Column("pin_value", LargeBinary(32), nullable=False),
    Column("wrong_tries", Integer, nullable=False, doc="wrong PIN, CVV2 or expiry since the last right ones"),
    Column("state", String(8), nullable=False, doc="active or blocked"),
    Column("issued_at", DateTime, nullable=False),
)

transactions = Table(
    "transactions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(8), nullable=False, doc="sale, hold, capture, credit or reversal"),
    Column("acquirer", String(11), nullable=False),
    Column("terminal", String(8), nullable=False),
    Column("stan", String(6), nullable=False),
    Column("local_time", String(6), nullable=False),
    Column("local_date", String(4), nullable=False),
    Column("fingerprint", LargeBinary(32), doc="keyed hash of the request without MTI and DE 7; none before it came"),
    Column("rrn", String(12), nullable=False),
    Column("merchant", String(15), nullable=False),
    Column("reference", String(999), nullable=False, doc="DE 62 as sent"),
    Column("amount", BigInteger, nullable=False),
    Column("pan_lookup", LargeBinary(32), nullable=False),
    Column("masked_pan", String(19), nullable=False),
    Column("iban", ForeignKey("accounts.iban"), doc="account debited, if any"),
    Column(
        "state", String(8), nullable=False, doc="approved, declined, reversed, or forestalled: reversed before it came"
    ),
    Column("rc", String(2), nullable=False),
    Column("answer", JSON, doc="fields of the answer without DE 2, for a repeat of the request"),
    Column("original", ForeignKey("transactions.id"), doc="what this is about: took back, captured, credited"),
    Column("received_at", DateTime, nullable=False),
    UniqueConstraint("kind", "acquirer", "terminal", "stan", "local_time", "local_date", name="one_row_a_transaction"),
)

entries = Table(
    "entries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("transaction_id", ForeignKey("transactions.id")),
    Column("iban", ForeignKey("accounts.iban"), nullable=False),
    Column("amount", BigInteger, nullable=False, doc="rial, negative for a debit"),
    Column("text", String(40), nullable=False),
    Column("booked_at", DateTime, nullable=False),
)

standing_amounts = Table(
    "standing_amounts",
    metadata,
    Column("transaction_id", ForeignKey("transactions.id"), primary_key=True),
    Column("amount", BigInteger, nullable=False, doc="rial that are left of it; without a row all of it stands"),
)

movements = Table(
    "movements",
    metadata,
    Column("transaction_id", ForeignKey("transactions.id"), primary_key=True),
    Column("acquirer", String(11), nullable=False),
    Column("merchant", String(15), nullable=False),
    Column("day", Date, nullable=False, doc="business day of the network, as told in DE 15"),
    Column("kind", String(15), nullable=False, doc="see `switch.movements.Movement`"),
    Column("amount", BigInteger, nullable=False, doc="rial"),
    Column("void", Boolean, nullable=False, doc="taken back because its outcome was unknown: it does not count"),
    Index("movements_by_day", "acquirer", "merchant", "day"),
)

business_days = Table(
    "business_days",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("day", Date, nullable=False, doc="set at the counter; without a row it is the calendar day in Iran"),
)

zone_working_keys = Table(
    "zone_working_keys",
    metadata,
    Column("institution", String(11), primary_key=True, doc="the acquirer"),
    Column("kind", String(8), primary_key=True, doc="zone-pin or zone-mac"),
    Column("key_index", Integer, primary_key=True, doc="1 to 99, round again"),
    Column("state", String(8), nullable=False, doc="pending: sent, not seen in use; current; previous"),
    Column("wrapped", LargeBinary(56), nullable=False, doc="under the zone master key (RFC 3394)"),
    Column("check_value", String(12), nullable=False),
    Column("made_at", DateTime, nullable=False),
    Column("ends", DateTime, doc="until when a previous one is good"),
)

phones = Table(
    "phones",
    metadata,
    Column("iban", ForeignKey("accounts.iban"), primary_key=True),
    Column("number", String(11), nullable=False, doc="where the holder gets one-time passwords"),
)

card_policies = Table(
    "card_policies",
    metadata,
    Column("card_id", ForeignKey("cards.card_id"), primary_key=True),
    Column("static_pin2", Boolean, nullable=False, doc="FALSE: pays with a one-time password only"),
)

passwords = Table(
    "passwords",
    metadata,
    Column("pan_lookup", LargeBinary(32), primary_key=True),
    Column("xid", LargeBinary(20), primary_key=True),
    Column("request", LargeBinary(32), nullable=False, doc="SHA-256 of the sealed OTPReq, by which a repeat is known"),
    Column("merchant", String(15), nullable=False),
    Column("amount", BigInteger, nullable=False, doc="rial"),
    Column("value", LargeBinary(32), nullable=False, doc="keyed hash of card, XID and password"),
    Column("valid_until", DateTime, nullable=False),
    Column("sent_to", String(18), nullable=False, doc="masked telephone number"),
    Column("used_at", DateTime),
)

password_buckets = Table(
    "password_buckets",
    metadata,
    Column("pan_lookup", LargeBinary(32), primary_key=True),
    Column("full_at", DateTime, nullable=False, doc="when nothing counts against the card any more"),
)

registration_buckets = Table(
    "registration_buckets",
    metadata,
    Column("pan_lookup", LargeBinary(32), primary_key=True),
    Column("full_at", DateTime, nullable=False, doc="when nothing counts against the card any more"),
)

registration_answers = Table(
    "registration_answers",
    metadata,
    Column("request", LargeBinary(32), primary_key=True, doc="SHA-256 of what was asked"),
    Column("answer", LargeBinary, nullable=False, doc="KwbpMessage, for a repeat of the request"),
    Column("answered_at", DateTime, nullable=False),
)
