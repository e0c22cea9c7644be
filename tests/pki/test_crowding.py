"""Very many members are refused before an object is made of any."""

from __future__ import annotations

import tracemalloc

import pytest

from pki import oids
from pki.cms_enveloped import parse_auth_enveloped
from pki.cms_signed import parse_signed_data
from pki.crowding import UNCOUNTED, Members, check_members
from pki.der import encode, tlv
from pki.errors import CmsError, DerError

NULL = b"\x05\x00"
FEW = Members(3, {0x31: Members(2), 0x30: Members(9000, {0x31: Members(9000)})})
PADDING = tlv(0x04, bytes(UNCOUNTED))


def test_what_is_short_is_not_counted() -> None:
    check_members(tlv(0x30, NULL * (UNCOUNTED // 2 - 2)), FEW)


@pytest.mark.parametrize(
    "der",
    [
        tlv(0x30, PADDING + NULL * 3),
        tlv(0x30, PADDING + tlv(0x31, NULL * 3)),
        tlv(0x30, PADDING + tlv(0x30, tlv(0x31, NULL * 9001))),
    ],
)
def test_a_crowd_is_refused_wherever_it_is(der: bytes) -> None:
    with pytest.raises(DerError) as caught:
        check_members(der, FEW)
    assert (caught.value.reason, caught.value.clause) == ("malformed", "KWBP global rule 1")


@pytest.mark.parametrize(
    "der",
    [
        tlv(0x30, PADDING + NULL * 2),
        tlv(0x30, PADDING + tlv(0x31, NULL * 2)),
        tlv(0x30, PADDING + tlv(0xA0, NULL * 9)),  # what is not looked into
        tlv(0x30, PADDING + tlv(0x30, tlv(0x31, NULL * 9000))),
    ],
)
def test_as_many_as_are_allowed_may_come(der: bytes) -> None:
    check_members(der, FEW)


@pytest.mark.parametrize(
    "der",
    [
        b"\x30" + bytes(UNCOUNTED),  # an empty element, and zeros behind it: the parser's affair
        b"\x30\x80" + PADDING + b"\x00\x00",
        b"\x30\x85\x00\x00\x00\x20\x04" + PADDING,
        b"\x30\x84\xff\xff\xff\xff" + PADDING,
        b"\x30\x84\x00" + b"\xff" * UNCOUNTED,
        tlv(0x30, PADDING + b"\x05"),
        tlv(0x30, PADDING + b"\x30\x7f"),
        tlv(0x30, PADDING + b"\x30\x84\x01"),
    ],
)
def test_what_is_no_der_is_left_to_the_parser(der: bytes) -> None:
    check_members(der, FEW)


def signed_data(*, algorithms: bytes = b"", certificates: bytes = b"", signers: bytes = b"") -> bytes:
    content = tlv(0x30, encode(oids.CT_INVOICE) + tlv(0xA0, tlv(0x04, b"x")))
    members = encode(3) + tlv(0x31, algorithms) + content + tlv(0xA0, certificates) + tlv(0x31, signers)
    return tlv(0x30, encode(oids.SIGNED_DATA) + tlv(0xA0, tlv(0x30, members)))


CROWD = NULL * 60_000


@pytest.mark.parametrize(
    "der",
    [
        signed_data(algorithms=CROWD),
        signed_data(certificates=CROWD),
        signed_data(signers=CROWD),
        signed_data(signers=tlv(0x30, tlv(0xA0, CROWD))),
        signed_data(signers=tlv(0x30, tlv(0xA1, tlv(0x30, NULL + tlv(0x31, CROWD))))),
    ],
)
def test_a_crowd_in_signed_data_takes_no_memory(der: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CmsError) as caught:
            parse_signed_data(der, content_type=oids.CT_INVOICE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "malformed"
    assert peak < len(der)  # eighty bytes a member would be forty times that


def test_a_crowd_of_recipients_is_refused() -> None:
    members = encode(0) + tlv(0x31, CROWD)
    with pytest.raises(CmsError) as caught:
        parse_auth_enveloped(tlv(0x30, encode(oids.AUTH_ENVELOPED_DATA) + tlv(0xA0, tlv(0x30, members))))
    assert caught.value.reason == "malformed"
