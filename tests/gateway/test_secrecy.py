"""Card data appears in none of the gateway's files: order book, write-ahead log, journal, log.

A gateway process collects orders with every kind of end (approved, declined, unknown, reversed, refused), while its
files are searched: for PAN and PIN anywhere, for CVV2 and expiry, which are too short for that, as values of their own.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from shetab.jalali import local_time_and_date
from tests.gateway.settling_shop import collected
from tests.support.payment_parties import Buyer, now
from tests.support.payment_site import ANSWER_TIMEOUT, Site, wait_for

_LIMITS: Final = "rules: [{name: a, for: card, window: day, orders: 90, because: {en: agreed, fa: توافق}}]"
_AROUND: Final = (timedelta(days=-1), timedelta(), timedelta(days=1))


def _files(folder: Path) -> Iterator[Path]:
    for name in ("db", "audit", "log"):
        yield from (path for path in (folder / name).rglob("*") if path.is_file())


def forms(digits: str) -> set[bytes]:
    """How digits could look in a file: as text, as hexadecimal of it, packed two to a byte, as a number."""
    text = digits.encode()
    packed = bytes.fromhex(digits if len(digits) % 2 == 0 else "0" + digits)
    number = int(digits).to_bytes(8, "big").lstrip(b"\0")
    return {text, text.hex().encode(), text.hex().upper().encode(), packed, number} if len(digits) > 8 else {text}


def _values(value: Any) -> Iterator[str]:
    """Every scalar inside a column's value or a JSON document, as text."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _values(each)
    elif isinstance(value, list):
        for each in value:
            yield from _values(each)
    elif isinstance(value, str) and value[:1] in "{[":
        yield from _values(json.loads(value))
    elif value is not None:
        yield value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _stored(folder: Path) -> Iterator[tuple[str, Any]]:
    yield from _rows(folder / "db" / "gateway.sqlite")
    for path in [*(folder / "log").glob("*.log"), *(folder / "audit").glob("*.jsonl")]:
        for line in path.read_text("utf-8").splitlines():
            yield path.name, json.loads(line)


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            rows = connection.execute(f"SELECT * FROM {table}")  # noqa: S608  # names out of the schema itself
            names = [column[0] for column in rows.description]
            for row in rows:
                yield from ((f"{table}.{name}", value) for name, value in zip(names, row, strict=True))


def leaks(folder: Path, buyer: Buyer) -> list[str]:
    card = buyer.card
    assert card.pin2 is not None
    assert card.cvv2 is not None
    found = []
    for path in _files(folder):
        content = path.read_bytes()
        for name, secret in (("PAN", card.pan.reveal()), ("PIN", card.pin2.reveal())):
            found += [f"{name} in {path.name}" for form in forms(secret) if form in content]
    cvv2, expiry = card.cvv2.reveal(), card.expiry.reveal()
    alone = re.compile(rf"(?<!\d)({cvv2}|0{cvv2}|{expiry})(?!\d)")
    for where, value in _stored(folder):
        for text in _values(value):
            # Signed objects are binary, where three digits in a row mean nothing; nor in digests.
            if len(text) < 64 and where != "orders.settle_date" and alone.search(text):
                found.append(f"CVV2 or expiry in {where}")
    return found


def telling_buyer(site: Site, **changes: Any) -> Buyer:
    """A buyer whose CVV2 and expiry are no number that messages carry anyway (currency, category, year, today)."""
    for years in cycle((3, 2, 4)):
        buyer = site.buyer(years=years, **changes)
        assert buyer.card.cvv2 is not None
        common = {"364", "5942", str(now().year), *(local_time_and_date(now() + day)[1] for day in _AROUND)}
        if not {buyer.card.cvv2.reveal(), buyer.card.cvv2.reveal().zfill(4), buyer.card.expiry.reveal()} & common:
            return buyer
    raise AssertionError("unreachable")


