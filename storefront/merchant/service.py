"""A merchant server as a process: its parts, and how they fit together.

db/merchant-<name>.sqlite      order book
tls/merchant-<name>.key, .pem  TLS identity `urn:kwbp:merchant:<merchant id>`
merchants/<name>.key, .pem     signing key and chain, for a merchant that keeps its own

A `checkpoint` is handed in by tests of what a crash leaves behind; a process that is started normally has none.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.resources import as_file, files
from typing import Final

from ca.errors import StatusError
from ca.hierarchy import load_hierarchy
from ca.ocsp_client import AsyncOcspClient
from ca.status_client import AsyncStatusCache
from ca.timestamp_client import AsyncTimestampClient
from hsm_service.client import AsyncHsmClient
from hsm_service.retry import STARTING, UNKEYED
from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from kwbp.parties import MerchantIdentity
from kwbp.structure import SIZE_LIMIT
from pki.path import Trust
from runtime import server
from runtime.client import keepalive_client
from runtime.secrets import read_secret
from runtime.settings import Home, MerchantSettings, Settings
from shetab.iran import Banks
from storefront.errors import StorefrontError
from storefront.merchant.app import create_app
from storefront.merchant.catalogue import Catalogue, load_catalogue
from storefront.merchant.files import key_files, tls_name
from storefront.merchant.gateway_link import GatewayLink
from storefront.merchant.proof import Proofs
from storefront.merchant.resources import Resources
from storefront.merchant.rules import ShopRules
from storefront.merchant.shop import Shop
from storefront.merchant.store import OrderStore
from storefront.signers import FileSigner, Signer, TokenSigner

BRANDS: Final = frozenset({"Shetab"})
_GATEWAY_TIMEOUT: Final = 60.0  # seconds: longer than the gateway waits for the switch
_LARGEST_GATEWAY_ANSWER: Final = 2 * SIZE_LIMIT  # bytes: a message and its HTTP head, with room to spare


class RepositoryTrust:
    """Status from the CA's repository; when it cannot be had, nothing is believed."""

    def __init__(self, cache: AsyncStatusCache) -> None:
        self._cache = cache

    async def trust(self, now: datetime) -> Trust:
        """The trust in force; raises ProtocolError bciStale (K5)."""
        try:
            return await self._cache.trust(now)
        except StatusError:
            raise ProtocolError(ErrorCode.BCI_STALE, "K5", "the status of certificates cannot be had") from None


@asynccontextmanager
async def opened(
    home: Home,
    settings: Settings,
    name: str,
    merchant: MerchantSettings,
    *,
    checkpoint: Callable[[str], None] = lambda step: None,
) -> AsyncIterator[Shop]:
    """The shop of one merchant with all its lines open, not yet started.

    :raises StorefrontError: it has no certificate yet, or another merchant's.
    """
    tls = home.tls_files(tls_name(name))
    hierarchy = load_hierarchy(home.pki)
    async with AsyncExitStack() as stack:
        signer = await _signer(stack, home, settings, name, merchant)
        certified = MerchantIdentity.of(signer.certificate).merchant_id
        if certified != merchant.merchant_id:
            raise StorefrontError(
                f"{name} is set up as merchant {merchant.merchant_id}, its certificate says {certified}"
            )
        gateway = keepalive_client(
            tls, settings.gateway.url, timeout=_GATEWAY_TIMEOUT, largest_answer=_LARGEST_GATEWAY_ANSWER
        )
        stack.push_async_callback(gateway.aclose)
        status = AsyncStatusCache(settings.repository.url, hierarchy.anchors, hierarchy.intermediates, with_bci=True)
        stack.push_async_callback(status.aclose)
        stamper, responder = AsyncTimestampClient(settings.repository.url), AsyncOcspClient(settings.repository.url)
        stack.push_async_callback(stamper.aclose)
        stack.push_async_callback(responder.aclose)
        store = OrderStore.open(home.db / f"merchant-{name}.sqlite")
        stack.callback(store.close)
        trust = RepositoryTrust(status)
        banks = Banks.load()
        yield Shop(
            ShopRules(merchant.terminal_id, BRANDS, lambda prefix: banks.of_bin(prefix) is not None),
            _catalogue(merchant),
            Resources(
                store=store,
                signer=signer,
                gateway=GatewayLink(gateway),
                trust=trust,
                clock=_now,
                rng=os.urandom,
                checkpoint=checkpoint,
                proofs=Proofs(store, trust, stamper, responder, _now, checkpoint),
            ),
        )


def run(home: Home, settings: Settings, name: str, *, checkpoint: Callable[[str], None] = lambda step: None) -> None:
    """Serve the merchant `name` until SIGTERM."""
    merchant = settings.merchants[name]
    server.serve(
        create_app(partial(opened, home, settings, name, merchant, checkpoint=checkpoint), merchant.merchant_id),
        host=merchant.host,
        port=merchant.port,
        tls=home.tls_files(tls_name(name)),
        client_certificate="optional",
    )


async def _signer(
    stack: AsyncExitStack, home: Home, settings: Settings, name: str, merchant: MerchantSettings
) -> Signer:
    if merchant.key is not None:
        url, tls = settings.hsm.url, home.tls_files(tls_name(name))
        starting = AsyncHsmClient.connect(url, tls, retry=STARTING)
        try:
            found = await TokenSigner.connect(starting, merchant.key)
        finally:
            await starting.close()
        client = AsyncHsmClient.connect(url, tls, retry=UNKEYED)
        stack.push_async_callback(client.close)
        return TokenSigner(client, merchant.key, found.certificate, found.chain)
    key, chain = key_files(home, name)
    if not chain.exists():
        raise StorefrontError(f"the merchant {name} has no certificate yet: {chain} is missing")
    passphrase_file = home.secrets / f"merchant-{name}.passphrase"
    passphrase = read_secret(passphrase_file) if passphrase_file.exists() else None
    return FileSigner.load(key, chain, passphrase, _now)


def _catalogue(merchant: MerchantSettings) -> Catalogue:
    if merchant.catalogue is not None:
        return load_catalogue(merchant.catalogue)
    with as_file(files("storefront.merchant") / "bookshop.yaml") as path:
        return load_catalogue(path)


def _now() -> datetime:
    return datetime.now(UTC)
