"""Certificates in batches: each item is judged as one that comes singly; what is wrong with one concerns no other."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from cryptography import x509

from hsm_service import typed_approval
from hsm_service.client import HsmClient
from hsm_service.wire import BatchItem, BatchResult
from runtime.problems import Problem
from tests.support.approved import Desk
from tests.support.pki_factory import DAY, NOW
from tests.support.signing_site import CA, Served

KEY = "merchant-ca-p256"


@pytest.fixture(scope="module")
def desk(served: Served) -> Desk:
    return Desk(served.world.pki)


def item(desk: Desk, served: Served, **changes: Any) -> tuple[bytes, bytes]:
    """An approved case's TBSCertificate and its dossier."""
    pair, case = served.vault.key(KEY).pair(), desk.merchant()
    return desk.tbs(case, pair.certificate, pair.public_key, **changes), case.to_json()


@pytest.fixture
def ca(served: Served) -> HsmClient:
    return HsmClient.connect(served.url, served.identity(CA))


def outcomes(answers: list[bytes | Problem]) -> list[str]:
    return [answer.type if isinstance(answer, Problem) else "signed" for answer in answers]


def test_each_item_has_its_certificate_and_all_share_one_record(served: Served, desk: Desk, ca: HsmClient) -> None:
    items = [item(desk, served) for _ in range(3)]
    before = len(served.world.journal())

    answers = ca.sign_certificates(KEY, items, desk.crls())

    issuer = served.vault.key(KEY).pair().certificate
    for (tbs, _dossier), der in zip(items, answers, strict=True):
        assert isinstance(der, bytes)
        certificate = x509.load_der_x509_certificate(der)
        assert certificate.tbs_certificate_bytes == tbs
        certificate.verify_directly_issued_by(issuer)
    intent, outcome = served.world.journal()[before:]
    assert (intent["event"], intent["count"], outcome["result"]) == ("intent", 3, "done")
    assert intent["approvers"] == ["officer-1", "officer-3"]
    revisions = [json.loads(dossier)["revision"]["application_id"] for _tbs, dossier in items]
    assert len(set(revisions)) == len({claim["revision"] for claim in intent["claims"]}) == 3


def test_hostile_items_are_refused_each_for_itself(served: Served, desk: Desk, ca: HsmClient) -> None:
    good, used = item(desk, served), item(desk, served)
    pair = served.vault.key(KEY).pair()
    undecided = desk.office.merchant_case(application_id="never-decided")
    serial = x509.random_serial_number() | 1 << 100
    first, second = item(desk, served, serial=serial), item(desk, served, serial=serial, not_after=NOW + 20 * DAY)
    case = desk.merchant()
    twice = [(desk.tbs(case, pair.certificate, pair.public_key), case.to_json()) for _ in range(2)]
    last = item(desk, served)

    answers = ca.sign_certificates(
        KEY,
        [
            good,
            (b"\x30\x00", used[1]),
            (used[0], b"{}"),
            (used[0], undecided.to_json()),
            (used[0], last[1]),
            first,
            second,
            *twice,
            item(desk, served, without="MerchantData"),
            last,
        ],
        desk.crls(),
    )

    assert outcomes(answers) == [
        "signed",
        "malformed",
        "dossier-unreadable",
        "not-approved",
        "signed",
        "signed",
        "serial-not-fresh",
        "signed",
        "approval-used",
        "extension-not-approved",
        "approval-used",
    ]


def test_a_list_that_was_superseded_serves_no_item(served: Served, desk: Desk, ca: HsmClient) -> None:
    items = [item(desk, served) for _ in range(2)]

    assert outcomes(ca.sign_certificates(KEY, items, ())) == ["not-approved"] * 2
    officer = desk.office.approver.certificate.serial_number
    assert outcomes(ca.sign_certificates(KEY, items, desk.crls(officer, number=7))) == ["not-approved"] * 2
    assert outcomes(ca.sign_certificates(KEY, items, desk.crls())) == ["signed"] * 2


def test_without_a_dossier_only_what_needs_none_is_signed(served: Served, desk: Desk, ca: HsmClient) -> None:
    tbs, _dossier = item(desk, served)

    [refused] = ca.batch_sign(KEY, "certificate", [BatchItem(tbs)]).items

    assert refused.outcome().type == "approval-missing"  # type: ignore[union-attr]


def test_nobody_else_has_certificates_signed_and_a_batch_has_a_size(served: Served, desk: Desk) -> None:
    tbs, dossier = item(desk, served)
    with HsmClient.connect(served.url, served.identity("service:ra")) as ra, pytest.raises(Problem) as caught:
        ra.sign_certificates(KEY, [(tbs, dossier)] * 2, desk.crls())
    assert caught.value.status == 403
    body = {
        "kind": "certificate",
        "items": [{"content": b64encode(tbs).decode(), "dossier": b64encode(bytes(2 * 1024 * 1024)).decode()}] * 2,
    }
    with served.http(CA) as http:
        assert http.post(f"/v1/keys/{KEY}:batchSign", json=body).status_code == 413


def test_lists_are_read_once_and_judged_each_time(desk: Desk) -> None:
    typed_approval._read_lists.cache_clear()
    lists = desk.crls()
    for _ in range(3):
        typed_approval._crls(lists, desk.believed())
    assert typed_approval._read_lists.cache_info().misses == 1
    issuer = x509.SubjectKeyIdentifier.from_public_key(desk.pki.operations_ca.certificate.public_key()).digest
    with pytest.raises(Problem, match="was followed by") as caught:
        typed_approval._crls(lists, desk.believed({issuer: 2}))
    assert caught.value.type == "crl-superseded"


def test_an_answer_of_another_form_is_a_problem() -> None:
    assert BatchResult(ref="").outcome().status == 502  # type: ignore[union-attr]
