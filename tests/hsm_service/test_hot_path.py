"""Signing over the network beyond one signature at a time: batches, dry runs, repeats, callers who hang up."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from audit import read
from hsm_service.idempotency import LIFETIME, Idempotency
from hsm_service.steps import GONE
from pki import oids
from pki.cms_signed import parse_signed_data, verify_signature
from runtime.database import open_database
from runtime.problems import Problem
from tests.hsm_service.test_app import assert_problem, message
from tests.support.signing_site import ACK, CA, SHOP, Served, acknowledgement, crl, tbs


@pytest.fixture
def shop(served: Served) -> Iterator[httpx.Client]:
    with served.http(SHOP) as client:
        yield client


def item(content: bytes | None = None, **more: Any) -> dict[str, Any]:
    encoded = b64encode(acknowledgement() if content is None else content).decode()
    return {"content": encoded, "content_type": ACK, **more}


def batch(client: httpx.Client, items: list[dict[str, Any]], key: str = "shop-ec", kind: str = "cms") -> httpx.Response:
    return client.post(f"/v1/keys/{key}:batchSign", json={"kind": kind, "items": items})


def journal(served: Served) -> list[dict[str, Any]]:
    return [dict(entry.entry) for entry in read(served.world.home.audit / "hsm.jsonl")]


# -- batches -----------------------------------------------------------------------------------------------------------


def test_a_batch_is_answered_in_its_order_with_one_record_for_all(served: Served, shop: httpx.Client) -> None:
    uses = served.vault.describe_key(SHOP, "shop-ec").uses
    before = len(journal(served))
    answer = batch(shop, [item(ref=f"r{number}") for number in range(5)]).json()
    assert (answer["key"], answer["algorithm"]) == ("shop-ec", "ecdsa-sha256")
    assert [each["ref"] for each in answer["items"]] == [f"r{number}" for number in range(5)]
    for each in answer["items"]:
        signed = parse_signed_data(b64decode(each["signed"]), content_type=oids.CT_AUTH_ACK)
        verify_signature(signed)
        assert each["version"] == 1
    intent, outcome = journal(served)[before:]
    assert (intent["event"], intent["count"], len(intent["inputs_sha256"])) == ("intent", 5, 5)
    assert (outcome["event"], len(set(outcome["outputs_sha256"]))) == ("outcome", 5)
    assert {each["log_index"] for each in answer["items"]} == {before + 1}
    assert served.vault.describe_key(SHOP, "shop-ec").uses == uses + 5


def test_each_item_of_a_batch_has_its_own_refusal(served: Served, shop: httpx.Client) -> None:
    before = len(journal(served))
    items = [item(), item(acknowledgement("M-2"), ref="foreign"), item(), item(b"", ref="empty"), item(bytes(70_000))]
    results = batch(shop, items).json()["items"]
    assert [("signed" in each, "problem" in each) for each in results] == [
        (True, False), (False, True), (True, False), (False, True), (False, True),
    ]  # fmt: skip
    assert results[1]["problem"]["clause"] == "KWBP S1"
    assert results[4]["problem"]["type"] == "urn:kwbp:problem:structure-too-large"
    refused, intent, _outcome = journal(served)[before:]
    assert (refused["event"], refused["reasons"]) == (
        "refused",
        ["content-refused", "content-refused", "structure-too-large"],
    )
    assert intent["count"] == 2


def test_a_batch_of_which_nothing_can_be_signed_does_not_call_the_token(served: Served, shop: httpx.Client) -> None:
    uses = served.vault.describe_key(SHOP, "shop-ec").uses
    answer = batch(shop, [item(b""), item(b"")])
    assert answer.status_code == 200
    assert answer.json()["algorithm"] is None
    assert served.vault.describe_key(SHOP, "shop-ec").uses == uses


def test_a_large_batch_fits_into_the_journal(served: Served, shop: httpx.Client) -> None:
    before = len(journal(served))
    results = batch(shop, [item() for _ in range(501)]).json()["items"]
    assert all("signed" in each for each in results)
    counts = [entry["count"] for entry in journal(served)[before:] if entry["event"] == "intent"]
    assert counts == [250, 250, 1]


@pytest.mark.parametrize(
    ("change", "status", "slug"),
    [
        ({"items": []}, 422, "invalid-request"),
        ({"items": [item()] * 1001}, 422, "invalid-request"),
        ({"items": [item(ref="x" * 129)]}, 422, "invalid-request"),
        ({"items": [item(ref=7)]}, 422, "invalid-request"),
        ({"items": [{**item(), "kind": "cms"}]}, 422, "invalid-request"),
        ({"kind": "crl", "items": [{"content": "BQA="}]}, 422, "invalid-request"),
        ({"kind": "digest"}, 422, "invalid-request"),
        ({"crls": ["BQA="]}, 422, "invalid-request"),
        ({"items": [item(dossier=7)]}, 422, "invalid-request"),
    ],
)
def test_a_batch_of_another_form_is_refused_as_a_whole(
    change: dict[str, Any], status: int, slug: str, shop: httpx.Client
) -> None:
    body = {"kind": "cms", "items": [item()], **change}
    assert_problem(shop.post("/v1/keys/shop-ec:batchSign", json=body), status, slug)


def test_a_batch_with_somebody_elses_key_is_refused_as_a_whole(shop: httpx.Client) -> None:
    assert_problem(batch(shop, [item()], key="other-shop"), 403, "caller-not-allowed")


# -- dry runs ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_judges_and_signs_nothing(served: Served, shop: httpx.Client) -> None:
    uses = served.vault.describe_key(SHOP, "shop").uses
    entries = len(journal(served))
    answer = shop.post("/v1/keys/shop:sign?dry_run=true", json={"kind": "cms", **item()})
    assert answer.json() == {"key": "shop", "version": 1, "algorithm": "rsa-pss-sha256", "dry_run": True}
    assert served.vault.describe_key(SHOP, "shop").uses == uses
    assert len(journal(served)) == entries
    refused = shop.post("/v1/keys/shop:sign?dry_run=true", json={"kind": "cms", **item(b"")})
    assert_problem(refused, 422, "content-refused")
    assert journal(served)[-1]["event"] == "refused"


def test_a_dry_run_takes_no_number(served: Served) -> None:
    structure = crl(served.vault, 70, "merchant-ca-ec")
    body = {"kind": "crl", "content": b64encode(structure).decode()}
    other = {"kind": "crl", "content": b64encode(crl(served.vault, 70, "merchant-ca-ec", revoked=[])).decode()}
    with served.http(CA) as client:
        assert client.post("/v1/keys/merchant-ca-ec:sign?dry_run=true", json=body).status_code == 200
        assert client.post("/v1/keys/merchant-ca-ec:sign", json=other).status_code == 200
        late = {"kind": "crl", "content": b64encode(crl(served.vault, 69, "merchant-ca-ec")).decode()}
        refused = client.post("/v1/keys/merchant-ca-ec:sign?dry_run=true", json=late)
        assert_problem(refused, 409, "crl-number-not-larger")


def test_another_query_is_refused(shop: httpx.Client) -> None:
    for query in ("dry_run=false", "dry_run=1", "x=y"):
        answer = shop.post(f"/v1/keys/shop-ec:sign?{query}", json={"kind": "cms", **item()})
        assert_problem(answer, 422, "invalid-request")


# -- repeats -----------------------------------------------------------------------------------------------------------


def repeat(client: httpx.Client, key: str, path: str = "/v1/keys/shop-ec:sign", **body: Any) -> httpx.Response:
    return client.post(path, json={"kind": "cms", **item(), **body}, headers={"Idempotency-Key": key})


def test_a_repeat_gets_the_first_answer_and_no_second_signature(served: Served, shop: httpx.Client) -> None:
    uses = served.vault.describe_key(SHOP, "shop-ec").uses
    first, second = repeat(shop, "once"), repeat(shop, "once")
    assert first.status_code == 200
    assert first.content == second.content
    assert served.vault.describe_key(SHOP, "shop-ec").uses == uses + 1
    assert repeat(shop, "another").json()["signed"] != first.json()["signed"]


def test_repeats_at_the_same_time_make_one_signature(served: Served) -> None:
    uses = served.vault.describe_key(SHOP, "shop-ec").uses

    def ask(_number: int) -> bytes:
        with served.http(SHOP) as client:
            return repeat(client, "together").content

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(16)))) == 1
    assert served.vault.describe_key(SHOP, "shop-ec").uses == uses + 1


def test_a_key_used_for_another_request_is_refused(shop: httpx.Client) -> None:
    assert repeat(shop, "bound").status_code == 200
    assert_problem(repeat(shop, "bound", kind="request"), 422, "idempotency-key-reused")
    assert_problem(repeat(shop, "bound", path="/v1/keys/shop:sign"), 422, "idempotency-key-reused")


def test_callers_do_not_share_keys(served: Served, shop: httpx.Client) -> None:
    assert repeat(shop, "mine").status_code == 200
    with served.http("merchant:M-2") as other:
        assert_problem(repeat(other, "mine"), 403, "caller-not-allowed")
        assert repeat(other, "mine", path="/v1/keys/other-shop:sign", content=item(acknowledgement("M-2"))["content"])


def test_a_refusal_is_judged_anew(shop: httpx.Client) -> None:
    assert_problem(repeat(shop, "refused", content=""), 422, "content-refused")
    assert repeat(shop, "refused").status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 129, "with blank", "ünïcode"])
def test_a_key_of_another_form_is_refused(key: str, shop: httpx.Client) -> None:
    headers = {"Idempotency-Key": key.encode("utf-8")}
    answer = shop.post("/v1/keys/shop-ec:sign", json={"kind": "cms", **item()}, headers=headers)  # type: ignore[arg-type]  # bytes are sent as they are
    assert_problem(answer, 400, "bad-idempotency-key")


def test_answers_are_kept_for_a_day_and_over_a_restart(tmp_path: Path) -> None:
    now = [datetime(2026, 5, 1, tzinfo=UTC)]
    answers = iter([b"first", b"second"])

    async def work() -> bytes:
        return next(answers)

    async def ask() -> bytes:
        kept = Idempotency(open_database(tmp_path / "answers.db"), clock=lambda: now[0])
        try:
            return await kept.answer("a", "k", "/route", b"body", work)
        finally:
            kept.close()

    assert asyncio.run(ask()) == b"first"
    now[0] += LIFETIME
    assert asyncio.run(ask()) == b"first"
    now[0] += timedelta(seconds=1)
    assert asyncio.run(ask()) == b"second"


def test_who_waits_for_a_first_that_fails_is_told_the_same(tmp_path: Path) -> None:
    async def work() -> bytes:
        await asyncio.sleep(0.01)
        raise Problem(503, "token-busy", "later")

    async def main() -> list[Any]:
        kept = Idempotency(open_database(tmp_path / "answers.db"), clock=lambda: datetime(2026, 5, 1, tzinfo=UTC))
        try:
            asks = (kept.answer("a", "k", "/route", b"body", work) for _ in range(3))
            return await asyncio.gather(*asks, return_exceptions=True)
        finally:
            kept.close()

    assert [error.type for error in asyncio.run(main())] == ["token-busy"] * 3


def test_who_asks_again_after_hanging_up_is_answered(tmp_path: Path) -> None:
    asked = iter(range(2))

    async def work() -> bytes:
        await asyncio.sleep(0.01)
        if next(asked) == 0:
            raise Problem(400, GONE, "the caller did not wait for the answer")
        return b"answer"

    async def main() -> list[Any]:
        kept = Idempotency(open_database(tmp_path / "answers.db"), clock=lambda: datetime(2026, 5, 1, tzinfo=UTC))
        try:
            asks = (kept.answer("a", "k", "/route", b"body", work) for _ in range(3))
            return await asyncio.gather(*asks, return_exceptions=True)
        finally:
            kept.close()

    gone, *others = asyncio.run(main())
    assert (gone.type, others) == (GONE, [b"answer", b"answer"])


def test_nothing_is_signed_whose_answer_cannot_be_kept(tmp_path: Path) -> None:
    async def work() -> bytes:
        raise AssertionError("it was begun")

    async def main(spoil: Callable[[Idempotency], None]) -> Problem:
        kept = Idempotency(open_database(tmp_path / "answers.db"), clock=lambda: datetime(2026, 5, 1, tzinfo=UTC))
        try:
            spoil(kept)
            with pytest.raises(Problem) as caught:
                await kept.answer("a", "k", "/route", b"body", work)
            return caught.value
        finally:
            kept.close()

    def drop(_kept: Idempotency) -> None:
        with sqlite3.connect(tmp_path / "answers.db") as database:
            database.execute("DROP TABLE answers")

    for spoil in (Idempotency.close, drop):
        assert asyncio.run(main(spoil)).type == "answers-unavailable"


# -- what else comes over the network ----------------------------------------------------------------------------------


def test_versions_and_chain_of_a_key(served: Served, shop: httpx.Client) -> None:
    versions = shop.get("/v1/keys/shop/versions").json()["keys"]
    assert [key["version"] for key in versions] == [1]
    assert shop.get("/v1/keys/shop/versions/1").json() == shop.get("/v1/keys/shop").json()
    assert_problem(shop.get("/v1/keys/shop/versions/2"), 404, "key-not-found")
    chain = shop.get("/v1/keys/shop/chain").json()
    assert [b64decode(der) for der in chain["chain"]] == list(served.vault.describe_key(SHOP, "shop").certificate_chain)
    assert_problem(shop.get("/v1/keys/other-shop/versions"), 403, "caller-not-allowed")
    assert_problem(shop.get("/v1/keys/other-shop/chain"), 403, "caller-not-allowed")


def test_ten_megabytes_are_refused_and_recorded_nowhere(served: Served, shop: httpx.Client) -> None:
    before = len(journal(served))
    assert shop.post("/v1/keys/shop-ec:sign", content=bytes(10_000_000)).status_code == 413
    assert len(journal(served)) == before


def test_a_caller_who_hangs_up_half_way_through_the_body_leaves_the_service_well(
    served: Served, shop: httpx.Client
) -> None:
    context = served.http(SHOP)._transport._pool._ssl_context  # type: ignore[attr-defined]  # the context with the certificate
    port = int(served.url.rsplit(":", 1)[1])
    head = b"POST /v1/keys/shop-ec:sign HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    for sent in (b"", head[:20], head, head + b"{"):
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
        ):
            tls.sendall(sent) if sent else None
    assert message(shop).status_code == 200


def test_the_answer_to_a_crl_and_a_certificate_is_that_of_before(served: Served) -> None:
    with served.http(CA) as client:
        for kind, structure in (("certificate", tbs(served.vault)), ("crl", crl(served.vault, 80))):
            body = {"kind": kind, "content": b64encode(structure).decode()}
            answer = client.post("/v1/keys/merchant-ca:sign", json=body)
            assert answer.status_code in {200, 422}, answer.text  # a certificate without its basis is refused
            assert json.loads(answer.content)
