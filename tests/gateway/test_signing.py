"""An answer is signed by two clocks of one gateway: one that no merchant would take (K7) is not given out."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from cryptography.x509 import ObjectIdentifier

from gateway.signing import AnswerSigner
from kwbp.codes import ErrorCode
from kwbp.common import WINDOW
from kwbp.error_message import build_error
from kwbp.errors import ProtocolError
from kwbp.wrapper import unwrap
from pki.oids import CT_ERROR
from runtime.problems import Problem
from tests.support.pki_factory import NOW, PkiFactory

SECOND = timedelta(seconds=1)


class KeyService:
    """Signs by a clock of its own."""

    def __init__(self, ahead: timedelta) -> None:
        self._credential = PkiFactory().gateway_signing("GW-1", acquirer_bin="603770")
        self._ahead = ahead
        self.signed = 0

    async def describe_key(self, name: str) -> object:
        raise AssertionError(name)

    async def sign_cms(self, _name: str, content_type: str, content: bytes) -> bytes:
        self.signed += 1
        return self._credential.sign(ObjectIdentifier(content_type), content, signing_time=NOW + self._ahead)


def answered(service: KeyService) -> bytes:
    draft = build_error(ProtocolError(ErrorCode.UNKNOWN_XID, "B2", "no such order"), refused=b"0", now=NOW)
    return asyncio.run(AnswerSigner(service, "gateway-signing").message(draft))  # type: ignore[arg-type]


@pytest.mark.parametrize("ahead", [-WINDOW, timedelta(), WINDOW])
def test_clocks_that_differ_a_little_hinder_nothing(ahead: timedelta) -> None:
    assert unwrap(answered(KeyService(ahead)), expected=(CT_ERROR,)).msg_type == CT_ERROR


@pytest.mark.parametrize("ahead", [-WINDOW - SECOND, WINDOW + SECOND])
def test_an_answer_that_no_merchant_would_take_is_not_given_out(ahead: timedelta) -> None:
    service = KeyService(ahead)
    with pytest.raises(Problem) as caught:
        answered(service)
    assert (caught.value.status, caught.value.type) == (503, "clocks-disagree")
    assert service.signed == 1  # the same again would fare no better
