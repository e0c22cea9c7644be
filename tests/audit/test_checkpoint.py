from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.checkpoint import MAX_PROOF, MAX_SIZE, Checkpoint, Progress, split_request
from audit.errors import NoteError
from tests.support.tlog import GrowingLog

ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
TEXT = f"example.com/behind-the-sofa\n20852163\n{ROOT}\n"
"""The example of c2sp.org/tlog-checkpoint."""


def test_the_example_of_the_specification() -> None:
    checkpoint = Checkpoint.parse(TEXT)
    assert (checkpoint.origin, checkpoint.size, checkpoint.extensions) == ("example.com/behind-the-sofa", 20852163, ())
    assert checkpoint.text == TEXT


@given(
    st.from_regex(r"[a-z0-9./-]{1,40}", fullmatch=True),
    st.integers(0, MAX_SIZE),
    st.binary(min_size=32, max_size=32),
    st.lists(st.from_regex(r"[ -~]{1,30}", fullmatch=True), max_size=3),
)
def test_what_is_written_is_read(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    assert Checkpoint.parse(checkpoint.text) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n\n",
        TEXT[:-1],
        f"\n20852163\n{ROOT}\n",
        f"an origin\n20852163\n{ROOT}\n",
        f"origin+1\n20852163\n{ROOT}\n",
        f"origin\n020852163\n{ROOT}\n",
        f"origin\n-1\n{ROOT}\n",
        f"origin\n+1\n{ROOT}\n",
        f"origin\n٣\n{ROOT}\n",
        f"origin\n9223372036854775808\n{ROOT}\n",
        f"origin\n\n{ROOT}\n",
        "origin\n3\n\n",
        f"origin\n3\n{ROOT[:-4]}\n",
        f"origin\n3\n{ROOT[:-2]}J=\n",
        f"origin\n3\n{ROOT} \n",
        f"origin\n3\n{ROOT}\n\n",
        f"origin\n3\n{ROOT}\n\x00\n",
        "origin\n3\n",
    ],
)
def test_a_checkpoint_with_one_thing_wrong_is_none(text: str) -> None:
    with pytest.raises(NoteError):
        Checkpoint.parse(text)


@given(st.integers(0, 40), st.integers(0, 40))
def test_a_request_is_read_as_it_was_written(first: int, more: int) -> None:
    progress = GrowingLog.of(first + more).progress("kwbp/x/log-ca", first)
    assert Progress.parse(progress.encode()) == progress


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        TEXT.encode(),
        b"old 1\n" + TEXT.encode(),
        b"old 01\n\n" + TEXT.encode(),
        b"old\n\n" + TEXT.encode(),
        b"new 1\n\n" + TEXT.encode(),
        b"old 1\n" + ROOT.encode()[:-4] + b"\n\n" + TEXT.encode(),
        b"old 1\n" + (ROOT.encode() + b"\n") * (MAX_PROOF + 1) + b"\n" + TEXT.encode(),
        b"old 1\n\xff\n\n" + TEXT.encode(),
        b"old 1\r\n\n" + TEXT.encode(),
    ],
)
def test_a_request_with_one_thing_wrong_is_none(request_: bytes) -> None:
    with pytest.raises(NoteError):
        split_request(request_)
