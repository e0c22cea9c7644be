"""Operation requests: one canonical form, one digest; whatever is changed makes another request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cps.decision import Choice
from hsm_service.key_approval import KeyApproval, build_approval, parse_approval
from hsm_service.operation_draft import draft_approval
from hsm_service.operation_request import KeyOperation, OperationRequest, RequestError, parse_request
from hsm_service.operation_text import request_lines
from tests.support.pki_factory import NOW

HOUR = timedelta(hours=1)
FIELDS: dict[str, Any] = {
    "operation": KeyOperation.GENERATE,
    "parameters": {"key": "shop", "template": "merchant-signing", "owner": "M-1"},
    "requester": "service:operator",
    "reason": "فروشگاه تازه",
    "requested": NOW,
    "expires": NOW + HOUR,
    "policy": "a" * 64,
}


def make(**changes: Any) -> OperationRequest:
    return OperationRequest(**{**FIELDS, **changes})


def test_the_id_is_the_digest_that_sha256sum_prints_of_the_canonical_form() -> None:
    request = make()
    assert request.id == hashlib.sha256(request.canonical).hexdigest()
    assert json.loads(request.canonical)["reason"] == "فروشگاه تازه"
    assert parse_request(request.canonical) == request


@pytest.mark.parametrize(
    "change",
    [
        {"operation": KeyOperation.DESTROY},
        {"parameters": {**FIELDS["parameters"], "owner": "M-2"}},
        {"parameters": {**FIELDS["parameters"], "more": None}},
        {"requester": "service:gateway"},
        {"reason": "another"},
        {"requested": NOW + timedelta(seconds=1)},
        {"expires": NOW + 2 * HOUR},
        {"policy": "b" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_is_changed_makes_another_request(change: dict[str, Any]) -> None:
    assert make(**change).id != make().id


def test_a_parameter_that_is_changed_afterwards_changes_nothing() -> None:
    parameters: dict[str, Any] = {"key": "shop", "limits": {"uses": 1}}
    request = make(parameters=parameters)
    before = request.id
    parameters["limits"]["uses"] = 2
    assert parse_request(request.canonical).parameters["limits"] == {"uses": 1}
    assert request.id == before


def test_the_same_instant_elsewhere_is_the_same_request() -> None:
    tehran = timezone(timedelta(hours=3, minutes=30))
    assert make(requested=NOW.astimezone(tehran)).id == make().id


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(parameters=st.dictionaries(st.text(max_size=8), json_values, max_size=4), reason=st.text(max_size=50))
def test_every_request_is_read_back_as_it_was_written(parameters: dict[str, Any], reason: str) -> None:
    request = make(parameters=parameters, reason=reason)
    again = parse_request(request.canonical)
    assert (again, again.digest) == (request, request.digest)


def _deep(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "change",
    [
        {"requester": ""},
        {"reason": "x" * 501},
        {"reason": "\ud800"},
        {"policy": "a" * 63},
        {"expires": NOW},
        {"requested": NOW.replace(tzinfo=None)},
        {"requested": NOW.replace(microsecond=1)},
        {"parameters": {"share": 0.5}},
        {"parameters": {"key": b"bytes"}},
        {"parameters": {1: "key"}},
        {"parameters": {"list": _deep(9)}},
        {"parameters": {"key": "x" * 20_000}},
    ],
    ids=range(12),
)
def test_what_cannot_be_written_down_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((RequestError, TypeError)):
        make(**change)


def _altered(**changes: Any) -> bytes:
    return json.dumps(
        {**json.loads(make().canonical), **changes}, ensure_ascii=False, sort_keys=True, separators=(",", ":")
    ).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"[" * 5000,
        make().canonical + b" ",
        b" " + make().canonical,
        make().canonical.replace(b'"version":1', b'"version":1.0'),
        make().canonical.replace(b'"version":1', b'"version":true'),
        make().canonical.replace(b'"expires"', b'"version":1,"expires"'),
        _altered(version=2),
        _altered(operation="escrow"),
        _altered(operation=None),
        _altered(parameters=[]),
        _altered(requested="2026-02-30T00:00:00Z"),
        _altered(requested=1),
        _altered(expires="2026-03-21T13:00:00+00:00"),
        _altered(policy=None),
        _altered(more="x"),
        _altered(reason="x" * 20_000),
        json.dumps(json.loads(make().canonical), sort_keys=True).encode(),
        json.dumps(json.loads(make().canonical), sort_keys=True, separators=(",", ":")).encode(),
    ],
    ids=range(22),
)
def test_bytes_that_are_no_canonical_request_are_refused(data: bytes) -> None:
    with pytest.raises(RequestError):
        parse_request(data)


# -- approvals of them -------------------------------------------------------------------------------------------------

APPROVAL = KeyApproval(make().digest, "generate", Choice.APPROVE, "گواهی شد", NOW, NOW + HOUR)


def test_an_approval_is_read_back() -> None:
    assert parse_approval(build_approval(APPROVAL)) == APPROVAL


@pytest.mark.parametrize(
    "change",
    [
        {"request": b"\0" * 31},
        {"operation": ""},
        {"operation": "x" * 65},
        {"reason": "x" * 501},
        {"date": NOW.replace(tzinfo=None)},
        {"date": NOW.replace(microsecond=5)},
    ],
    ids=range(6),
)
def test_an_approval_that_breaks_its_structure_is_not_made(change: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        build_approval(KeyApproval(**{**{name: getattr(APPROVAL, name) for name in APPROVAL.__slots__}, **change}))


def _twin(operate: Callable[[bytes], bytes]) -> bytes:
    return operate(build_approval(APPROVAL))


@pytest.mark.parametrize(
    "der",
    [
        b"",
        _twin(lambda der: der[:-1]),
        _twin(lambda der: der + b"\0"),
        _twin(lambda der: der.replace(b"\x02\x01\x01", b"\x02\x01\x02", 1)),
        _twin(lambda der: der.replace(b"\x02\x01\x00", b"\x02\x01\x02", 1)),
        build_approval(KeyApproval(b"\0" * 32, "generate", Choice.REJECT, "", NOW, NOW)),
        b"\x30\x82\x20\x00" + b"\0" * 8192,
    ],
    ids=range(7),
)
def test_der_that_is_no_approval_is_refused(der: bytes) -> None:
    with pytest.raises(RequestError):
        parse_approval(der)


# -- for people --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "fa"])
@pytest.mark.parametrize("operation", KeyOperation)
def test_everything_that_is_signed_is_shown(language: Any, operation: KeyOperation) -> None:
    request = make(operation=operation, parameters={**FIELDS["parameters"], "limits": {"uses": 7}, "owner": None})
    draft = draft_approval(request, Choice.REJECT, now=NOW, reason="no", language=language)
    shown = "\n".join(draft.lines)
    for each in ("shop", "merchant-signing", '{"uses":7}', "null", "service:operator", "فروشگاه", "a" * 64, request.id):
        assert each in shown
    assert ("REJECT" in shown) is (language == "en")
    approval = parse_approval(draft.content)
    assert (approval.request, approval.operation, approval.choice) == (request.digest, operation, Choice.REJECT)
    assert approval.expires.isoformat() in shown
    assert set(request_lines(request, language)[1:]) <= set(draft.lines)


def test_times_are_as_they_are_signed() -> None:
    draft = draft_approval(make(), Choice.APPROVE, now=datetime(2026, 3, 21, 12, 0, 0, 999, tzinfo=UTC))
    assert parse_approval(draft.content).date == datetime(2026, 3, 21, 12, tzinfo=UTC)
