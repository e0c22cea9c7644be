"""The wrapper routes, and is believed in nothing."""

from __future__ import annotations

from typing import Any

import pytest

from kwbp.codes import ErrorCode
from kwbp.structure import SIZE_LIMIT
from kwbp.wrapper import check_header, unwrap, wrap
from pki import der
from pki.oids import CT_AUTH_REQ, CT_AUTH_RES, CT_INVOICE_REQ
from tests.kwbp.forge import changed, refused
from tests.support.judges import openssl

RRPID, XID = b"\x01" * 20, b"\x02" * 20


def test_round_trip() -> None:
    message = unwrap(wrap(CT_AUTH_REQ, b"body", rrpid=RRPID, xid=XID), expected=[CT_AUTH_RES, CT_AUTH_REQ])
    assert (message.msg_type, message.rrpid, message.xid, message.body) == (CT_AUTH_REQ, RRPID, XID, b"body")
    check_header(message, CT_AUTH_REQ, rrpid=RRPID, xid=XID)


def test_first_message_has_no_xid() -> None:
    assert unwrap(wrap(CT_INVOICE_REQ, b"body", rrpid=RRPID), expected=[CT_INVOICE_REQ]).xid is None


def test_type_that_is_not_served() -> None:
    with refused(ErrorCode.MESSAGE_NOT_SUPPORTED, "K2"):
        unwrap(wrap(CT_AUTH_REQ, b"body", rrpid=RRPID, xid=XID), expected=[CT_AUTH_RES])


@pytest.mark.parametrize(
    "header",
    [
        {"message_type": CT_AUTH_RES, "rrpid": RRPID, "xid": XID},
        {"message_type": CT_AUTH_REQ, "rrpid": XID, "xid": XID},
        {"message_type": CT_AUTH_REQ, "rrpid": RRPID, "xid": RRPID},
        {"message_type": CT_AUTH_REQ, "rrpid": RRPID, "xid": None},
    ],
)
def test_header_that_differs_from_the_content(header: dict[str, Any]) -> None:
    message = unwrap(wrap(CT_AUTH_REQ, b"body", rrpid=RRPID, xid=XID), expected=[CT_AUTH_REQ])
    with refused(ErrorCode.WRAPPER_MSG_MISMATCH, "K2"):
        check_header(message, **header)


@pytest.mark.parametrize("size", [0, 19, 21])
def test_ids_have_twenty_bytes(size: int) -> None:
    honest = unwrap(wrap(CT_AUTH_REQ, b"body", rrpid=RRPID, xid=XID), expected=[CT_AUTH_REQ])
    with refused(ErrorCode.DECODING_FAILURE, "K1"):
        unwrap(der.encode(changed(honest, {"xid": bytes(size)})), expected=[CT_AUTH_REQ])
    with refused(ErrorCode.DECODING_FAILURE, "K1"):
        wrap(CT_AUTH_REQ, b"body", rrpid=bytes(size))


def test_message_above_the_limit() -> None:
    with refused(ErrorCode.MESSAGE_TOO_BIG, "K1"):
        unwrap(bytes(SIZE_LIMIT + 1), expected=[CT_AUTH_REQ])


def test_body_is_not_empty() -> None:
    with refused(ErrorCode.DECODING_FAILURE, "K1"):
        wrap(CT_AUTH_REQ, b"", rrpid=RRPID)


def test_wrapper_is_what_openssl_can_show() -> None:
    shown = openssl("asn1parse", "-inform", "DER", stdin=wrap(CT_AUTH_REQ, b"body", rrpid=RRPID, xid=XID)).decode()
    assert CT_AUTH_REQ.dotted_string in shown
