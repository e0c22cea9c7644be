"""A zone of format 4 and X9.19, all parts real: purchases, key changes, a gateway that is killed, and who sees keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shetab.pin_block import PinBlockFormat
from shetab.subfields import ZONE_KEY_KINDS
from shetab.zone_keys import KEY_SIZES, next_index
from tests.gateway.test_key_exchange import keys, theirs
from tests.support.payment_parties import Buyer
from tests.support.payment_site import ACQUIRER, OPENING, Site, wait_for

AMOUNT = 10_000
DIALECT = "name: own\nbase: shetab93_binary_pin4\npin_block_format: 4\nmac_algorithm: x9.19\n"


@pytest.fixture(scope="module")
def zoned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("zoned")
    (folder / "own.yaml").write_text(DIALECT)
    with Site.running(folder, str(folder / "own.yaml"), {"pin_key": "aes-256", "mac_padding": 2}) as site:
        yield site


def pays(site: Site, url: str, buyer: Buyer) -> bool:
    shop = site.new_shop()
    site.register(url, shop)
    purchase = site.purchase(shop, buyer, AMOUNT)
    return bool(purchase.checked_answer(shop.collect(url, purchase)).approved)


def memory(pid: int) -> Iterator[bytes]:
    """What a process has in its writable memory, in pieces."""
    regions = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", 0) as held:
        for line in regions:
            span, rights, *_rest = line.split()
            first, last = (int(each, 16) for each in span.split("-"))
            if rights.startswith("rw"):
                held.seek(first)
                try:
                    yield held.read(last - first)
                except OSError:
                    continue  # a device, or gone meanwhile


def test_purchases_before_and_after_a_change_and_no_key_or_pin_in_the_gateway(zoned: Site, tmp_path: Path) -> None:
    ring = zoned.switch.processor._rules.ring
    assert ring._zone.agreed.pin_block_format is PinBlockFormat.FORMAT_4
    with zoned.gateway_process(zoned.gateway_home(tmp_path / "home")) as gateway:
        buyers = [zoned.buyer(), zoned.buyer()]
        assert pays(zoned, gateway.url, buyers[0])
        before = {kind: ring.keys(ACQUIRER, kind)[0].value for kind in ZONE_KEY_KINDS}
        held, changed = keys(zoned, gateway.url), keys(zoned, gateway.url, change=True)
        for kind in ZONE_KEY_KINDS:
            ours = (next_index(held[kind]["index"]), changed[kind]["check_value"])
            wait_for(lambda kind=kind, ours=ours: theirs(zoned, kind) == ours)
        assert (len(changed["zone-mac"]["check_value"]), len(changed["zone-pin"]["check_value"])) == (12, 6)
        assert pays(zoned, gateway.url, buyers[1])
        assert [buyer.balance for buyer in buyers] == [OPENING - AMOUNT] * 2
        after = {kind: ring.keys(ACQUIRER, kind)[0].value for kind in ZONE_KEY_KINDS}
        assert [len(after[kind]) for kind in ZONE_KEY_KINDS] == [KEY_SIZES["des2"], KEY_SIZES["aes-256"]]
        secrets = {key for values in (before, after) for key in values.values()}
        canaries = secrets | {after["zone-mac"][:8] * 3} | set(pins(buyers))
        here = changed["zone-mac"]["check_value"].encode()
        seen: set[bytes] = set()

        def searched() -> bool:
            """Shown by what may be there: it was just told, and what was told last is not overwritten every time."""
            keys(zoned, gateway.url)
            for piece in memory(gateway.process.pid):
                seen.update(canary for canary in (*canaries, here) if canary in piece)
            return here in seen

        wait_for(searched)
        assert seen == {here}


def pins(buyers: list[Buyer]) -> list[bytes]:
    return [bytes.fromhex(f"4{len(pin):X}{pin}".ljust(16, "A")) for pin in (each.card.pin2.reveal() for each in buyers)]


@pytest.mark.slow
@pytest.mark.parametrize("step", ["zone-mac-taken", "zone-pin-came"])
def test_killed_while_keys_change_both_ends_find_a_common_key(zoned: Site, tmp_path: Path, step: str) -> None:
    home, buyer = zoned.gateway_home(tmp_path / "home", key_change_at_sign_on=True), zoned.buyer()
    with zoned.gateway_process(home, fatal=step, ready=False) as dying:
        dying.wait_killed()
    with zoned.gateway_process(zoned.gateway_home(tmp_path / "home")) as again:
        assert pays(zoned, again.url, buyer)
        held = keys(zoned, again.url)
        assert theirs(zoned, "zone-mac") == (held["zone-mac"]["index"], held["zone-mac"]["check_value"])
    assert buyer.balance == OPENING - AMOUNT
    assert zoned.switch.admin.is_balanced()
