"""Merchants this gateway collects for, as their acquirer registered them.

The registry says what the network needs to know of a merchant (terminal, category, name) and whether it may sell. Who a
merchant *is* comes from certificates alone: the TLS client certificate and the signing certificate's merchantData must
both name the merchant id under which it is registered here (G2).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.errors import MerchantRegistryError, TerminalTakenError
from gateway.replica_tables import registry_version
from gateway.schema import merchant_accounts, merchants
from gateway.settling.accounts import is_bound
from gateway.store import OrderStore
from kwbp.gateway import EnrolledMerchant
from runtime.database import insert_new
from runtime.language import Message
from shetab.dialect import Dialect
from shetab.errors import ValueFormatError
from shetab.iran import parse_iban

_DE_43: Final = 43
_FORMS: Final = {
    "merchant_id": (
        re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}"),
        Message("1 to 15 letters, digits, '.', '_', '-' (DE 42)"),
    ),
    "terminal_id": (re.compile(r"[A-Za-z0-9]{1,8}"), Message("1 to 8 letters and digits (DE 41)")),
    "name": (re.compile(r"(?=\S)[^\x00-\x1f\x7f-\x9f]{1,40}(?<=\S)"), Message("1 to 40 printable characters (DE 43)")),
    "mcc": (re.compile(r"[0-9]{4}"), Message("4 digits (DE 18, ISO 18245)")),
}


@dataclass(frozen=True, slots=True)
class Merchant:
    """A registered merchant. `order_limit` in rial, None for no limit.

    :raises MerchantRegistryError: a field that its data element cannot carry.
    """

    merchant_id: str
    terminal_id: str
    name: str
    mcc: str
    active: bool = True
    order_limit: int | None = None
    iban: str | None = None
    """Where the acquirer pays to; without one there is no settlement advice."""

    def __post_init__(self) -> None:
        for field, (form, expected) in _FORMS.items():
            if form.fullmatch(getattr(self, field)) is None:
                raise MerchantRegistryError("{field} must be {expected}", field=field, expected=expected)
        if self.iban is not None:
            try:
                iban = parse_iban(self.iban)
            except ValueFormatError as error:
                raise MerchantRegistryError("this is no IBAN: {fault}", fault=Message(error.rule)) from None
            if iban != self.iban:
                raise MerchantRegistryError("iban must be in electronic format: IR and 24 digits without spaces")
        if self.order_limit is not None and self.order_limit <= 0:
            raise MerchantRegistryError("order_limit must be more than 0 rial")

    def network_name(self, dialect: Dialect) -> str:
        """DE 43: the name, or the merchant's id where a dialect has not the letters of the name."""
        name = dialect.canonical(_DE_43, self.name)
        return dialect.pad(_DE_43, self.merchant_id if dialect.broken_rule(_DE_43, name) else name)


_LOOK_EVERY: Final = 1.0
"""Seconds between two looks for changes of other gateways."""
_NAME: Final = "merchants"
_MERCHANTS: Final = registry_version.c.registry == _NAME
_WITH_ACCOUNT: Final[Select[Any]] = (
    select(*merchants.c)
    .add_columns(merchant_accounts.c.iban)
    .select_from(merchants.outerjoin(merchant_accounts, merchants.c.merchant_id == merchant_accounts.c.merchant_id))
)


