"""The Error message: says which check refused what, and not a word more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kwbp.codes import ErrorCode
from kwbp.common import instant
from kwbp.error_message import NO_RRPID, ReceivedError, build_error, read_error
from kwbp.errors import ProtocolError, SealedContentError
from kwbp.messages import ErrorTBS
from kwbp.structure import decode
from kwbp.wrapper import unwrap, wrap
from pki.der import sha256
from pki.oids import CT_ERROR
from pki.roles import Role
from tests.kwbp.forge import changed, refused, signed
from tests.kwbp.world import Purchase, World

REFUSAL = ProtocolError(ErrorCode.INVOICE_MISMATCH, "G5", "invoice and request must agree")


def _read(world: World, message: bytes, sent: bytes, **changes: Any) -> ReceivedError:
    arguments: dict[str, Any] = {"role": Role.GATEWAY_SIGNING, "trust": world.trust, "now": world.now}
    return read_error(unwrap(message, expected=[CT_ERROR]), sent=sent, **(arguments | changes))


def test_signed_error(world: World, purchase: Purchase) -> None:
    sent = purchase.auth_req_message
    draft = build_error(REFUSAL, refused=sent, now=world.now)
    message = draft.message(world.gateway_signing.sign(CT_ERROR, draft.content))
    received = _read(world, message, sent)
    assert received.signer == world.gateway_signing.certificate
    assert received.body.error_code is ErrorCode.INVOICE_MISMATCH
    assert received.body.clause == "G5"
    assert (received.body.rrpid, received.body.xid) == (purchase.auth_req.rrpid, purchase.auth_req.xid)
    assert received.body.time_hint is None


def test_bare_error_proves_nothing(world: World, purchase: Purchase) -> None:
    sent = purchase.auth_req_message
    draft = build_error(REFUSAL, refused=sent, now=world.now)
    assert _read(world, draft.message(draft.content), sent).signer is None


def test_error_about_bytes_that_cannot_be_read(world: World) -> None:
    draft = build_error(REFUSAL, refused=b"GET / HTTP/1.1", now=world.now)
    assert (draft.rrpid, draft.xid) == (NO_RRPID, None)
    assert draft.body.h_message == sha256(b"GET / HTTP/1.1")


def test_error_explains_clock_skew(world: World, purchase: Purchase) -> None:
    """The peer's clock differs, so the signing time of its Error does too: it is read all the same."""
    error = ProtocolError(ErrorCode.MESSAGE_TOO_OLD, "K7", "x", time_hint=world.now)
    draft = build_error(error, refused=purchase.auth_req_message, now=world.now)
    message = draft.message(world.gateway_signing.sign(CT_ERROR, draft.content))
    received = _read(world, message, purchase.auth_req_message, now=world.now - timedelta(minutes=10))
    assert received.body.time_hint is not None
    assert instant(received.body.time_hint) == world.now


@pytest.mark.parametrize(
    "code", [ErrorCode.DECODING_FAILURE, ErrorCode.HASH_MISMATCH, ErrorCode.ACCOUNT_BINDING_FAILURE]
)
def test_errors_after_opening_are_byte_for_byte_the_same(world: World, purchase: Purchase, code: ErrorCode) -> None:
    def content(error: ProtocolError) -> bytes:
        return build_error(error, refused=purchase.auth_req_message, now=world.now).content

    assert content(SealedContentError(code, "G10", "x")) == content(
        ProtocolError(ErrorCode.DECODING_FAILURE, "G8", "does not open")
    )


def test_error_has_no_room_for_free_text() -> None:
    assert set(ErrorTBS.__annotations__) == {
        "version", "error_code", "rrpid", "xid", "h_message", "date", "time_hint", "clause",
    }  # fmt: skip


@pytest.mark.parametrize("changes", [{"clause": "PAN 6037"}, {"clause": "g5"}, {"xid": b"x"}])
def test_error_out_of_form(world: World, purchase: Purchase, changes: dict[str, Any]) -> None:
    draft = build_error(REFUSAL, refused=purchase.auth_req_message, now=world.now)
    data = signed(world.gateway_signing, CT_ERROR, changed(draft.body, changes))
    with refused(ErrorCode.DECODING_FAILURE, "K1"):
        _read(world, draft.message(data), purchase.auth_req_message)


def test_e1_error_about_another_message(world: World, purchase: Purchase, other: Purchase) -> None:
    draft = build_error(REFUSAL, refused=other.auth_req_message, now=world.now)
    message = draft.message(world.gateway_signing.sign(CT_ERROR, draft.content))
    with refused(ErrorCode.HASH_MISMATCH, "E1"):
        _read(world, message, purchase.auth_req_message)


def test_k2_header_that_differs(world: World, purchase: Purchase) -> None:
    draft = build_error(REFUSAL, refused=purchase.auth_req_message, now=world.now)
    message = wrap(CT_ERROR, draft.content, rrpid=draft.rrpid, xid=None)
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        _read(world, message, purchase.auth_req_message)


def test_k5_error_signed_by_somebody_else(world: World, purchase: Purchase) -> None:
    draft = build_error(REFUSAL, refused=purchase.auth_req_message, now=world.now)
    message = draft.message(world.shop.sign(CT_ERROR, draft.content))
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        _read(world, message, purchase.auth_req_message)


def test_error_is_strict_der(world: World, purchase: Purchase) -> None:
    draft = build_error(REFUSAL, refused=purchase.auth_req_message, now=world.now)
    assert decode(ErrorTBS, draft.content).error_code is ErrorCode.INVOICE_MISMATCH
    with refused(ErrorCode.DECODING_FAILURE, "K4"):
        _read(world, draft.message(draft.content + b"\x00"), purchase.auth_req_message)
