"""The tests that every token's module imports. They say nothing of any vendor: what is skipped, the probe explains."""

from __future__ import annotations

import pytest

from hsm_service.purposes import Purpose
from tests.conformance.client import Worker


def test_the_probe_sees_at_least_what_this_token_is_known_for(worker: Worker) -> None:
    missing = {name: each["reason"] for name, each in worker.findings.items() if not each["ok"]}
    assert not missing.keys() & {each.value for each in worker.subject.at_least}, missing


def test_every_finding_has_either_a_result_or_a_reason(worker: Worker) -> None:
    assert [each for each in worker.findings.values() if each["ok"] is bool(each["reason"])] == []


def test_a_token_serves_a_purpose_only_if_keys_stay_in_it(worker: Worker) -> None:
    stays = all(worker.findings[each]["ok"] for each in ("locked-in", "usages-fixed"))
    for purpose in Purpose:
        service = worker.purposes[purpose.value]
        assert stays or not service["algorithms"]
        assert service["algorithms"] or service["reason"]


def test_check(worker: Worker, check: str) -> None:
    outcome, detail = worker.check(check)
    assert outcome != "failed", detail
    if outcome == "lacking":
        pytest.skip(detail)
