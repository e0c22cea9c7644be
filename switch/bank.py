"""The bank's counter: accounts, cards, statements.

Works on the database file directly, so that an account can be opened before any service runs, and inside the running
simulator through its one writer. Card data leaves in the answer of `issue_card` and is nowhere else afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from typing import Final, Protocol, TypeVar

from sqlalchemy import Connection, Engine, Row, case, func, insert, select, update

from runtime.database import put
from shetab.errors import ValueFormatError
from shetab.iran import Bank as BankData
from shetab.iran import Banks, build_iban, pan_from, parse_national_code
from shetab.jalali import expiry_after
from shetab.types import Pan, Pin, Rial
from switch import business_day, ledger, movements
from switch.errors import BankError
from switch.issuer_keys import IssuerKeys
from switch.records import Account, CardStatus, IssuedCard, MerchantTotal, TransactionStatus
from switch.schema import accounts, acquirers, card_policies, cards, entries, metadata, phones, transactions

T = TypeVar("T")

CASH: Final = "CASH"
"""The account that stands for the world outside: deposits come from it."""
_PIN2_LENGTH: Final = 8
_PHONE: Final = re.compile(r"09[0-9]{9}")


class Transact(Protocol):
    """Runs a job in a transaction of its own and returns its result after the commit."""

    def __call__(self, job: Callable[[Connection], T], /) -> T: ...


class Bank:
    """All issuers of the card table behind one counter."""

    def __init__(
        self,
        transact: Transact,
        keys: IssuerKeys,
        *,
        rng: Callable[[int], bytes],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        banks: Banks | None = None,
    ) -> None:
        self._transact = transact
        self._keys = keys
        self._rng = rng
        self._clock = clock
        self._banks = banks or Banks.load()

    # --- accounts ----------------------------------------------------------------------------------------------------

    def open_account(
        self,
        bin_: str,
        *,
        holder: str,
        national_code: str | None = None,
        balance: Rial | None = None,
        phone: str | None = None,
    ) -> Account:
        """Open a deposit account at the bank that issues cards under `bin_`, with a first deposit.

        :param phone: where one-time passwords are sent, `09` and nine digits; without it the simulator makes one up.
        :raises BankError: `unknown_issuer` if no bank of the network has this BIN; `invalid` name, national code or
            telephone number.
        """
        bank = self._bank_of(bin_)
        if len(bin_) != 6:
            raise BankError("invalid", "a BIN has 6 digits")
        code = self._national_code(national_code)
        if phone is not None and _PHONE.fullmatch(phone) is None:
            raise BankError("invalid", "a mobile number is 09 and nine digits")
        number = phone or f"09{self._digits(9)}"
        if not holder.strip() or len(holder) > 200:
            raise BankError("invalid", "the holder's name has 1 to 200 characters")
        iban = self._new_iban(bank)

        def job(connection: Connection) -> Account:
            self._insert_account(connection, iban, "customer", holder, bin_, code)
            connection.execute(insert(phones).values(iban=iban, number=number))
            self._deposit(connection, iban, int(balance or 0))
            return self._account(connection, iban)

        return self._transact(job)

    def deposit(self, iban: str, amount: Rial) -> Account:
        """Pay in cash.

        :raises BankError: `unknown_account`.
        """

        def job(connection: Connection) -> Account:
            self._account(connection, iban)
            self._deposit(connection, iban, amount)
            return self._account(connection, iban)

        return self._transact(job)

    def account(self, iban: str) -> Account:
        """The account and its balance.

        :raises BankError: `unknown_account`.
        """
        return self._transact(lambda connection: self._account(connection, iban))

    def statement(self, iban: str) -> list[tuple[datetime, int, str]]:
        """Entries of an account, oldest first: moment (aware, UTC), signed rial, text.

        :raises BankError: `unknown_account`.
        """

        def job(connection: Connection) -> list[tuple[datetime, int, str]]:
            self._account(connection, iban)
            rows = connection.execute(select(entries).where(entries.c.iban == iban).order_by(entries.c.id))
            return [(row.booked_at.replace(tzinfo=UTC), row.amount, row.text) for row in rows]

        return self._transact(job)

    # --- cards -------------------------------------------------------------------------------------------------------

    def issue_card(self, iban: str, *, years: int = 3) -> IssuedCard:
        """Make a card on an account, valid for `years` Jalali years (1 to 10). The only time its data are shown.

        :raises BankError: `unknown_account`, `not_a_customer`, or `invalid` for the years.
        """
        if not 1 <= years <= 10:
            raise BankError("invalid", "a card is valid for 1 to 10 years")
        now = self._clock()

        def job(connection: Connection) -> IssuedCard:
            account = self._account(connection, iban)
            if account.kind != "customer":
                raise BankError("not_a_customer", "cards are issued on customers' accounts only")
            bin_ = connection.execute(select(accounts.c.bin).where(accounts.c.iban == iban)).scalar_one()
            pan = self._new_pan(connection, bin_)
            expiry = expiry_after(now, years)
            card = IssuedCard(
                card_id=self._rng(8).hex(),
                iban=iban,
                masked_pan=pan.masked,
                pan=pan,
                expiry=expiry,
                cvv2=self._keys.cvv2(pan, expiry),
                pin2=Pin(self._digits(_PIN2_LENGTH)),
            )
            connection.execute(
                insert(cards).values(
                    card_id=card.card_id,
                    pan_lookup=self._keys.pan_lookup(pan),
                    masked_pan=pan.masked,
                    iban=iban,
                    expiry_value=self._keys.expiry_value(pan, expiry),
                    pin_value=self._keys.pin_value(pan, card.pin2),
                    wrong_tries=0,
                    state="active",
                    issued_at=ledger.naive_utc(now),
                )
            )
            return card

        return self._transact(job)

    def card(self, card_id: str) -> CardStatus:
        """State of a card.

        :raises BankError: `unknown_card`.
        """
        return self._transact(lambda connection: self._card(connection, card_id))

    def block_card(self, card_id: str) -> CardStatus:
        """Refuse the card from now on (RC 62).

        :raises BankError: `unknown_card`.
        """
        return self._set_card(card_id, state="blocked")

    def unblock_card(self, card_id: str) -> CardStatus:
        """Let the card work again and forget its wrong tries.

        :raises BankError: `unknown_card`.
        """
        return self._set_card(card_id, state="active", wrong_tries=0)

    def set_static_pin2(self, card_id: str, allowed: bool) -> CardStatus:
        """Whether PIN2 pays with the card, or a one-time password alone.

        :raises BankError: `unknown_card`.
        """

        def job(connection: Connection) -> CardStatus:
            found = self._card(connection, card_id)
            put(connection, card_policies, card_id=card_id, static_pin2=allowed)
            return found

        return self._transact(job)

    # --- acquirers and transactions ----------------------------------------------------------------------------------

    def register_acquirer(self, code: str, name: str) -> Account:
        """Make an acquirer known to the switch; answers its intermediary account. Again: answers the same.

        :raises BankError: `unknown_issuer` if the code's first six digits are no bank's, `invalid` if it is no code.
        """
        if not (code.isascii() and code.isdigit() and 6 <= len(code) <= 11) or code.startswith("0"):
            raise BankError("invalid", "an acquirer's code has 6 to 11 digits and does not begin with 0")
        iban = self._new_iban(self._bank_of(code))

        def job(connection: Connection) -> Account:
            query = select(acquirers.c.intermediary).where(acquirers.c.code == code)
            known = connection.execute(query).scalar_one_or_none()
            if known is None:
                self._insert_account(connection, iban, "intermediary", name, code[:6], None)
                connection.execute(insert(acquirers).values(code=code, name=name, intermediary=iban))
            return self._account(connection, known or iban)

        return self._transact(job)

    def intermediary(self, acquirer: str) -> Account:
        """The account credited with the acquirer's sales.

        :raises BankError: `unknown_acquirer`.
        """

        def job(connection: Connection) -> Account:
            query = select(acquirers.c.intermediary).where(acquirers.c.code == acquirer)
            iban = connection.execute(query).scalar_one_or_none()
            if iban is None:
                raise BankError("unknown_acquirer", "no such acquirer")
            return self._account(connection, iban)

        return self._transact(job)

    def merchant_totals(self, acquirer: str) -> list[MerchantTotal]:
        """The settle lines of an acquirer: one a merchant, their sum is the balance of the intermediary account."""

        def job(connection: Connection) -> list[MerchantTotal]:
            stands = transactions.c.state == "approved"
            query = (
                select(
                    transactions.c.merchant,
                    func.sum(case((stands, 1), else_=0)),
                    func.sum(case((transactions.c.state == "reversed", 1), else_=0)),
                )
                .where(transactions.c.kind.in_(("sale", "capture")), transactions.c.acquirer == acquirer)
                .group_by(transactions.c.merchant)
                .order_by(transactions.c.merchant)
            )
            net = movements.nets(connection, acquirer)
            return [
                MerchantTotal(merchant, sales, net.get(merchant, 0), reversed_)
                for merchant, sales, reversed_ in connection.execute(query)
            ]

        return self._transact(job)

    def transactions(self, *, rrn: str | None = None, reference: str | None = None) -> list[TransactionStatus]:
        """Sales and reversals in the order in which they came, all or those with this DE 37 or DE 62."""
        query = select(transactions).order_by(transactions.c.id)
        if rrn is not None:
            query = query.where(transactions.c.rrn == rrn)
        if reference is not None:
            query = query.where(transactions.c.reference == reference)
        names = TransactionStatus.__slots__
        return self._transact(
            lambda connection: [
                TransactionStatus(**{name: getattr(row, name) for name in names}) for row in connection.execute(query)
            ]
        )

    def business_day(self) -> date:
        """The day that movements of money are counted in now."""
        return self._transact(lambda connection: business_day.current(connection, self._clock()))

    def cut_over(self, day: date | None) -> date:
        """Count in another day from now on; None: in the calendar's. Answers the day that is open now."""

        def job(connection: Connection) -> date:
            business_day.set_day(connection, day)
            return business_day.current(connection, self._clock())

        return self._transact(job)

    def is_balanced(self) -> bool:
        """True if no rial was made or lost since the first deposit."""
        return self._transact(ledger.is_balanced)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _bank_of(self, bin_: str) -> BankData:
        bank = self._banks.of_bin(bin_)
        if bank is None:
            raise BankError("unknown_issuer", "no bank of the network has this BIN")
        return bank

    @staticmethod
    def _national_code(text: str | None) -> str | None:
        try:
            return None if text is None else parse_national_code(text)
        except ValueFormatError as error:
            raise BankError("invalid", str(error)) from None

    def _digits(self, count: int) -> str:
        digits = ""
        while len(digits) < count:
            # 250 is the largest multiple of ten below 256: bytes from there on would favour the low digits.
            digits += "".join(str(byte % 10) for byte in self._rng(count) if byte < 250)
        return digits[:count]

    def _new_iban(self, bank: BankData) -> str:
        return build_iban(bank.iban_code, self._digits(13))

    def _new_pan(self, connection: Connection, bin_: str) -> Pan:
        while True:
            pan = pan_from(bin_ + self._digits(9))
            query = select(cards.c.card_id).where(cards.c.pan_lookup == self._keys.pan_lookup(pan))
            if connection.execute(query).one_or_none() is None:
                return pan

    def _insert_account(
        self, connection: Connection, iban: str, kind: str, holder: str, bin_: str, national_code: str | None
    ) -> None:
        connection.execute(
            insert(accounts).values(
                iban=iban,
                kind=kind,
                holder=holder,
                national_code=national_code,
                bin=bin_,
                balance=0,
                opened_at=ledger.naive_utc(self._clock()),
            )
        )

    def _deposit(self, connection: Connection, iban: str, amount: int) -> None:
        if amount == 0:
            return
        if connection.execute(select(accounts.c.iban).where(accounts.c.iban == CASH)).one_or_none() is None:
            self._insert_account(connection, CASH, "cash", "Cash", "000000", None)
        ledger.transfer(connection, debit=CASH, credit=iban, amount=amount, text="deposit", now=self._clock())

    def _account(self, connection: Connection, iban: str) -> Account:
        row = connection.execute(select(accounts).where(accounts.c.iban == iban)).one_or_none()
        if row is None:
            raise BankError("unknown_account", "no such account")
        bank = self._banks.of_bin(row.bin)
        return Account(row.iban, row.kind, row.holder, bank.name_en if bank else "", row.balance)

    def _card(self, connection: Connection, card_id: str) -> CardStatus:
        row: Row[tuple[object, ...]] | None = connection.execute(
            select(cards).where(cards.c.card_id == card_id)
        ).one_or_none()
        if row is None:
            raise BankError("unknown_card", "no such card")
        return CardStatus(row.card_id, row.iban, row.masked_pan, row.state, row.wrong_tries)

    def _set_card(self, card_id: str, **values: object) -> CardStatus:
        def job(connection: Connection) -> CardStatus:
            connection.execute(update(cards).where(cards.c.card_id == card_id).values(**values))
            return self._card(connection, card_id)

        return self._transact(job)


def transact_on(engine: Engine) -> Transact:
    """Each job in a transaction of its own on `engine`, for use without a running simulator."""
    metadata.create_all(engine)

    def transact(job: Callable[[Connection], T], /) -> T:
        begun: AbstractContextManager[Connection] = engine.begin()
        with begun as connection:
            return job(connection)

    return transact
