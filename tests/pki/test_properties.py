"""What must hold for every input, not only for the ones we thought of."""

from __future__ import annotations

from typing import Final

import pytest
from cryptography import x509
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pki import oids
from pki.algorithms import SealingSuite
from pki.cms_enveloped import parse_auth_enveloped, seal
from pki.cms_signed import SignedData, parse_signed_data, verify_signature
from pki.csr import parse_csr
from pki.errors import UNREADABLE, CmsError, CsrError, PathError, PkiError
from pki.path import Trust, validate_path
from pki.roles import Role
from tests.support.der_surgery import indefinite, length, long_length, parse
from tests.support.pki_factory import CONTENT, NOW, Credential, PkiFactory

pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")

PKI: Final = PkiFactory()
SHOP: Final = PKI.merchant()
TRUST: Final = Trust(anchors=(PKI.root.certificate,), crls=PKI.trust().crls)
"""Without intermediates, so that every certificate in the message matters."""
HONEST: Final = SHOP.sign(oids.CT_INVOICE, CONTENT)


def believed(der: bytes) -> SignedData | None:
    """What a party believes was signed: parse, signature, path. None if it was refused, as it may only be refused."""
    try:
        signed = parse_signed_data(der, content_type=oids.CT_INVOICE)
        verify_signature(signed)
        validate_path(signed.signer, signed.certificates, trust=TRUST, now=NOW, roles=[Role.MERCHANT])
    except (CmsError, PathError):
        return None
    return signed


def test_the_honest_object_is_believed() -> None:
    signed = believed(HONEST)
    assert signed is not None
    assert signed.content == CONTENT


@settings(max_examples=2_000, deadline=None)
@given(st.integers(0, len(HONEST) - 1), st.integers(1, 255))
@example(0, 1)
@example(len(HONEST) - 1, 255)
def test_no_flip_of_one_byte_is_believed(position: int, mask: int) -> None:
    flipped = bytearray(HONEST)
    flipped[position] ^= mask
    assert believed(bytes(flipped)) is None


@pytest.mark.slow
@pytest.mark.parametrize("bit", range(8))
def test_no_flip_of_one_bit_anywhere_is_believed(bit: int) -> None:
    """Every position, so that the property does not rest on luck."""
    for position in range(len(HONEST)):
        flipped = bytearray(HONEST)
        flipped[position] ^= 1 << bit
        assert believed(bytes(flipped)) is None, position


@settings(max_examples=500, deadline=None)
@given(st.integers(0, len(HONEST) - 1), st.binary(min_size=1, max_size=4))
def test_no_insertion_is_believed(position: int, inserted: bytes) -> None:
    assert believed(HONEST[:position] + inserted + HONEST[position:]) is None


@settings(max_examples=500, deadline=None)
@given(st.integers(0, len(HONEST) - 1), st.integers(1, 64))
def test_no_deletion_is_believed(position: int, size: int) -> None:
    assert believed(HONEST[:position] + HONEST[position + size :]) is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
@example(b"")
@example(b"\x30\x80\x00\x00")
@example(b"\x30\x84\xff\xff\xff\xff")
def test_noise_is_refused_by_every_parser_and_never_crashes_one(noise: bytes) -> None:
    with pytest.raises(CmsError):
        parse_signed_data(noise, content_type=oids.CT_INVOICE)
    with pytest.raises(CmsError):
        parse_auth_enveloped(noise)
    with pytest.raises(CsrError):
        parse_csr(noise)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_an_element_respelt_in_ber_is_refused_wherever_it_stands(data: st.DataObject) -> None:
    """Walk down to some element, write its length the BER way, and close everything above in proper DER."""
    tree = parse(HONEST)
    node, path = tree, [tree]
    for deeper in data.draw(st.lists(st.integers(0, 20), max_size=9)):
        if node.children:
            node = node.children[deeper % len(node.children)]
            path.append(node)
    respell = data.draw(st.sampled_from([indefinite, long_length] if node.children else [long_length]))
    respelt = respell(node.encode())
    for above, below in zip(reversed(path[:-1]), reversed(path[1:]), strict=True):
        body = b"".join(respelt if child is below else child.encode() for child in above.children)
        respelt = bytes((above.tag,)) + length(len(body)) + body
    assert respelt != HONEST
    assert believed(respelt) is None


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=2_000))
def test_whatever_is_signed_is_read_back(content: bytes) -> None:
    signed = believed(SHOP.sign(oids.CT_INVOICE, content))
    assert signed is not None
    assert signed.content == content


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10_000), mask=st.integers(1, 255))
def test_a_sealed_object_with_one_byte_flipped_is_refused_or_says_so(
    gateway: Credential, position: int, mask: int
) -> None:
    """The parser holds no key; whatever it lets through differs in a member that the hash or the tag binds."""
    honest = seal(CONTENT, gateway.certificate, SealingSuite.OAEP_SHA256, rng=bytes)
    flipped = bytearray(honest)
    flipped[position % len(honest)] ^= mask
    try:
        sealed = parse_auth_enveloped(bytes(flipped))
    except PkiError:
        return
    assert sealed.der == bytes(flipped)
    assert sealed.digest != parse_auth_enveloped(honest).digest


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SHOP.der) - 1), st.integers(1, 255))
def test_no_certificate_with_one_byte_flipped_has_a_path(position: int, mask: int) -> None:
    flipped = bytearray(SHOP.der)
    flipped[position] ^= mask
    try:
        certificate = x509.load_der_x509_certificate(bytes(flipped))
    except UNREADABLE:
        return
    with pytest.raises(PathError):
        validate_path(certificate, SHOP.chain, trust=TRUST, now=NOW, roles=list(Role))
