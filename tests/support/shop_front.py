"""Merchant servers and their customers on a payment site: everything between the wallet and the bank is real.

    front = Front.of(site, gateway_url, folder)     one merchant with a key file; `in_token=True`: with a token key
    with front.serving() as url:                    its server, in a thread; stop and start as often as you like
        customer.buyer(front, folder).order(…)      the wallet's own code over TLS

`front.line` stands on the wire between merchant and gateway: it counts what is sent and does what a test tells it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from ca.hierarchy import load_hierarchy
from ca.status_client import AsyncStatusCache, StatusCache
from hsm_service.client import AsyncHsmClient, HsmClient
from kwbp import wallet as protocol
from kwbp.error_message import ReceivedError, read_error
from kwbp.wrapper import MEDIA_TYPE, unwrap
from pki.names import identity_uri
from pki.oids import CT_ERROR, MT_INVOICE
from pki.roles import Role
from runtime import server
from runtime.client import TlsFiles, async_http_client, http_client
from runtime.settings import Home
from storefront.merchant.app import create_app
from storefront.merchant.catalogue import Catalogue, load_catalogue
from storefront.merchant.documents import Document
from storefront.merchant.gateway_link import GatewayLink
from storefront.merchant.resources import Resources
from storefront.merchant.rules import ShopRules
from storefront.merchant.service import RepositoryTrust
from storefront.merchant.shop import Shop
from storefront.merchant.store import Order, OrderStore
from storefront.signers import FileSigner, Signer, TokenSigner
from storefront.wallet.purchase import BRAND, Buyer
from storefront.wallet.wallet import CardCredential
from tests.support import payment_site
from tests.support.payment_site import ACQUIRER, CARD_BIN, Site, now, wait_for
from tests.support.pki_factory import Credential
from tests.support.ports import free_port
from tests.support.readiness import listens
from tests.support.ready_python import Python

CATALOGUE: Final = Path(__file__).parents[2] / "storefront" / "merchant" / "bookshop.yaml"
BASKET: Final = (("divan-hafez", 2), ("golestan", 1))
TOTAL: Final = 2 * 1_850_000 + 1_250_000

_PROGRAM: Final = """
import os, signal, sys
from pathlib import Path
from runtime import logging
from runtime.settings import Home, Settings
from storefront.merchant import service

home, name, fatal = Home(Path(sys.argv[1])), sys.argv[2], sys.argv[3]


def checkpoint(step: str) -> None:
    if step == fatal:
        os.kill(os.getpid(), signal.SIGKILL)


logging.configure(f"merchant-{name}", home.log)
service.run(home, Settings.load(home), name, checkpoint=checkpoint)
"""

Forward = Callable[[httpx.Request], Awaitable[httpx.Response]]
Fault = Callable[[httpx.Request, Forward], Awaitable[httpx.Response]]


class Clock:
    """The machine's clock, `offset` behind or ahead."""

    def __init__(self, offset: timedelta = timedelta()) -> None:
        self.offset = offset

    def __call__(self) -> datetime:
        return now() + self.offset


