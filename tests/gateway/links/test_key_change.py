"""Zone keys change while payments are under way on several lines: every payment gets its own answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime.client import http_client, raise_problem
from tests.support.payment_site import OPENING, Site, wait_for, write_settings


def test_keys_change_under_traffic_on_several_lines(site: Site, tmp_path: Path) -> None:
    home = site.gateway_home(tmp_path / "home")
    switch = {**site.settings["switch"], "connections": 3}
    port = {"port": _port(home.config.read_text())}
    write_settings(home, {**site.settings, "switch": switch, "gateway": {**site.settings["gateway"], **port}})
    shop, buyers = site.new_shop(), [site.buyer() for _ in range(6)]
    with site.gateway(home) as url, http_client(site.tls("operator"), url, timeout=60.0) as operator:
        site.register(url, shop)
        wait_for(lambda: [line["state"] for line in raise_problem(operator.get("/v1/links")).json()] == ["up"] * 3)
        before = {key["key"]: key["index"] for key in raise_problem(operator.get("/v1/zone-keys")).json()}
        purchases = [(buyer, site.purchase(shop, buyer, 1000)) for buyer in buyers for _ in range(2)]
        with ThreadPoolExecutor(max_workers=6) as pool:
            paying = [pool.submit(shop.collect, url, purchase) for _, purchase in purchases]
            changed = raise_problem(operator.post("/v1/zone-keys:change")).json()
            answers = [each.result() for each in paying]
        assert {key["key"]: key["index"] for key in changed} == {key: index + 1 for key, index in before.items()}
        for (_, purchase), answer in zip(purchases, answers, strict=True):
            assert purchase.checked_answer(answer).approved
        assert [buyer.balance for buyer in buyers] == [OPENING - 2000] * 6
        lines = raise_problem(operator.get("/v1/links")).json()
        assert all(line["sent"] > 1 for line in lines)


def _port(text: str) -> int:
    (line,) = [each for each in text.partition("[gateway]")[2].splitlines() if each.startswith("port =")][:1]
    return int(line.partition("=")[2])
