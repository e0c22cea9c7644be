"""All parties in one process: the real merchants, gateway, switch and wallets, between them the attacker.

    with Site() as site:
        site.buy("B-1", "M-1")        # the invoice
        …

What stands in for something: the token's keys are in memory (`cast`), a writer's thread is the loop (`disk`), the
gateway's journal is a list, HTTP is a function call. Databases are SQLite files; a party that is killed has those
files and nothing else when it starts again.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
from cryptography.x509 import ObjectIdentifier

from gateway.authorization import AuthorizationSettings
from gateway.gateway import Gateway, GatewayConfig
from gateway.gateway import Resources as GatewayResources
from gateway.links.settings import Address, LinkSettings
from gateway.merchants import Merchant
from gateway.reversal import ReversalSettings
from gateway.settling.forwarding import ForwardingSettings
from gateway.store import OrderStore as GatewayStore
from gateway_keys import orders as token_side
from gateway_keys.errors import DecodingFailedError, OrderRefusedError
from gateway_keys.orders import OrderKeys
from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.wallet import CheckedInvoice
from pki.oids import CT_AUTH_RES
from pki.path import Trust
from runtime.database import open_database
from runtime.problems import Problem
from shetab.framing import Framing
from shetab.iran import Banks
from shetab.types import Pan
from storefront.errors import NoAnswer, RefusedByShop, StorefrontError
from storefront.merchant.gateway_link import GatewayLink
from storefront.merchant.resources import Resources as ShopResources
from storefront.merchant.rules import ShopRules
from storefront.merchant.shop import Shop
from storefront.merchant.store import OrderStore as ShopStore
from storefront.signers import FileSigner
from storefront.wallet.purchase import BRAND, Buyer
from switch.faults import FaultPlan
from switch.inbox import Inbox
from switch.key_ring import KeyRing
from switch.processing import Processor
from switch.recording import Rules
from switch.zone import ZoneKeys
from tests.hostile.agreement.cast import (
    ACQUIRER,
    ADDRESS,
    BUYERS,
    CARD_BIN,
    MAC_KEY,
    MERCHANTS,
    ORIGINS,
    PIN_KEY,
    SKU,
    TERMINALS,
    SoftwareToken,
    cast,
    catalogue,
    chain_of,
    copy_of_bank,
    memory,
)
from tests.hostile.agreement.disk import LoopWriter, in_the_loop, writer_of
from tests.hostile.agreement.network import ACK, AUTH, CERTIFICATES, INQUIRY, Network, reply
from tests.hostile.agreement.switch_line import DIALECT, SwitchLine
from tests.hostile.agreement.virtual_time import VirtualLoop, as_party
from tests.support.pki_factory import NOW
from tests.support.steps import done
from tests.support.uptime import following

ACK_TIMEOUT: Final = 60.0
ANSWER_TIMEOUT: Final = 15.0
GATEWAY: Final = "GW-1"
WALLET_PATIENCE: Final = 5.0
"""Virtual seconds for which a wallet waits, in an honest network."""


class _Killed(asyncio.CancelledError):
    """The power fails at a checkpoint."""


class _Keys:
    """The gateway's keys: signing, opening, MAC (in memory)."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._token: Any = SoftwareToken()
        self._keys: Any = OrderKeys(self._token, *(None, None, None, None))  # type: ignore[arg-type]

    async def describe_key(self, name: str) -> Any:
        return _Description(self._credential(name))

    async def sign_cms(self, name: str, content_type: str, content: bytes) -> bytes:
        signed: bytes = self._credential(name).sign(
            ObjectIdentifier(content_type), content, signing_time=self._site.now()
        )
        return signed

    @staticmethod
    def _credential(name: str) -> Any:
        table = cast().gateway_signing if name == "gateway-signing" else cast().gateway_encryption
        return table[GATEWAY]

    async def open_order(self, pi_envelope: bytes, dual_signature: bytes, hod: bytes) -> Any:
        now = self._site.now()
        try:
            order = token_side.verify_order(
                pi_envelope,
                dual_signature,
                hod,
                gateway=cast().gateway_encryption[GATEWAY].certificate,
                trust=cast().trust(now),
                now=now,
            )
            opening = token_side.open_order(
                order, keys=self._keys, now=now, accepts_bin=lambda prefix: prefix == CARD_BIN
            )
            return done(opening)
        except OrderRefusedError as error:
            raise Problem(422, "order-refused", error.detail, clause=error.check) from None
        except DecodingFailedError:
            raise Problem(422, "decoding-failure", "the sealed data could not be opened") from None

    def of_zone(self, zone: str) -> Any:
        return self

    async def unseal_pan(self, xid: bytes, blob: bytes) -> Pan:
        return done(token_side.unseal_pan(self._token, None, xid, blob))  # type: ignore[arg-type]

    async def mac(self, data: bytes) -> bytes:
        return done(token_side.message_mac(self._token, None, data))  # type: ignore[arg-type]

    async def verify_mac(self, data: bytes, mac: bytes) -> bool:
        return await self.mac(data) == mac

    async def sign_answer(self, data: bytes, mac: bytes, *, key: str, content: bytes, zone: str) -> bytes | None:
        if not await self.verify_mac(data, mac):
            return None
        return await self.sign_cms(key, CT_AUTH_RES.dotted_string, content)