class MerchantRegistry:
    """The merchants in the order book's database; kept in memory too, since every order asks.

    Where gateways share the database, what another one changed counts here within a second: `refresh`.
    """

    def __init__(
        self,
        store: OrderStore,
        *,
        dialect: Dialect | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`dialect` says what names merchants can have; by default those of the 1987 tables."""
        self._store = store
        self._dialect = dialect or Dialect.load("shetab87_ascii")
        self._monotonic = monotonic
        self._looked_at = monotonic()
        self._version, self._known = self._read()

    async def refresh(self) -> None:
        """Know what other gateways changed up to a second ago.

        :raises DatabaseUnavailableError: nobody can say what they changed.
        """
        now = self._monotonic()
        if not self._store.is_shared or now < self._looked_at + _LOOK_EVERY:
            return
        if await self._store.look(self._current_version) != self._version:
            self._version, self._known = await self._store.look(self._read)
        self._looked_at = now

    def _read(self) -> tuple[int, dict[str, Merchant]]:
        with self._store.reading() as connection:
            version = _version(connection)  # first: what changes meanwhile is read again at the next look
            return version, {row.merchant_id: _merchant(row) for row in connection.execute(_WITH_ACCOUNT)}

    def _current_version(self) -> int:
        with self._store.reading() as connection:
            return _version(connection)

    def find(self, merchant_id: str) -> Merchant | None:
        """The merchant registered under `merchant_id`, active or not."""
        return self._known.get(merchant_id)

    def all(self) -> list[Merchant]:
        """All merchants, by id."""
        return [self._known[merchant_id] for merchant_id in sorted(self._known)]

    async def register(self, merchant: Merchant, now: datetime) -> bool:
        """Register `merchant`, or change its registration; True if it is new.

        :raises MerchantRegistryError: the dialect cannot write the name, the terminal belongs to another merchant, or
            the account is not the one that the merchant's certificate is bound to, as far as its certificate is known.
        """
        name = self._dialect.canonical(_DE_43, merchant.name)
        if self._dialect.broken_rule(_DE_43, name):
            if self._dialect.fields[_DE_43].text:
                raise MerchantRegistryError("name must be 1 to 40 printable characters (DE 43)")
            raise MerchantRegistryError("name must be 1 to 40 printable ASCII characters (DE 43)")
        merchant = replace(merchant, name=name)
        values: dict[str, Any] = {
            "terminal_id": merchant.terminal_id,
            "name": merchant.name,
            "mcc": merchant.mcc,
            "active": merchant.active,
            "order_limit": merchant.order_limit,
            "changed_at": now,
        }

        def job(connection: Connection) -> bool:
            _begin_version(connection)
            if merchant.iban is not None and not is_bound(connection, merchant.merchant_id, merchant.iban):
                raise MerchantRegistryError("the account is not the one that the merchant's certificate is bound to")
            this = merchants.c.merchant_id == merchant.merchant_id
            try:
                known = connection.execute(update(merchants).where(this).values(values)).rowcount
                if not known:
                    new = {"merchant_id": merchant.merchant_id, "registered_at": now}
                    connection.execute(insert(merchants).values(values | new))
            except IntegrityError:
                raise TerminalTakenError("the terminal is registered for another merchant") from None
            connection.execute(delete(merchant_accounts).where(merchant_accounts.c.merchant_id == merchant.merchant_id))
            if merchant.iban is not None:
                account = {"merchant_id": merchant.merchant_id, "iban": merchant.iban}
                connection.execute(insert(merchant_accounts).values(account))
            return not known

        new = await self._store.writer.run(job)
        self._known[merchant.merchant_id] = merchant
        return new


def _version(connection: Connection) -> int:
    version: int | None = connection.execute(select(registry_version.c.version).where(_MERCHANTS)).scalar_one_or_none()
    return version or 0


def _begin_version(connection: Connection) -> None:
    """One more; registrations of two gateways follow one another by it."""
    insert_new(connection, registry_version, registry=_NAME, version=0)
    connection.execute(update(registry_version).where(_MERCHANTS).values(version=registry_version.c.version + 1))


def _merchant(row: Row[Any]) -> Merchant:
    return Merchant(row.merchant_id, row.terminal_id, row.name, row.mcc, row.active, row.order_limit, row.iban)


def enrolled(merchant: Merchant | None) -> EnrolledMerchant | None:
    """The registry's record as the protocol's checks know it."""
    if merchant is None:
        return None
    return EnrolledMerchant(merchant.merchant_id, frozenset({merchant.terminal_id}), merchant.active)
