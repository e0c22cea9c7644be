"""What Prometheus is told of operations: by key and step, in bounded series, with nothing that a caller chose."""

from __future__ import annotations

import asyncio
import re
import threading
from base64 import b64encode

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from hsm_service import metrics
from hsm_service.metrics import BOUNDS, DONE, Metrics, Timing, result_of
from runtime.problems import Problem
from tests.hsm_service.test_app import message, sign
from tests.support.signing_site import ACK, CA, SHOP, Served, acknowledgement, crl

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    """Each line of an exposition, by name and labels."""
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if family.name.startswith(("kwbp_hsm_step", "kwbp_hsm_operations"))
    }


def shown(collector: Metrics) -> Samples:
    registry = CollectorRegistry()
    registry.register(collector)
    return samples(generate_latest(registry).decode())


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, tuple(sorted(labels.items()))), 0.0)


def timing(queue: float = 0.0, token: float = 0.0, audit: float = 0.0) -> Timing:
    spent = Timing()
    spent.queue, spent.token, spent.audit = queue, token, audit
    return spent


def test_each_step_is_in_its_histogram() -> None:
    collector = Metrics()
    collector.observe(("shop", "cms", "sign"), timing(0.00005, 0.002, 0.3), 100.0)
    collector.observe(("shop", "cms", "sign"), timing(0.0001, 0.004, 0.3), 0.5)
    found = shown(collector)
    labels = {"key": "shop", "kind": "cms", "verb": "sign"}
    for step, total in (("queue", 0.00015), ("token", 0.006), ("audit", 0.6), ("total", 100.5)):
        assert value(found, "kwbp_hsm_step_seconds_count", **labels, step=step) == 2
        assert value(found, "kwbp_hsm_step_seconds_sum", **labels, step=step) == pytest.approx(total)
    buckets = [value(found, "kwbp_hsm_step_seconds_bucket", **labels, step="token", le=str(le)) for le in BOUNDS]
    assert buckets == [0, 0, 0, 0, 1, 2, 2, 2, 2, 2, 2, 2, 2]
    assert value(found, "kwbp_hsm_step_seconds_bucket", **labels, step="queue", le="0.0001") == 2  # le is inclusive
    assert value(found, "kwbp_hsm_step_seconds_bucket", **labels, step="total", le="5.0") == 1
    assert value(found, "kwbp_hsm_operations_total", **labels, result="done", reason="") == 2


def test_what_several_threads_saw_is_added_up() -> None:
    collector = Metrics()

    def work() -> None:
        for _ in range(500):
            collector.observe(("shop", "cms", "sign"), timing(), 0.001)
            collector.count(("shop", "cms", "batch"), ("refused", "malformed"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = shown(collector)
    assert value(found, "kwbp_hsm_step_seconds_count", key="shop", kind="cms", verb="sign", step="total") == 2000
    labels = {"key": "shop", "kind": "cms", "verb": "batch", "result": "refused", "reason": "malformed"}
    assert value(found, "kwbp_hsm_operations_total", **labels) == 2000


def test_names_that_the_registry_does_not_know_share_one_series() -> None:
    collector = Metrics()
    for number in range(100):
        collector.observe(
            (f"guess-{number}", "cms", "sign"), timing(), 0.1, ("refused", "key-not-found"), lambda _: False
        )
    found = shown(collector)
    labels = {"key": "", "kind": "cms", "verb": "sign"}
    assert value(found, "kwbp_hsm_operations_total", **labels, result="refused", reason="key-not-found") == 100
    assert {dict(labels)["key"] for _name, labels in found} == {""}


def test_series_and_reasons_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "LARGEST", 3)
    collector = Metrics()
    for number in range(10):
        collector.observe((f"key-{number}", "cms", "sign"), timing(), 0.1)
    assert {dict(labels)["key"] for _name, labels in shown(collector)} == {"key-0", "key-1", "key-2", ""}
    for number in range(200):
        collector.observe(("key-0", "cms", "sign"), timing(), 0.1, ("refused", f"reason-{number}"))
    reasons = [labels for name, labels in shown(collector) if name.endswith("_total") and ("key", "key-0") in labels]
    assert len(reasons) == 65
    assert sum(dict(labels)["reason"] == "other" for labels in reasons) == 1


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (Problem(422, "malformed", "x"), ("refused", "malformed")),
        (Problem(503, "overloaded", "x"), ("failed", "overloaded")),
        (asyncio.CancelledError(), ("failed", "cancelled")),
        (RuntimeError("6037701000000007"), ("failed", "internal")),
    ],
)
def test_a_mistake_of_the_caller_is_refused_and_all_else_failed(error: BaseException, result: tuple[str, str]) -> None:
    assert result_of(error) == result
    assert DONE == ("done", "")


def test_the_service_shows_what_it_did(served: Served) -> None:
    with served.http(SHOP) as shop, served.http(CA) as ca:
        before = samples(shop.get("/metrics").text)
        message(shop)
        message(shop, content=b"")
        encoded = [{"content": b64encode(each).decode(), "content_type": ACK} for each in (acknowledgement(), b"", b"")]
        shop.post("/v1/keys/shop-ec:batchSign", json={"kind": "cms", "items": encoded})
        body = {"kind": "cms", "content": encoded[0]["content"], "content_type": ACK}
        shop.post("/v1/keys/shop-ec:sign?dry_run=true", json=body)
        sign(ca, "merchant-ca-ec", "crl", crl(served.vault, 1000, "merchant-ca-ec"))
        message(shop, key="6037701000000007")
        text = shop.get("/metrics").text
    after = samples(text)

    def more(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    shop_ec = {"key": "shop-ec", "kind": "cms"}
    done = {"result": "done", "reason": ""}
    for verb, results in (("sign", 1), ("batch", 1), ("check", 1)):
        assert more("kwbp_hsm_operations_total", **shop_ec, verb=verb, **done) == results
    refused = {"result": "refused", "reason": "content-refused"}
    assert more("kwbp_hsm_operations_total", **shop_ec, verb="sign", **refused) == 1
    assert more("kwbp_hsm_operations_total", **shop_ec, verb="batch", **refused) == 2
    assert more("kwbp_hsm_step_seconds_count", **shop_ec, verb="sign", step="total") == 2
    assert more("kwbp_hsm_step_seconds_count", **shop_ec, verb="batch", step="total") == 1
    for key, kind in (("shop-ec", "cms"), ("merchant-ca-ec", "crl")):
        labels = {"key": key, "kind": kind, "verb": "sign"}
        steps = {step: more("kwbp_hsm_step_seconds_sum", **labels, step=step) for step in metrics.STEPS}
        assert all(steps[step] > 0 for step in ("token", "audit"))
        assert sum(steps.values()) <= 2 * steps["total"]
    assert (
        more("kwbp_hsm_operations_total", key="", kind="cms", verb="sign", result="refused", reason="key-not-found")
        == 1
    )
    assert not re.search("6037701000000007|merchant:M-1", text)