class _Description:
    def __init__(self, credential: Any) -> None:
        self.certificate_chain = chain_of(credential)


class _Repository:
    """The CA's repository as one party sees it; the attacker can keep it away."""

    def __init__(self, site: Site, party: str) -> None:
        self._site = site
        self._party = party

    async def trust(self, now: datetime) -> Trust:
        if self._party in self._site.cut_off:
            if self._party == GATEWAY:
                raise Problem(503, "status-unavailable", "the status of certificates cannot be had")
            raise ProtocolError(ErrorCode.BCI_STALE, "K5", "the status of certificates cannot be had")
        return cast().trust(now)


class _Journal:
    """The gateway's journal of refusals."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def append(self, entry: dict[str, Any]) -> None:
        self.entries.append(entry)


@dataclass
class Bought:
    """A purchase as its buyer began it."""

    buyer: str
    merchant: str
    checked: CheckedInvoice
    ordered: bool = False

    @property
    def xid(self) -> bytes:
        return self.checked.invoice.xid


Plan = Callable[[bytes], "bytes | None"]
"""What a wallet's message meets: it is given the message, and returns the answer; None if there is none."""


class Site:
    """See the module."""

    def __init__(self, *, latency: float = 0.0, accepts: Callable[[str], bool] = lambda prefix: True) -> None:
        LoopWriter.latency = latency
        self._latency = latency
        self._accepts = accepts
        self.folder = Path(tempfile.mkdtemp(prefix="agreement-", dir=memory()))
        self.loop = VirtualLoop()
        self.rng = random.Random(8583)
        self.trace: list[str] = []
        self.cut_off: set[str] = set()
        self.bought: list[Bought] = []
        self.journal = _Journal()
        self.armed: tuple[str, str] | None = None
        self._shops: dict[str, Shop] = {}
        self._gateway: Gateway | None = None
        self._down: set[str] = set()
        self.bank = open_database(self._bank_file())
        writer = LoopWriter(self.bank, "switch")
        ring = KeyRing(ZoneKeys(PIN_KEY, MAC_KEY), overlap=timedelta(minutes=1), clock=self.now)
        rules = Rules(DIALECT, cast().issuer_keys, ring, Banks.load(), "581672000", self.rng.randbytes)
        self.processor = Processor(rules, writer, FaultPlan(), self.now, Inbox())  # type: ignore[arg-type]
        self.line = SwitchLine(self.loop, self.processor.handle)
        self.network = Network(self._to_gateway)
        self._start_gateway(first=True)
        for merchant in MERCHANTS:
            self._start_shop(merchant)

    def _bank_file(self) -> Path:
        copy_of_bank(self.folder / "bank.sqlite")
        return self.folder / "bank.sqlite"

    # --- time ---------------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The one clock."""
        return NOW + timedelta(seconds=self.loop.time())

    def settle(self) -> None:
        """Let everything happen that can without anybody's help."""
        self.loop.advance(20 * self._latency)

    def note(self, text: str) -> None:
        """One line of the story."""
        self.trace.append(f"{self.loop.time():8.1f}  {text}")

    # --- parties ------------------------------------------------------------------------------------------------------

    @property
    def gateway_store(self) -> GatewayStore:
        assert self._gateway is not None
        return self._gateway.store

    def shop_store(self, merchant: str) -> ShopStore:
        return self._shops[merchant].store

    def _checkpoint(self, party: str) -> Callable[[str], None]:
        def passed(step: str) -> None:
            if self.armed == (party, step):
                self.armed = None
                self._cut(party)
                self.note(f"{party} loses power right after the step {step!r}")
                raise _Killed

        return passed

    def _start_gateway(self, *, first: bool = False) -> None:
        with in_the_loop():
            store = GatewayStore.open(self.folder / "gateway.sqlite")
        keys = _Keys(self)
        resources = GatewayResources(
            store=store,
            journal=self.journal,  # type: ignore[arg-type]
            signer=keys,
            keys=keys,  # type: ignore[arg-type]  # row 11 is not played
            trust=_Repository(self, GATEWAY),
            clock=self.now,
            uptime=following(self.now),
            rng=self.rng.randbytes,
        )
        config = GatewayConfig(
            gateway_id=GATEWAY,
            acquirer_bin=ACQUIRER,
            authorization=AuthorizationSettings(answer_timeout=ANSWER_TIMEOUT, ack_timeout=ACK_TIMEOUT),
            reversal=ReversalSettings(answer_timeout=ANSWER_TIMEOUT, first_pause=2.0, longest_pause=60.0, tick=10.0),
            settling=ForwardingSettings(
                answer_timeout=ANSWER_TIMEOUT,
                first_pause=2.0,
                pan_kept=timedelta(days=1),
                longest_pause=60.0,
                tick=60.0,
            ),
            link=LinkSettings((Address("switch", 1),), ACQUIRER, Framing(), echo_interval=3600.0),
        )
        gateway = self._gateway = Gateway(config, resources, checkpoint=self._checkpoint(GATEWAY))

        async def begin() -> None:
            if first:
                for merchant in MERCHANTS:
                    registered = Merchant(merchant, TERMINALS[merchant], "Shop", "5942")
                    await gateway.merchants.register(registered, self.now())
            await gateway.start()

        as_party(GATEWAY, lambda: self.loop.create_task(begin()))
        self.settle()

    def _start_shop(self, merchant: str) -> None:
        credential = cast().merchants[merchant]
        with in_the_loop():
            store = ShopStore.open(self.folder / f"{merchant}.sqlite")
        client = httpx.AsyncClient(
            transport=self.network.transport(merchant), base_url="https://gateway", trust_env=False
        )
        resources = ShopResources(
            store=store,
            signer=FileSigner(credential.key, credential.certificate, credential.chain, self.now),
            gateway=GatewayLink(client),
            trust=_Repository(self, merchant),
            clock=self.now,
            rng=self.rng.randbytes,
            checkpoint=self._checkpoint(merchant),
        )
        rules = ShopRules(terminal_id=TERMINALS[merchant], brands=frozenset({BRAND}), accepts_bin=self._accepts)
        shop = self._shops[merchant] = Shop(rules, catalogue(merchant), resources)
        as_party(merchant, lambda: self.loop.create_task(shop.start()))
        self.settle()

    def _store_of(self, party: str) -> Any:
        return self.gateway_store if party == GATEWAY else self.shop_store(party)

    def _cut(self, party: str) -> None:
        writer_of(self._store_of(party)).cut()
        self._down.add(party)

    def restart(self, party: str) -> None:
        """Kill a party where it stands, and start it with what is on its disk."""
        self.note(f"{party} is killed and starts again")
        self._cut(party)
        self.loop.kill(party)
        if party == GATEWAY:
            self.line.cut()
        self._store_of(party).close()
        self._down.discard(party)
        if party == GATEWAY:
            self._start_gateway()
        else:
            self._start_shop(party)

    def raise_the_dead(self) -> None:
        """Start whoever lost power at a checkpoint."""
        for party in sorted(self._down):
            self.restart(party)

    # --- what gets to the parties -------------------------------------------------------------------------------------

    async def _to_gateway(self, merchant: str, path: str, body: bytes) -> bytes | None:
        gateway = self._gateway
        assert gateway is not None
        routes: dict[str, Callable[[str, bytes], Any]] = {
            AUTH: gateway.authorize,
            ACK: gateway.acknowledge,
            INQUIRY: gateway.inquire,
            CERTIFICATES: gateway.certificates,
        }
        task = as_party(GATEWAY, lambda: asyncio.get_running_loop().create_task(routes[path](merchant, body)))
        await asyncio.wait({task})
        if task.cancelled():
            raise httpx.RemoteProtocolError("the gateway is gone")
        error = task.exception()
        if isinstance(error, Problem):
            raise httpx.ReadTimeout("no message")
        if error is not None:
            raise error
        answer: bytes | None = task.result()
        return answer

    def put_to_gateway(self, merchant: str, path: str, body: bytes) -> asyncio.Task[bytes | None]:
        """The attacker speaks to the gateway in the name of a merchant."""
        task = self.loop.create_task(self.network.ask(merchant, path, body))
        self.settle()
        return task

    def put_to_shop(self, merchant: str, body: bytes) -> bytes | None:
        """Anybody speaks to a shop; what it says within `WALLET_PATIENCE`, if the network is honest, else at once."""
        self.network.saw(body)
        shop = self._shops[merchant]
        if merchant in self._down:
            return None
        task = as_party(merchant, lambda: self.loop.create_task(shop.answer(body)))
        self.settle()
        if not task.done() and self.network.honest:
            self.loop.advance(WALLET_PATIENCE)
        if not task.done() or task.cancelled() or task.exception() is not None:
            return None
        answer: bytes | None = task.result()
        self.network.saw(answer)
        return answer if answer is not None else b""

    # --- buyers -------------------------------------------------------------------------------------------------------

    def wallet(self, buyer: str, merchant: str, plan: Plan | None = None) -> Buyer:
        """A buyer's software at a shop, as it starts: it knows its records and nothing else."""
        through: Plan = plan or (lambda message: self.put_to_shop(merchant, message))
        return Buyer(
            cast().buyers[buyer].card,
            httpx.Client(transport=_WalletLine(self, through), base_url=ORIGINS[merchant], trust_env=False),
            origin=ORIGINS[merchant],
            trust=cast().trust,
            folder=self.purchases(buyer),
            clock=self.now,
            rng=self.rng.randbytes,
        )

    def purchases(self, buyer: str) -> Path:
        """A wallet's folder."""
        return self.folder / buyer

    def buy(self, buyer: str, merchant: str, plan: Plan | None = None) -> Bought | None:
        """Ask for an invoice; None if there is none that holds."""
        bought: Bought | None = None
        with self._spoken(f"{buyer} asks {merchant} for an invoice") as story:
            checked = self.wallet(buyer, merchant, plan).request_invoice([(SKU, 1)], ship_to=ADDRESS)
            bought = Bought(buyer, merchant, checked)
            self.bought.append(bought)
            story.append(f"purchase {checked.invoice.xid.hex()[:8]} of {checked.invoice.amount.amount}")
        return bought

    def order(self, bought: Bought, plan: Plan | None = None) -> None:
        """Sign and send the order."""
        issued = cast().buyers[bought.buyer].issued
        with self._spoken(f"{bought.buyer} orders {bought.xid.hex()[:8]} of {bought.merchant}") as story:
            wallet = self.wallet(bought.buyer, bought.merchant, plan)
            bought.ordered = True
            story.append(str(wallet.order(bought.checked, pin2=issued.pin2, cvv2=issued.cvv2).state))

    def resume(self, bought: Bought, plan: Plan | None = None) -> None:
        """Ask again."""
        with self._spoken(f"{bought.buyer} resumes {bought.xid.hex()[:8]} at {bought.merchant}") as story:
            story.append(str(self.wallet(bought.buyer, bought.merchant, plan).resume(bought.xid).state))

    @contextmanager
    def _spoken(self, what: str) -> Iterator[list[str]]:
        story: list[str] = []
        try:
            yield story
        except RefusedByShop as refusal:
            story.append(f"refused: {refusal.error.code.protocol_name} at {refusal.error.check}")
        except ProtocolError as error:
            story.append(f"not believed: {error.code.protocol_name} at {error.check}")
        except (NoAnswer, StorefrontError) as error:
            story.append(f"nothing: {type(error).__name__}")
        self.note(f"{what} → {', '.join(story)}")

    # --- the end ------------------------------------------------------------------------------------------------------

    def be_honest(self) -> None:
        """The attacker gives up: from now on everything arrives, and everybody is there."""
        self.note("--- from here on the network is honest")
        self.armed = None
        self.cut_off.clear()
        self.network.certificates = None
        self.network.be_honest()
        self.line.be_honest()
        self.raise_the_dead()
        self.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything; nothing of it is left."""
        for party in (GATEWAY, *MERCHANTS):
            writer_of(self._store_of(party)).cut()
            self.loop.kill(party)
            self._store_of(party).close()
        for task in list(self.loop.tasks):
            task.cancel()
        self.loop.advance(0)
        self.bank.dispose()
        self.loop.close()
        shutil.rmtree(self.folder)


class _WalletLine(httpx.BaseTransport):
    def __init__(self, site: Site, plan: Plan) -> None:
        self._site = site
        self._plan = plan

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        message = request.read()
        self._site.network.saw(message)
        answer = self._plan(message)
        if answer is None:
            raise httpx.ReadTimeout("no answer")
        return reply(answer or None)


__all__ = ["BUYERS", "Bought", "Plan", "Site"]
