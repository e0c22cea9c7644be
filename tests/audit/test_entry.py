from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.entry import JsonValue, decode, encode, line, timestamp
from audit.errors import BrokenJournalError, EntryError
from audit.merkle import leaf_hash
from audit.verify import MAX_LINE, check_line

AT = "2026-05-01T08:30:00.000000Z"

json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_an_entry_reads_back_as_it_was_written_and_satisfies_the_verifier(entry: dict[str, JsonValue]) -> None:
    try:
        written = line(3, AT, encode(entry))
    except EntryError:  # nested too deep, or a lone surrogate
        return
    read = decode(written, 3)
    assert (read.index, read.at, read.entry) == (3, AT, entry)
    check_line(written, 3)  # which is another JSON library


def test_the_line_is_canonical_json_with_sorted_keys_and_no_blanks() -> None:
    expected = {"at": AT, "entry": {"a": "ریال", "b": 1, "c": None}, "index": 0}
    written = line(0, AT, encode({"b": 1, "a": "ریال", "c": None}))
    assert written == json.dumps(expected, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_jq_and_sha256sum_alone_give_the_leaf_hash_of_a_line() -> None:
    written = line(7, AT, encode({"operation": "sign", "detail": 'q"\\\n\u0001é'}))
    content = subprocess.run(["jq", "-cSj", "."], input=written, capture_output=True, check=True).stdout
    found = subprocess.run(["sha256sum"], input=b"\x00" + content, capture_output=True, check=True).stdout.split()[0]
    assert found.decode() == leaf_hash(written).hex() == hashlib.sha256(b"\x00" + written).hexdigest()


@pytest.mark.parametrize(
    "value", [1.5, 1.0, 2**53, b"bytes", {1: "key"}, {"x": object()}, "\ud800", [[[[[[[[[0]]]]]]]]], datetime.now(UTC)]
)
def test_what_has_no_canonical_form_is_not_recorded(value: Any) -> None:
    with pytest.raises(EntryError):
        encode({"value": value})


def test_a_key_that_is_no_text_is_not_recorded() -> None:
    entry: Any = {1: "key"}
    with pytest.raises(EntryError, match="a key that is no text"):
        encode(entry)


def test_the_longest_line_of_an_entry_fits_the_two_length_bytes_of_a_bundle() -> None:
    longest = MAX_LINE - len(line(10**19 - 1, AT, b'{"value":""}'))
    assert len(line(10**19 - 1, AT, encode({"value": "x" * longest}))) == MAX_LINE
    with pytest.raises(EntryError, match="are recorded"):
        encode({"value": "x" * (longest + 1)})


def test_a_refused_value_is_not_repeated_in_the_error() -> None:
    value: Any = b"6219861034529007"
    with pytest.raises(EntryError) as caught:
        encode({"value": value})
    assert "6219" not in str(caught.value)


def _line(**changes: Any) -> bytes:
    """A line that is not of our form."""
    fields = json.loads(line(0, AT, encode({"operation": "sign"})))
    return json.dumps({**fields, **changes}, sort_keys=True, separators=(",", ":")).encode()


STRANGE = [
    (b"{", {"not-json"}),
    (b"", {"not-json"}),
    (b"\xff", {"not-json"}),
    (b"[" * 60_000, {"not-json", "bad-shape"}),
    (b"[]", {"bad-shape"}),
    (b'{"entry":{}}', {"bad-shape"}),
    (_line(entry="text"), {"bad-shape"}),
    (_line(at=5), {"bad-shape"}),
    (_line(entry={"x": 1.5}), {"bad-shape", "not-json"}),
    (_line(entry={"x": 2**53}), {"bad-shape", "not-json"}),
    (_line(entry={"x": 1}).replace(b":1}", b":NaN}"), {"not-json"}),
    (_line(extra=1), {"bad-shape"}),
    (_line(index=1), {"bad-index"}),
    (_line(index="0"), {"bad-shape"}),
    (_line(index=False), {"bad-shape"}),
    (_line().replace(b",", b", ", 1), {"not-canonical"}),
    (_line() + b" ", {"not-canonical"}),
    (_line().replace(b"sign", b"\\u0073ign"), {"not-canonical"}),
    (_line().replace(b'"index":0', b'"index":0,"index":0'), {"not-canonical"}),
    (_line().replace(b'{"operation"', b'{"operation":"verify","operation"'), {"not-canonical"}),
    (_line().replace(b'"index":0', b'"index":-0'), {"not-canonical"}),
    (b'{"index":0,' + _line()[1:].replace(b',"index":0', b""), {"not-canonical"}),
]


@pytest.mark.parametrize(("strange", "reasons"), STRANGE)
def test_a_line_that_was_not_written_by_encode_is_refused(strange: bytes, reasons: set[str]) -> None:
    with pytest.raises(BrokenJournalError) as caught:
        decode(strange, 0)
    assert caught.value.index == 0
    assert caught.value.reason in reasons


@pytest.mark.parametrize(("strange", "reasons"), STRANGE)
def test_the_verifier_refuses_it_for_the_same_reason(strange: bytes, reasons: set[str]) -> None:
    with pytest.raises(BrokenJournalError) as caught:
        check_line(strange, 0)
    assert caught.value.index == 0
    assert caught.value.reason in reasons


def test_times_are_utc_with_microseconds_whatever_zone_they_come_in() -> None:
    tehran = timezone(timedelta(hours=3, minutes=30))
    assert timestamp(datetime(2026, 5, 1, 12, 0, tzinfo=tehran)) == "2026-05-01T08:30:00.000000Z"
    assert timestamp(datetime(2026, 5, 1, 8, 30, 0, 7, UTC)) == "2026-05-01T08:30:00.000007Z"
