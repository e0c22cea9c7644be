"""T-3 for rows 19 to 23: one byte of a message changed anywhere. It is refused, or makes the very same statement."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwbp.errors import ProtocolError
from kwbp.settling import REQUESTS, SentBatchRequest, SentSettlingRequest
from kwbp.structure import encode
from kwbp.wrapper import unwrap
from pki.oids import CT_BATCH_ADMIN_REQ
from tests.kwbp.settling import Settling
from tests.kwbp.world import World
from tests.support.pki_factory import PkiFactory

Reader = Callable[[bytes], bytes]
_SETTLING: Final = Settling(World(PkiFactory()))


def _messages() -> dict[str, tuple[bytes, Reader]]:
    """Each message, and how its receiver comes to what it says."""
    made: dict[str, tuple[bytes, Reader]] = {}
    s = _SETTLING
    standing, capture = s.done(s.capture(1_000_000), s.standing(s.held))
    credited, credit = s.done(s.credit(capture, 400_000), standing)
    for name, draft, book in (
        ("Cap", s.capture(1000), standing),
        ("CapRev", s.capture_reversal(capture), standing),
        ("AuthRev", s.auth_reversal(s.held, 1_000_000), standing),
        ("Cred", s.credit(capture, 1000), standing),
        ("CredRev", s.credit_reversal(credit), credited),
    ):
        message = s.message(draft)
        sent = SentSettlingRequest.load(draft.content_type, unwrap(message, expected=REQUESTS).body)
        made[f"{name}Req"] = message, partial(_said, partial(s.check, standing=book))
        answer = s.answer_message(s.answer(s.check(message, book)))
        made[f"{name}Res"] = answer, partial(_said, partial(s.check_answer, sent=sent))
    closing = s.batch_message(s.closing(s.world.now))
    sent_batch = SentBatchRequest.load(unwrap(closing, expected=[CT_BATCH_ADMIN_REQ]).body)
    made["BatchAdminReq"] = closing, partial(_said, partial(s.check_batch, batches=s.batches()))
    closed = s.answer_message(s.batch_answer(s.check_batch(closing, s.batches())))
    made["BatchAdminRes"] = closed, lambda message: encode(s.check_batch_answer(message, sent_batch))
    made["SettleAdvice"] = s.answer_message(s.advice()), partial(_said, s.check_advice)
    return made


def _said(check: Callable[[bytes], Any], message: bytes) -> bytes:
    return encode(check(message).body)


MESSAGES: Final = _messages()


def test_all_rows_are_here() -> None:
    assert len(MESSAGES) == 13


@pytest.mark.parametrize("name", MESSAGES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_changed_byte(name: str, data: st.DataObject) -> None:
    message, read = MESSAGES[name]
    position = data.draw(st.integers(0, len(message) - 1))
    mask = data.draw(st.integers(1, 255))
    twin = message[:position] + bytes([message[position] ^ mask]) + message[position + 1 :]
    try:
        statement = read(twin)
    except ProtocolError:
        return
    assert statement == read(message)
