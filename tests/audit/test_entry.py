from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.entry import GENESIS, MAX_LINE, JsonValue, decode, encode, timestamp
from audit.errors import BrokenJournalError, EntryError

AT = "2026-05-01T08:30:00.000000Z"

json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_an_entry_reads_back_as_it_was_written(entry: dict[str, JsonValue]) -> None:
    try:
        line, digest = encode(3, AT, entry, GENESIS)
    except EntryError:  # nested too deep, or a lone surrogate
        return
    read = decode(line, index=3, prev=GENESIS)
    assert (read.index, read.at, read.entry, read.hash) == (3, AT, entry, digest)


def test_the_line_is_canonical_json_with_sorted_keys_and_no_blanks() -> None:
    line, digest = encode(0, AT, {"b": 1, "a": "ریال", "c": None}, GENESIS)
    expected = {"at": AT, "entry": {"a": "ریال", "b": 1, "c": None}, "hash": digest, "index": 0, "prev": GENESIS}
    assert line == json.dumps(expected, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_jq_and_sha256sum_alone_check_the_hash_of_a_line() -> None:
    line, digest = encode(7, AT, {"operation": "sign", "detail": 'q"\\\n\u0001é'}, GENESIS)
    content = subprocess.run(["jq", "-cSj", "del(.hash)"], input=line, capture_output=True, check=True).stdout
    assert subprocess.run(["sha256sum"], input=content, capture_output=True, check=True).stdout.split()[0] == (
        digest.encode()
    )


@pytest.mark.parametrize("value", [1.5, 2**53, b"bytes", {1: "key"}, {"x": object()}, "\ud800", [[[[[[[[[0]]]]]]]]]])
def test_what_has_no_canonical_form_is_not_recorded(value: Any) -> None:
    with pytest.raises(EntryError):
        encode(0, AT, {"value": value}, GENESIS)


def test_an_entry_longer_than_a_line_may_be_is_not_recorded() -> None:
    with pytest.raises(EntryError, match="at most 65536"):
        encode(0, AT, {"value": "x" * MAX_LINE}, GENESIS)


def test_a_refused_value_is_not_repeated_in_the_error() -> None:
    value: Any = b"6219861034529007"
    with pytest.raises(EntryError) as caught:
        encode(0, AT, {"value": value}, GENESIS)
    assert "6219" not in str(caught.value)


def _line(**changes: Any) -> bytes:
    """An entry that was written with right hashes but is not of our form."""
    line, _ = encode(0, AT, {"operation": "sign"}, GENESIS)
    return json.dumps({**json.loads(line), **changes}, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not-json"),
        (b"\xff", "not-json"),
        (b"[" * 60_000, "not-json"),
        (b"[]", "bad-shape"),
        (b'{"entry":{}}', "bad-shape"),
        (_line(entry="text"), "bad-shape"),
        (_line(at=5), "bad-shape"),
        (_line(entry={"x": 1.5}), "bad-shape"),
        (_line(extra=1), "bad-shape"),
        (_line(index=1), "bad-index"),
        (_line(index="0"), "bad-index"),
        (_line(index=False), "not-canonical"),
        (_line(prev="f" * 64), "bad-chain"),
        (_line(hash="f" * 64), "bad-hash"),
        (_line(at="2026-05-01T08:30:00.000001Z"), "bad-hash"),
        (_line(entry={"operation": "Sign"}), "bad-hash"),
        (_line().replace(b",", b", ", 1), "not-canonical"),
        (_line().replace(b"sign", b"\\u0073ign"), "not-canonical"),
        (_line().replace(b'"index":0', b'"index":0,"index":0'), "not-canonical"),
    ],
)
def test_a_line_that_encode_did_not_write_is_refused(line: bytes, reason: str) -> None:
    with pytest.raises(BrokenJournalError) as caught:
        decode(line, index=0, prev=GENESIS)
    assert (caught.value.index, caught.value.reason) == (0, reason)


def test_times_are_utc_with_microseconds_whatever_zone_they_come_in() -> None:
    tehran = timezone(timedelta(hours=3, minutes=30))
    assert timestamp(datetime(2026, 5, 1, 12, 0, tzinfo=tehran)) == "2026-05-01T08:30:00.000000Z"
    assert timestamp(datetime(2026, 5, 1, 8, 30, 0, 7, UTC)) == "2026-05-01T08:30:00.000007Z"
