"""The length prefix: 2 or 4 bytes, never zero, never beyond the limit, whatever way the stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shetab.errors import FramingError
from shetab.framing import Framing


def test_golden_frames() -> None:
    assert Framing(2).frame(b"0800") == b"\x00\x040800"
    assert Framing(4).frame(b"0800") == b"\x00\x00\x00\x040800"


@given(st.sampled_from([2, 4]), st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.data())
def test_any_cut_of_the_stream_gives_the_same_messages(size: int, messages: list[bytes], data: st.DataObject) -> None:
    framing = Framing(size)
    stream = b"".join(framing.frame(message) for message in messages)
    cut = data.draw(st.integers(0, len(stream)))
    first, rest = framing.split(stream[:cut])
    second, left = framing.split(rest + stream[cut:])
    assert (first + second, left) == (messages, b"")


@pytest.mark.parametrize("prefix", [b"\x00\x00", b"\xff\xff", b"\x20\x01", b"\x00", b"\x00\x00\x04"])
def test_wrong_prefixes(prefix: bytes) -> None:
    with pytest.raises(FramingError):
        Framing(2).length(prefix)


def test_messages_that_do_not_fit() -> None:
    framing = Framing(2, limit=10)
    assert framing.frame(bytes(10))
    for message in (b"", bytes(11)):
        with pytest.raises(FramingError):
            framing.frame(message)


def test_other_prefix_sizes() -> None:
    with pytest.raises(FramingError):
        Framing(3)
