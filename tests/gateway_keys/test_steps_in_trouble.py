"""An opening in steps whose token hangs or dies in the midst of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from gateway_keys.client import GatewayKeysClient
from runtime.settings import Settings
from tests.faults.faulty_module import wait_until
from tests.gateway_keys.test_plugin import Site, card, running_site
from tests.support.sealed_orders import BuyersCard

__all__ = ["card"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory, Settings()) as made:
        yield made


def _token(site: Site) -> Any:
    return site.vault.key("gateway-encryption").use()[0]


@pytest.fixture
def healthy(site: Site) -> Iterator[None]:
    yield
    assert _token(site).wait_healthy(60)


def _openings(entries: list[dict[str, Any]], since: int) -> tuple[list[int], dict[int, dict[str, Any]]]:
    intents = [n for n, each in enumerate(entries) if n >= since and each.get("event") == "intent"]
    return intents, {each["intent"]: each for each in entries[since:] if each.get("event") == "outcome"}


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL])
@pytest.mark.usefixtures("healthy")
def test_a_token_that_fails_in_the_midst_is_told_and_recorded_and_the_next_order_is_opened(
    site: Site, card: BuyersCard, how: signal.Signals
) -> None:
    orders = [site.orders.order(card) for _ in range(6)]
    before, process = len(site.journal()), _token(site).process_id
    os.kill(process, signal.SIGSTOP)  # what is asked from now on is under way

    async def scenario(client: GatewayKeysClient) -> list[Any]:
        asked = [
            asyncio.ensure_future(client.open_order(each.pi_envelope, each.dual_signature, each.hod)) for each in orders
        ]
        token = _token(site)

        def under_way() -> bool:
            return token.in_flight + token.queued >= len(orders) or any(each.done() for each in asked)

        await asyncio.to_thread(wait_until, under_way)
        if how is not signal.SIGSTOP:
            os.kill(process, how)
        return await asyncio.gather(*asked, return_exceptions=True)

    told = site.ask(scenario)
    assert {(getattr(each, "status", None), getattr(each, "type", repr(each))) for each in told} == {
        (503, "token-unavailable")
    }
    intents, outcomes = _openings(site.journal(), before)
    assert len(intents) == len(orders)
    assert {outcomes[each]["reason"] for each in intents} == {"token-unavailable"}
    assert _token(site).wait_healthy(60)
    assert site.open(site.orders.order(card)).pan == card.pan