@dataclass
class Line:
    """The wire between a merchant and its gateway."""

    sent: list[tuple[str, bytes]] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)
    always: Fault | None = None
    certificates: Fault | None = None
    """What happens when the gateway is asked for its certificates."""

    def count(self, path: str) -> int:
        return sum(each == path for each, _ in self.sent)

    def transport(self, real: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        return _Faulty(self, real)


class _Faulty(httpx.AsyncBaseTransport):
    def __init__(self, line: Line, real: httpx.AsyncBaseTransport) -> None:
        self._line, self._real = line, real

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/v1/certificates":
            self._line.sent.append((request.url.path, await request.aread()))
            fault = self._line.faults.popleft() if self._line.faults else self._line.always
        else:
            fault = self._line.certificates
        if fault is not None:
            return await fault(request, self._real.handle_async_request)
        return await self._real.handle_async_request(request)

    async def aclose(self) -> None:
        await self._real.aclose()


async def unreachable(_request: httpx.Request, _forward: Forward) -> httpx.Response:
    """Nothing gets through."""
    raise httpx.ConnectError("no route")


async def answer_lost(request: httpx.Request, forward: Forward) -> httpx.Response:
    """The gateway gets it, the merchant hears nothing."""
    response = await forward(request)
    await response.aread()
    raise httpx.ReadError("connection lost")


def replies(body: bytes | Callable[[bytes], bytes], *, status: int = 200, media_type: str = MEDIA_TYPE) -> Fault:
    """Something else comes back; the gateway never gets the request. `body` may be made from the request's."""

    async def fault(request: httpx.Request, _forward: Forward) -> httpx.Response:
        content = body if isinstance(body, bytes) else await asyncio.to_thread(body, await request.aread())
        return httpx.Response(status, content=content, headers={"content-type": media_type})

    return fault


class _Fall:
    """A checkpoint that ends the task which reaches it, as if the process had ended there."""

    def __init__(self, step: str) -> None:
        self._step = step

    def __call__(self, step: str) -> None:
        if step == self._step:
            raise asyncio.CancelledError


@dataclass
class Front:
    """One merchant: identity, order book, server."""

    site: Site
    folder: Path
    name: str
    merchant_id: str
    terminal_id: str
    port: int
    gateway: str
    credential: Credential
    tls: TlsFiles
    key: str | None
    line: Line = field(default_factory=Line)
    clock: Clock = field(default_factory=Clock)
    rules: dict[str, Any] = field(default_factory=dict)
    signer: Callable[[], Signer] | None = None
    catalogue: Catalogue = field(default_factory=lambda: load_catalogue(CATALOGUE))

    @classmethod
    def of(
        cls,
        site: Site,
        gateway: str,
        folder: Path,
        *,
        in_token: bool = False,
        key: Any = None,
        registered: bool = True,
        **changes: Any,
    ) -> Front:
        """A new merchant, certified and registered at the gateway. `changes` go to its certificate."""
        number = len(site._shops) + 1
        merchant_id, terminal_id, port = f"FRONT-{number}", f"F{number:07d}", free_port()
        name = f"front-{number}"
        site._shops[merchant_id] = None  # type: ignore[assignment]  # the number is taken
        origin = f"https://127.0.0.1:{port}"
        names = [x509.UniformResourceIdentifier(uri) for uri in (identity_uri("merchant", merchant_id), origin)]
        changes = {
            "acquirer_bin": ACQUIRER,
            "replace": {"subject_alternative_name": (x509.SubjectAlternativeName(names), False)},
            **changes,
        }
        token_key = f"merchant-{name}" if in_token else None
        if token_key is not None:
            with hsm(site, "operator") as keys:
                info = keys.generate_key(token_key, "merchant-signing-ec", owner=merchant_id)
                credential = site.pki.merchant(merchant_id, key=_public_only(info.public_key), **changes)
                chain = [each.public_bytes(Encoding.DER) for each in credential.chain]
                keys.attach_certificate(token_key, [credential.der, *chain])
        else:
            credential = site.pki.merchant(merchant_id, key=key, **changes)
        tls = site.tls(f"merchant-{name}", identity_uri("merchant", merchant_id))
        front = cls(site, folder, name, merchant_id, terminal_id, port, gateway, credential, tls, token_key)
        if registered:
            front.register()
        return front

    @property
    def origin(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def register(self, **changes: Any) -> None:
        """Tell the gateway of this merchant."""
        shop = payment_site.Shop(self.site, self.merchant_id, self.terminal_id, self.credential, self.tls)
        self.site.register(self.gateway, shop, **changes)

    # --- the server ---------------------------------------------------------------------------------------------------

    @contextmanager
    def serving(self, *, fall: str = "", clock: Clock | None = None) -> Iterator[str]:
        """The merchant's server in a thread; `fall`: it stands still for ever after this step."""
        clock = clock or self.clock

        @asynccontextmanager
        async def opened() -> AsyncIterator[Shop]:
            hierarchy = load_hierarchy(self.site.home.pki)
            repository = f"http://127.0.0.1:{self.site.settings['repository']['port']}"
            async with AsyncExitStack() as stack:
                line = async_http_client(self.tls, self.gateway, timeout=60)
                line._transport = self.line.transport(line._transport)
                stack.push_async_callback(line.aclose)
                status = AsyncStatusCache(repository, hierarchy.anchors, hierarchy.intermediates)
                stack.push_async_callback(status.aclose)
                store = OrderStore.open(self.folder / f"{self.name}.sqlite")
                stack.callback(store.close)
                yield Shop(
                    ShopRules(self.terminal_id, frozenset({BRAND}), lambda prefix: prefix == CARD_BIN, **self.rules),
                    self.catalogue,
                    Resources(
                        store=store,
                        signer=await self._signer(stack, clock),
                        gateway=GatewayLink(line),
                        trust=RepositoryTrust(status),
                        clock=clock,
                        rng=os.urandom,
                        checkpoint=_Fall(fall),
                    ),
                )

        app = create_app(opened, self.merchant_id)
        with server.start(app, tls=self.tls, client_certificate="optional", port=self.port) as url:
            yield url

    async def _signer(self, stack: AsyncExitStack, clock: Clock) -> Signer:
        if self.signer is not None:
            return self.signer()
        if self.key is None:
            return FileSigner(self.credential.key, self.credential.certificate, self.credential.chain, clock)
        client = AsyncHsmClient.connect(hsm_url(self.site), self.tls)
        stack.push_async_callback(client.close)
        return await TokenSigner.connect(client, self.key)

    def home(self) -> Home:
        """A home in which this merchant can run as a process."""
        home = Home(self.folder / "home")
        if not home.path.exists():
            home.path.mkdir(parents=True)
            home.pki.symlink_to(self.site.home.pki)
            home.tls.symlink_to(self.site.home.tls)
            home.create()
            if self.key is None:
                folder = home.path / "merchants"
                folder.mkdir()
                self.credential.write(folder, self.name)
            gateway = {**self.site.settings["gateway"], "port": httpx.URL(self.gateway).port}
            merchant: dict[str, Any] = {
                "port": self.port,
                "merchant_id": self.merchant_id,
                "name": "Bookshop",
                "terminal_id": self.terminal_id,
            }
            if self.key is not None:
                merchant["key"] = self.key
            settings = {**self.site.settings, "gateway": gateway, f"merchants.{self.name}": merchant}
            payment_site.write_settings(home, settings)
        return home

    @contextmanager
    def process(self, *, fatal: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """The merchant's server as a process; it kills itself (SIGKILL) right after the step `fatal`."""
        process = Python(["-c", _PROGRAM, self.home().path, self.name, fatal])
        try:
            wait_for(lambda: process.poll() is not None or self._is_ready())
            assert process.poll() is None
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(30)

    def _is_ready(self) -> bool:
        if not listens(self.origin):
            return False
        try:
            with self.http() as client:
                return client.get("/health/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def wait_killed(self, process: subprocess.Popen[bytes]) -> None:
        assert process.wait(60) == -signal.SIGKILL

    # --- looking at it ------------------------------------------------------------------------------------------------

    def http(self, tls: TlsFiles | None = None) -> httpx.Client:
        """A client of the server, anonymous without `tls`."""
        if tls is not None:
            return http_client(tls, self.origin)
        return http_client(None, self.origin, ca=self.site.home.trust_anchors)

    def post(self, path: str, body: bytes, media_type: str = MEDIA_TYPE) -> httpx.Response:
        with self.http() as client:
            return client.post(path, content=body, headers={"content-type": media_type})

    def refused(self, path: str, body: bytes) -> ReceivedError:
        """The Error message, signed by this merchant, with which `body` is refused."""
        response = self.post(path, body)
        assert (response.status_code, response.headers["content-type"]) == (200, MEDIA_TYPE), response.text
        received = read_error(
            unwrap(response.content, expected=(CT_ERROR,)),
            sent=body,
            role=Role.MERCHANT,
            trust=self.site.pki.trust(now()),
            now=now(),
        )
        assert received.signer == self.credential.certificate
        return received

    @contextmanager
    def book(self) -> Iterator[OrderStore]:
        """The order book on the disk."""
        at = self.folder / "home" / "db" / f"merchant-{self.name}.sqlite"
        store = OrderStore.open(at if at.exists() else self.folder / f"{self.name}.sqlite")
        try:
            yield store
        finally:
            store.close()

    def order(self, xid: bytes) -> Order | None:
        with self.book() as book:
            return book.find(xid)

    def document(self, xid: bytes, kind: Document) -> bytes | None:
        with self.book() as book:
            return book.document(xid, kind)

    def debits(self) -> int:
        """Sales of this merchant that moved money and were not taken back."""
        return sum(
            each.kind == "sale" and each.merchant == self.merchant_id and each.state == "approved"
            for each in self.site.switch.admin.transactions()
        )


@dataclass
class Customer:
    """A customer of a bank with a card in the wallet."""

    bank: payment_site.Buyer

    @classmethod
    def of(cls, site: Site, **changes: Any) -> Customer:
        return cls(site.buyer(**changes))

    @property
    def balance(self) -> int:
        return self.bank.balance

    @property
    def card(self) -> CardCredential:
        card, credential = self.bank.card, self.bank.credential
        return CardCredential(
            "mehr", card.pan, card.expiry, card.card_secret, card.pan_secret,
            credential.key, credential.certificate, credential.chain,
        )  # fmt: skip

    @contextmanager
    def shopping(
        self, front: Front, folder: Path, *, origin: str | None = None, clock: Callable[[], datetime] = now
    ) -> Iterator[Buyer]:
        """The wallet's side of purchases at `front`; `origin`: it believes to be at another site."""
        site = self.bank.site
        hierarchy = load_hierarchy(site.home.pki)
        repository = f"http://127.0.0.1:{site.settings['repository']['port']}"
        status = StatusCache(repository, hierarchy.anchors, hierarchy.intermediates)
        with front.http() as shop:
            try:
                yield Buyer(
                    self.card, shop, origin=origin or front.origin, trust=status.trust, folder=folder, clock=clock
                )
            finally:
                status.close()

    @property
    def typed(self) -> dict[str, Any]:
        """What the holder types at a purchase."""
        return {"pin2": self.bank.card.pin2, "cvv2": self.bank.card.cvv2}

    # --- the wallet's messages one by one, for tests that change them -------------------------------------------------

    def ask(self, clock: Callable[[], datetime] = now, **changes: Any) -> Any:
        """InvoiceReq as a draft."""
        arguments: dict[str, Any] = {
            "rrpid": os.urandom(20),
            "chall_c": os.urandom(32),
            "brand_id": BRAND,
            "bin_": self.bank.card.pan.bin,
            "basket": BASKET,
            "now": clock(),
            "language": "en",
        }
        return protocol.build_invoice_request(**(arguments | changes))

    def signed(self, draft: Any, clock: Callable[[], datetime] = now) -> bytes:
        """The KwbpMessage with the draft, signed by the card."""
        return draft.message(self.bank.credential.sign(draft.content_type, draft.content, signing_time=clock()))

    def accept(self, request: Any, answer: bytes, front: Front) -> protocol.PurchaseDraft:
        """The order that follows an invoice."""
        checked = protocol.check_invoice(
            unwrap(answer, expected=(MT_INVOICE,)),
            request=request.body,
            origin=front.origin,
            trust=self.bank.site.pki.trust(now()),
            now=now(),
        )
        return protocol.build_purchase(checked, self.bank.card, rrpid=os.urandom(20), now=now(), rng=os.urandom)

    def dual_signed(self, order: protocol.PurchaseDraft) -> bytes:
        """The KwbpMessage with the PReq."""
        draft = order.dual_signature
        return order.message(self.bank.credential.sign(draft.content_type, draft.content, signing_time=now()))


def hsm_url(site: Site) -> str:
    return f"https://127.0.0.1:{site.settings['hsm']['port']}"


@contextmanager
def hsm(site: Site, service: str) -> Iterator[HsmClient]:
    """The signing API, called as a service."""
    with HsmClient.connect(hsm_url(site), site.tls(service)) as client:
        yield client


class _PublicOnly:
    def __init__(self, spki: bytes) -> None:
        self._public = load_der_public_key(spki)

    def public_key(self) -> Any:
        return self._public


def _public_only(spki: bytes) -> Any:
    """Stands for a key whose private half is in the token."""
    return _PublicOnly(spki)
