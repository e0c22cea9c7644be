"""An acquirer's books without lines and keys: real orders and entries in a real database, the network as its list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import Connection, Row, insert, select, update

from gateway.acquirer.fees import FeeSchedule
from gateway.acquirer.payment_file import Payer
from gateway.acquirer.service import AcquirerService, AcquirerSettings
from gateway.dual_control import DualControl
from gateway.merchants import MerchantRegistry
from gateway.order import Answer, NewOrder, Order, OrderKey
from gateway.routing import SWITCH
from gateway.schema import entries, reconciliations, settlings
from gateway.settling.days import DayState
from gateway.settling.entries import enter
from gateway.settling.reconciliation import sums
from gateway.states import OrderState
from gateway.store import OrderStore
from kwbp import fields
from kwbp.codes import EntryKind
from kwbp.settling import Entry
from pki.der import sha256
from shetab.settlement_list import ListedMovement, SettlementList, write_list
from tests.gateway.conftest import SHOP, Clock, run
from tests.support.pki_factory import IBAN

ACQUIRER: Final = "603770"
DAY: Final = date(2026, 3, 20)  # 1404/12/29: the last of the Jalali year
NETWORK: Final = ec.derive_private_key(11, ec.SECP256R1())
MAKER, SENDER = "service:operator", "officer:officer-1"


@dataclass
class Books:
    """Merchants M-1 and M-2, both paid to the account that the invoice's certificate is bound to."""

    store: OrderStore
    clock: Clock
    acquirer: AcquirerService
    invoice: bytes
    number: int = 0

    @classmethod
    def open(
        cls,
        target: str,
        folder: Path,
        invoice: bytes,
        *,
        fees: FeeSchedule | None = None,
        payer: bool = True,
        dual_control: DualControl = DualControl.CONSOLE,
    ) -> Books:
        store, clock = OrderStore.open(target), Clock(datetime(2026, 3, 21, 6, tzinfo=UTC))
        registry = MerchantRegistry(store)
        for number, merchant in enumerate(("M-1", "M-2"), start=1):
            shop = replace(SHOP, merchant_id=merchant, terminal_id=f"T000000{number}", iban=IBAN)
            run(registry.register(shop, clock.now))
        key = folder / "network.pem"
        key.write_bytes(NETWORK.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        acquirer = AcquirerService(
            AcquirerSettings(Payer("KWBP", IBAN) if payer else None, dual_control, {SWITCH: key, "host": key}),
            store,
            acquirer=ACQUIRER,
            fees=fees or FeeSchedule.fixed(1_000),
            clock=clock,
            rng=bytes,
            checkpoint=lambda step: None,
        )
        return cls(store, clock, acquirer, invoice)

    # --- money --------------------------------------------------------------------------------------------------------

    def sale(self, amount: int = 150_000, *, merchant: str = "M-1", day: date = DAY, route: str = SWITCH) -> Order:
        """An acknowledged sale that the network counts in `day`."""
        return run(self._sale(amount, merchant, day, route, OrderState.APPROVED))

    def approved(self, amount: int = 150_000, *, merchant: str = "M-1", day: date = DAY) -> Order:
        """A sale that the network counts in `day`, and whose merchant has not acknowledged the approval yet."""
        return run(self._concluded(amount, merchant, day, SWITCH, OrderState.APPROVED))

    def acknowledged(self, order: Order) -> Order:
        """What becomes of an approved one."""
        return run(self._acknowledged(order))

    def given_back(self, amount: int = 150_000, *, merchant: str = "M-1") -> Order:
        """A sale whose outcome nobody knew."""
        return run(self._sale(amount, merchant, DAY, SWITCH, OrderState.UNKNOWN))

    def stays_debited(self, order: Order) -> Order:
        """What persons say of a sale that could not be given back, as `given_back` made it."""

        async def said() -> Order:
            now, outcome = self.clock.now, OrderState.DEBITED
            await self.store.give_up_reversal(order, "25", now, "original not found")
            await self.store.state_outcome(order.key, outcome, by=MAKER, reason="as told", now=now)
            return await self.store.confirm_outcome(order.key, outcome, by=SENDER, now=now, counts=lambda by: True)

        return run(said())

    async def _sale(self, amount: int, merchant: str, day: date, route: str, outcome: OrderState) -> Order:
        order = await self._concluded(amount, merchant, day, route, outcome)
        if outcome is OrderState.APPROVED:
            return await self._acknowledged(order)
        return await self.store.queue_reversal(order.key, OrderState.UNKNOWN, "timeout", self.clock.now)

    async def _acknowledged(self, order: Order) -> Order:
        entry = self._entry(EntryKind.SALE, order.xid, order.amount)
        return await self.store.acknowledge(order.key, b"ack", self.clock.now, entry=entry)

    async def _concluded(self, amount: int, merchant: str, day: date, route: str, outcome: OrderState) -> Order:
        self.number += 1
        key, now = OrderKey(merchant, self.number.to_bytes(20, "big")), self.clock.now
        terminal = "T0000001" if merchant == "M-1" else "T0000002"
        await self.store.receive(NewOrder(key, bytes(32), key.xid, terminal, amount, self.invoice, b"dual"), now)
        told: dict[str, Any] = {"acquirer": ACQUIRER, "pan_sealed": b"sealed", "masked_pan": "603770******0007"}
        await self.store.verify(key, **told, now=now, route=route)
        await self.store.sent(key, {}, now)
        approved = outcome is OrderState.APPROVED
        answer = Answer(b"answer", 0) if approved else None
        ack_by = now if approved else None
        return await self.store.conclude(
            key, outcome, now, approved=approved, settle_date=f"{day:%m%d}", ack_by=ack_by, answer=answer
        )

    def credit(self, order: Order, amount: int, *, day: date = DAY) -> None:
        """Money of a sale given back to the card."""
        entry = self._entry(EntryKind.CREDIT, order.xid, amount)
        now = self.clock.now
        row = {"merchant_id": order.merchant_id, "xid": order.xid, "rrpid": entry.h_answer[:20], "request": b""}
        row |= {"content_type": "1.2", "digest": bytes(32), "state": "ANSWERED", "received_at": now, "changed_at": now}
        row |= {"stan": f"9{self.number:05d}", "rrn": f"9{self.number:011d}", "attempts": 1, "next_at": now}

        def job(connection: Connection) -> None:
            connection.execute(insert(settlings).values(**row, answer=b"answer", h_answer=entry.h_answer))
            enter(connection, order.merchant_id, entry, day, order.route, now)

        run(self.store.writer.run(job))

    def _entry(self, kind: EntryKind, xid: bytes, amount: int) -> Entry:
        h_answer = sha256(b"%d %d" % (kind, self.number) + xid)
        return Entry(kind=kind, xid=xid, h_answer=h_answer, amount=amount, date=fields.to_time(self.clock.now))

    # --- days ---------------------------------------------------------------------------------------------------------

    def close(self, day: date = DAY, *, excess: int = 0) -> None:
        """Every network agrees to the day, or pays `excess` rial beyond our books."""

        def job(connection: Connection) -> None:
            query = select(reconciliations).where(reconciliations.c.business_day == day.isoformat())
            for row in connection.execute(query).all():
                mine = (
                    entries.c.merchant_id == row.merchant_id,
                    entries.c.business_day == row.business_day,
                    entries.c.route == row.route,
                )
                counted: dict[EntryKind, tuple[int, int]] = {}
                for each in connection.execute(select(entries).where(*mine)):
                    count, amount = counted.get(EntryKind(each.kind), (0, 0))
                    counted[EntryKind(each.kind)] = (count + 1, amount + each.amount)
                own = {str(field): value for field, value in sums(counted).items()}
                net = int(own["97"][1:]) * (1 if own["97"][0] == "C" else -1) + excess
                theirs = own | {"97": f"{'C' if net >= 0 else 'D'}{abs(net):016d}"}
                this = (
                    reconciliations.c.merchant_id == row.merchant_id,
                    reconciliations.c.business_day == row.business_day,
                    reconciliations.c.route == row.route,
                )
                values = {"state": DayState.CLOSED, "own": own, "theirs": theirs}
                connection.execute(update(reconciliations).where(*this).values(values))

        run(self.store.writer.run(job))

    def rows(self, day: date = DAY) -> list[Row[Any]]:
        return self.acquirer.days(day=day)

    # --- the network --------------------------------------------------------------------------------------------------

    def list_of(self, movements: Sequence[ListedMovement], *, day: date = DAY, **changes: Any) -> bytes:
        made = SettlementList(ACQUIRER, day, True, self.clock.now, tuple(movements))
        return write_list(replace(made, **changes), NETWORK)

    def take(self, movements: Sequence[ListedMovement], *, day: date = DAY, route: str = SWITCH, **changes: Any) -> Any:
        return run(self.acquirer.take_list(self.list_of(movements, day=day, **changes), route=route, by=MAKER))


def listed(order: Order, **changes: Any) -> ListedMovement:
    """A sale as the network lists it."""
    told = {"merchant": order.merchant_id, "terminal": order.terminal_id, "rrn": order.rrn, "stan": order.stan}
    return ListedMovement(**{**told, "movement": "debit", "amount": order.amount, **changes})


NEXT: Final = DAY + timedelta(days=1)
