"""Answers in memory: bounded, void when their certificate changes, never older than what is known to have changed."""

from __future__ import annotations

import pytest

from ca.errors import ProfileError
from ca.ocsp_memory import Memory, Remembered
from ca.ocsp_policy import load_policy, ocsp_policy


def answer(body: bytes = b"answer", until: float = 100.0) -> Remembered:
    return Remembered(body, [], b"", until)


def keep(memory: Memory, request: bytes, serial: str = "1", epoch: int = 0) -> bool:
    return memory.put(request, answer(), issuer="ca", serials=[serial], epoch=epoch)


def test_nothing_is_kept_before_it_is_known_what_has_changed() -> None:
    memory = Memory(10)
    assert not keep(memory, b"q")
    memory.note({}, {})
    assert keep(memory, b"q")
    assert memory.get(b"q", 99.0) is not None
    assert memory.get(b"q", 100.0) is None  # its time is over


def test_a_change_makes_every_answer_about_its_certificate_void_and_no_other() -> None:
    memory = Memory(10)
    memory.note({"ca": 1}, {})
    for request, serial in ((b"by post", "1"), (b"by get", "1"), (b"other", "2")):
        assert keep(memory, request, serial, epoch=1)
    memory.note({"ca": 2}, {"ca": ["1"]})
    assert [memory.get(each, 0.0) is None for each in (b"by post", b"by get", b"other")] == [True, True, False]


def test_what_was_true_before_the_last_known_change_is_not_taken_in() -> None:
    memory = Memory(10)
    memory.note({"ca": 2}, {})
    assert not keep(memory, b"q", epoch=1)
    assert keep(memory, b"q", epoch=3)  # a change that is noted later makes it void, if it is about this one
    memory.note({"ca": 3}, {"ca": ["1"]})
    assert memory.get(b"q", 0.0) is None


def test_an_older_database_is_another_one() -> None:
    memory = Memory(10)
    memory.note({"ca": 5}, {})
    keep(memory, b"q", epoch=5)
    memory.note({"ca": 4}, {})
    assert memory.get(b"q", 0.0) is None
    assert memory.epochs == {"ca": 4}


def test_those_asked_for_last_stay() -> None:
    memory = Memory(2)
    memory.note({}, {})
    keep(memory, b"a", "1")
    keep(memory, b"b", "2")
    assert memory.get(b"a", 0.0) is not None
    keep(memory, b"c", "3")
    assert [memory.get(each, 0.0) is not None for each in (b"a", b"b", b"c")] == [True, False, True]
    assert len(memory) == 2


@pytest.mark.parametrize(
    "wrong",
    [{"poll": "PT2S"}, {"request_certificates": 101}, {"presigned": {"lifetime": "P1D", "renew_before": "P2D"}}],
)
def test_a_policy_that_could_not_be_kept_is_refused(wrong: dict[str, object]) -> None:
    document = {**ocsp_policy().model_dump(mode="json"), **wrong}
    with pytest.raises(ProfileError, match="OCSP policy"):
        load_policy(str(document))
