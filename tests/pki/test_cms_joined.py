"""One SignedData with two signers: exactly two, told apart by an attribute, each half in the profile."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509

from pki.cms_joined import Joined, join, parse_joined
from pki.cms_signed import (
    assemble_signed_data,
    build_signed_attributes,
    parse_signed_data,
    sign_signed_attributes,
    verify_signature,
)
from pki.der import encode, sha256
from pki.errors import CmsError
from pki.oids import AA_DUAL_LINK, AA_TIME_STAMP_TOKEN, CT_DUAL_SIGNATURE, CT_INVOICE
from tests.support.pki_factory import CONTENT, Credential, PkiFactory

PKI = PkiFactory()
SHOP, BUYER, THIRD = PKI.merchant("M-1"), PKI.cardholder("Y2FyZA"), PKI.merchant("M-2")
MARK = encode(b"the link")


def half(
    signer: Credential,
    *further: tuple[x509.ObjectIdentifier, bytes],
    content: bytes = CONTENT,
    content_type: x509.ObjectIdentifier = CT_INVOICE,
) -> bytes:
    """SignedData by one signer, who signs `further` besides the four attributes."""
    attributes = build_signed_attributes(
        content_type,
        content,
        signer=signer.certificate,
        signing_time=signer.now,
        further=further[0] if further else None,
    )
    signature = sign_signed_attributes(attributes, signer.key)
    return assemble_signed_data(
        content_type, content, attributes, signature, signer=signer.certificate, chain=signer.chain
    )


def read(der: bytes) -> Joined:
    return parse_joined(der, content_type=CT_INVOICE, mark=AA_DUAL_LINK)


def refused(reason: str) -> Any:
    return pytest.raises(CmsError, match=reason)


def test_both_halves_are_read_and_verify() -> None:
    der = join(half(SHOP), half(BUYER, (AA_DUAL_LINK, MARK)))
    joined = read(der)
    assert (joined.first.signer, joined.second.signer) == (SHOP.certificate, BUYER.certificate)
    assert (joined.first.further, joined.second.further) == (None, MARK)
    assert {joined.first.digest, joined.second.digest} == {sha256(der)}
    assert joined.first.content == joined.second.content == CONTENT
    verify_signature(joined.first)
    verify_signature(joined.second)
    assert len(joined.first.certificates) == 5  # two signers, two issuing CAs, one brand CA


def test_the_order_of_signers_means_nothing() -> None:
    first, second = half(SHOP), half(BUYER, (AA_DUAL_LINK, MARK))
    assert join(first, second) == join(second, first)


def test_one_signer_is_not_enough() -> None:
    for der in (half(SHOP), half(BUYER, (AA_DUAL_LINK, MARK))):
        with refused("signer_count"):
            read(der)


def test_a_third_signer_is_too_many() -> None:
    two = join(half(SHOP), half(BUYER, (AA_DUAL_LINK, MARK)))
    for third in (half(THIRD), half(THIRD, (AA_DUAL_LINK, MARK))):
        with refused("signer_count"):
            read(join(two, third))


def test_two_of_one_kind_are_no_contract() -> None:
    with refused("signer_count"):
        read(join(half(SHOP), half(BUYER)))
    with refused("signer_count"):
        read(join(half(SHOP, (AA_DUAL_LINK, MARK)), half(BUYER, (AA_DUAL_LINK, MARK))))


def test_one_certificate_does_not_sign_twice() -> None:
    with refused("signer_count"):
        read(join(half(SHOP), half(SHOP, (AA_DUAL_LINK, MARK))))


def test_another_attribute_is_refused_in_either_half() -> None:
    with refused("bad_attributes"):
        read(join(half(SHOP, (AA_TIME_STAMP_TOKEN, MARK)), half(BUYER, (AA_DUAL_LINK, MARK))))


def test_two_contents_are_not_joined() -> None:
    with pytest.raises(ValueError, match="one content"):
        join(half(SHOP), half(BUYER, (AA_DUAL_LINK, MARK), content=encode(7)))
    with pytest.raises(ValueError, match="one content"):
        join(half(SHOP), half(BUYER, (AA_DUAL_LINK, MARK), content_type=CT_DUAL_SIGNATURE))


def test_another_content_type_is_refused() -> None:
    der = join(
        half(SHOP, content_type=CT_DUAL_SIGNATURE), half(BUYER, (AA_DUAL_LINK, MARK), content_type=CT_DUAL_SIGNATURE)
    )
    with refused("wrong_content_type"):
        read(der)


def test_what_is_no_der_is_refused() -> None:
    der = join(half(SHOP), half(BUYER, (AA_DUAL_LINK, MARK)))
    for hostile in (b"", b"\x30\x00", der + b"\x00", der[:-1]):
        with pytest.raises(CmsError):
            read(hostile)


def test_the_reader_of_one_signer_reads_neither_two_nor_the_mark() -> None:
    with refused("signer_count"):
        parse_signed_data(join(half(SHOP), half(BUYER, (AA_DUAL_LINK, MARK))), content_type=CT_INVOICE)
    with refused("bad_attributes"):
        parse_signed_data(half(BUYER, (AA_DUAL_LINK, MARK)), content_type=CT_INVOICE)
    with refused("bad_attributes"):
        parse_signed_data(half(BUYER), content_type=CT_INVOICE, further=AA_DUAL_LINK)