def test_no_card_data_in_any_file(site: Site, tmp_path: Path) -> None:
    limits = tmp_path / "limits.yaml"  # which count by card
    limits.write_text(_LIMITS, "utf-8")
    home, shop = site.gateway_home(tmp_path / "home", limits=str(limits)), site.new_shop()
    rich, poor = telling_buyer(site), telling_buyer(site, balance=1)
    with site.gateway_process(home) as gateway:
        site.register(gateway.url, shop)
        kept, lost, late = (site.purchase(shop, rich) for _ in range(3))
        declined = site.purchase(shop, poor)
        foreign = site.purchase(shop, rich, card=replace(rich.card, pan_secret=bytes(range(32))))
        answer = shop.collect(gateway.url, kept)
        shop.collect(gateway.url, declined)
        shop.collect(gateway.url, foreign)
        site.switch.admin.add_fault("0200", "drop")
        site.switch.admin.add_fault("042x", "ignore", count=1000)
        shop.collect(gateway.url, lost)
        site.switch.admin.add_fault("0200", "delay", seconds=ANSWER_TIMEOUT + 1)
        shop.collect(gateway.url, late)
        # Unacknowledged approval, queued reversals, filed late answers: the most that is ever stored at once.
        wait_for(lambda: shop.order(gateway.url, late.xid)["late_rc"] == "00")
        held = [leaks(home.path, buyer) for buyer in (rich, poor)]
        site.switch.admin.clear_faults()
        shop.acknowledge(gateway.url, kept.ack(answer))
        for purchase in (lost, late):
            wait_for(lambda purchase=purchase: shop.order(gateway.url, purchase.xid)["state"] == "REVERSED")
    assert held == [[], []]
    assert [leaks(home.path, buyer) for buyer in (rich, poor)] == [[], []]
    with sqlite3.connect(home.db / "gateway.sqlite") as connection:
        kept_blobs = connection.execute("SELECT count(*) FROM orders WHERE pan_sealed IS NOT NULL").fetchone()
        counted = connection.execute("SELECT count(*), sum(orders) FROM limit_counters").fetchone()
        by_hash = {row for (row,) in connection.execute("SELECT card_id FROM orders WHERE card_id IS NOT NULL")}
    assert counted == (2, 4)  # each card under its digest, which is no plain hash of its number
    assert not by_hash & {sha256(each.card.pan.reveal().encode()).digest() for each in (rich, poor)}
    assert (home.db / "gateway-schedules.sqlite").exists()
    assert kept_blobs == (1,)  # sealed, of the one that can still be credited; of the others nothing can come


def test_no_card_data_in_any_file_after_captures_and_credits(site: Site, tmp_path: Path) -> None:
    home, shop, buyer = site.gateway_home(tmp_path / "home"), site.new_shop(), telling_buyer(site)
    with site.gateway_process(home) as gateway:
        site.register(gateway.url, shop)
        held = collected(site, gateway.url, shop, buyer, 150_000, hold=True)
        capture = held.done(held.capture(100_000))
        site.switch.admin.add_fault("0200", "drop")
        site.switch.admin.add_fault("0201", "ignore", count=1000)
        assert held.ask(held.credit(30_000, capture)).open  # kept to be repeated
        assert leaks(home.path, buyer) == []
        site.switch.admin.clear_faults()
    with sqlite3.connect(home.db / "gateway.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM settlings WHERE sent_fields IS NOT NULL").fetchone() == (2,)


def test_the_search_finds_what_it_looks_for(site: Site, tmp_path: Path) -> None:
    """Positive control: each secret, planted where the gateway could have written it, is reported."""
    home, buyer = site.gateway_home(tmp_path / "home"), telling_buyer(site)
    with site.gateway(home):
        pass
    card = buyer.card
    assert card.pin2 is not None
    assert card.cvv2 is not None
    assert leaks(home.path, buyer) == []
    planted = {
        "PAN": card.pan.reveal(),
        "PIN": card.pin2.reveal(),
        "CVV2 or expiry": card.cvv2.reveal().zfill(4),
    }
    for name, secret in planted.items():
        log = home.log / "planted.log"
        log.write_text(json.dumps({"event": secret}) + "\n", "utf-8")
        assert any(leak.startswith(name) for leak in leaks(home.path, buyer)), name
        log.unlink()
