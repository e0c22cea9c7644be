"""The number of a card when the vault key has versions, some of which are out of use."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from gateway_keys import wire
from gateway_keys.plugin import GatewayKeys
from hsm_service.steps import Turn
from runtime.problems import Problem
from tests.gateway_keys.test_plugin import Site, card, running_site
from tests.support.pki_factory import NOW
from tests.support.sealed_orders import BuyersCard

__all__ = ["card"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory) as made:
        yield made


def test_a_sealed_number_is_tried_with_every_version_that_serves_and_a_disabled_one_is_no_fault_of_it(
    site: Site, card: BuyersCard
) -> None:
    old = site.orders.order(card)
    sealed_by_1 = site.open(old).pan_sealed
    site.vault.life.rotate("ceremony", "gateway-vault")
    fresh = site.orders.order(card)
    sealed_by_2 = site.open(fresh).pan_sealed

    def disabled_meanwhile(xid: bytes, blob: bytes, versions: list[int]) -> str:
        """The card number, where these versions are disabled while the operation waits for its first turn."""
        keys = GatewayKeys.of(site.home)
        steps = keys.unseal_pan(site.vault, "service:gateway", wire.UnsealPanRequest(xid=xid, pan_sealed=blob))
        assert isinstance(next(steps), Turn)
        for version in versions:
            site.vault.life.disable("ceremony", "gateway-vault", version)

        def going_on() -> Any:
            try:
                step = steps.send(None)
                while True:
                    try:
                        answer = yield step
                    except Exception as error:
                        step = steps.throw(error)
                    else:
                        step = steps.send(answer)
            except StopIteration as end:
                return end.value

        try:
            answer: wire.UnsealPanAnswer = site.vault.run(going_on())
            return answer.pan
        finally:
            for version in versions:
                site.vault.life.enable("ceremony", "gateway-vault", version)

    pan = card.pan.reveal()
    assert disabled_meanwhile(old.xid, sealed_by_1, [2]) == pan
    assert disabled_meanwhile(fresh.xid, sealed_by_2, [1]) == pan
    for versions in ([1], [1, 2]):
        with pytest.raises(Problem) as refused:
            disabled_meanwhile(old.xid, sealed_by_1, versions)
        assert (refused.value.status, refused.value.type) == (409, "key-not-enabled")
    # Disabled before it asks: the same, and it is on record.
    site.vault.life.disable("ceremony", "gateway-vault", 1)
    with pytest.raises(Problem) as refused:
        site.ask(lambda client: client.unseal_pan(old.xid, sealed_by_1))
    assert (refused.value.status, refused.value.type) == (409, "key-not-enabled")
    assert (site.journal()[-1]["event"], site.journal()[-1]["reason"]) == ("refused", "key-not-enabled")
    site.vault.life.enable("ceremony", "gateway-vault", 1)
    assert site.ask(lambda client: client.unseal_pan(old.xid, sealed_by_1)).reveal() == pan
    with pytest.raises(Problem) as refused:
        site.ask(lambda client: client.unseal_pan(fresh.xid, sealed_by_1))
    assert refused.value.type == "decoding-failure"


@pytest.mark.parametrize(
    ("limits", "refusal"),
    [
        ({"not_after": NOW - timedelta(days=1)}, (403, "key-expired")),
        ({"not_before": NOW + timedelta(days=1)}, (403, "key-not-yet-valid")),
        ({"uses": 1}, (403, "key-used-up")),
    ],
    ids=["over", "to come", "used up"],
)
def test_the_limits_of_one_version_keep_no_other_from_opening_a_number(
    site: Site, card: BuyersCard, limits: dict[str, Any], refusal: tuple[int, str]
) -> None:
    pan, vault = card.pan.reveal(), "gateway-vault"
    old = site.orders.order(card)
    sealed_before = site.open(old).pan_sealed
    newest = site.vault.life.rotate("ceremony", vault).version
    fresh = site.orders.order(card)
    sealed_after = site.open(fresh).pan_sealed
    site.vault.life.limit("ceremony", vault, newest, limits)
    try:
        assert site.ask(lambda client: client.unseal_pan(old.xid, sealed_before)).reveal() == pan
        with pytest.raises(Problem) as refused:
            site.ask(lambda client: client.unseal_pan(fresh.xid, sealed_after))
        assert (refused.value.status, refused.value.type) == refusal
    finally:
        site.vault.life.limit("ceremony", vault, newest, {})
    assert site.ask(lambda client: client.unseal_pan(fresh.xid, sealed_after)).reveal() == pan
