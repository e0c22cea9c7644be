"""The common prefix: K4 to K7, by every way in which a signed object can be unfit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from kwbp.codes import ErrorCode
from kwbp.common import (
    Received,
    check_answer,
    check_live,
    read_envelope,
    read_signed,
    verify_path,
    verify_signature,
    verify_signer,
)
from kwbp.errors import ProtocolError
from kwbp.fields import to_time
from kwbp.messages import AuthAckTBS, InvoiceTBS
from kwbp.structure import SIZE_LIMIT
from pki.crl import CrlSet
from pki.oids import CT_AUTH_ACK, CT_INVOICE
from pki.path import Trust
from pki.roles import Role
from tests.kwbp.forge import refused
from tests.kwbp.world import Purchase, World, site
from tests.support.der_surgery import Node, indefinite, long_length, parse
from tests.support.pki_factory import PkiFactory, rsa_key

SECOND = timedelta(seconds=1)


def _read(data: bytes) -> Received[AuthAckTBS]:
    return read_signed(AuthAckTBS, CT_AUTH_ACK, data)


# K4: structure


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda data: b"", ErrorCode.DECODING_FAILURE),
        (lambda data: data[:-1], ErrorCode.DECODING_FAILURE),
        (lambda data: data + b"\x00", ErrorCode.DECODING_FAILURE),
        (long_length, ErrorCode.DECODING_FAILURE),
        (indefinite, ErrorCode.DECODING_FAILURE),
    ],
    ids=["nothing", "truncated", "trailing byte", "long length (BER)", "indefinite length (BER)"],
)
def test_k4_encoding(purchase: Purchase, make: Any, code: ErrorCode) -> None:
    with refused(code, "K4"):
        _read(make(purchase.auth_ack_signed))


def test_k4_envelope_encoding(purchase: Purchase) -> None:
    for hostile in (purchase.order.pi_envelope[:-1], long_length(purchase.order.pi_envelope), b"\x30\x00"):
        with refused(ErrorCode.DECODING_FAILURE, "K4"):
            read_envelope(hostile)


@pytest.mark.parametrize("read", [_read, read_envelope])
def test_k1_object_above_the_limit(read: Any) -> None:
    with refused(ErrorCode.MESSAGE_TOO_BIG, "K1"):
        read(bytes(SIZE_LIMIT + 1))


def test_k4_other_content_type(purchase: Purchase) -> None:
    with refused(ErrorCode.MESSAGE_NOT_SUPPORTED, "K4"):
        read_signed(InvoiceTBS, CT_INVOICE, purchase.auth_ack_signed)


def test_k1_content_of_another_structure(world: World, purchase: Purchase) -> None:
    data = world.shop.sign(CT_AUTH_ACK, purchase.invoice.invoice.content)
    with refused(ErrorCode.DECODING_FAILURE, "K1"):
        _read(data)


def _signed_data(data: bytes) -> tuple[Node, Node]:
    tree = parse(data)
    return tree, tree.at(1, 0)


def test_k4_signature_without_signed_attributes(purchase: Purchase) -> None:
    tree, signed = _signed_data(purchase.auth_ack_signed)
    signer_info = signed.children[-1].children[0]
    signer_info.children = [child for child in signer_info.children if child.tag != 0xA0]
    with refused(ErrorCode.DECODING_FAILURE, "K4"):
        _read(tree.encode())


def test_k4_signer_certificate_left_out(world: World, purchase: Purchase) -> None:
    tree, signed = _signed_data(purchase.auth_ack_signed)
    certificates = next(child for child in signed.children if child.tag == 0xA0 and len(child.children) > 1)
    certificates.children = [c for c in certificates.children if c.encode() != world.shop.der]
    with refused(ErrorCode.MISSING_CERTIFICATE, "K4") as _:
        _read(tree.encode())


def test_k4_certificate_of_an_unknown_version(world: World, purchase: Purchase) -> None:
    tree, signed = _signed_data(purchase.auth_ack_signed)
    certificates = next(child for child in signed.children if child.tag == 0xA0 and len(child.children) > 1)
    certificates.at(0, 0, 0, 0).content = b"\x07"
    with pytest.raises(ProtocolError) as caught:
        _read(tree.encode())
    assert caught.value.check == "K4"


# K5: path


def _path(world: World, leaf: x509.Certificate, role: Role = Role.MERCHANT, **changes: Any) -> Any:
    arguments: dict[str, Any] = {"trust": world.trust, "now": world.now}
    return verify_path(leaf, (), role=role, **(arguments | changes))


def test_k5_path_ends_at_the_pinned_root(world: World) -> None:
    assert _path(world, world.shop.certificate).root == world.pki.root.certificate


def test_k5_foreign_root(world: World) -> None:
    with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
        _path(world, PkiFactory().merchant().certificate)


def test_k5_expired(world: World) -> None:
    with refused(ErrorCode.EXPIRED_CERTIFICATE, "K5"):
        _path(world, world.pki.merchant(not_after=world.now - SECOND).certificate)


def test_k5_not_yet_valid(world: World) -> None:
    with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
        _path(world, world.pki.merchant(not_before=world.now + SECOND).certificate)


def test_k5_other_role(world: World) -> None:
    with refused(ErrorCode.ROLE_NOT_ALLOWED, "K5"):
        _path(world, world.shop.certificate, Role.CARDHOLDER)


def test_k5_critical_extension_that_nobody_knows(world: World) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    certificate = world.pki.merchant("M-1", replace=site("M-1") | {"unknown": (unknown, True)}).certificate
    with refused(ErrorCode.UNRECOGNIZED_EXTENSION, "K5"):
        _path(world, certificate)


def test_k5_weak_key(world: World) -> None:
    with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
        _path(world, world.pki.merchant(key=rsa_key(0, bits=2048)).certificate)


def test_k5_revoked() -> None:
    world = World(PkiFactory())
    world.pki.revoke(world.shop)
    with refused(ErrorCode.REVOKED_CERTIFICATE, "K5"):
        _path(world, world.shop.certificate, trust=world.pki.trust())


@pytest.mark.parametrize("missing", range(6))
def test_k5_any_crl_of_the_path_missing_is_a_refusal(world: World, missing: int) -> None:
    crls = world.pki.crls()
    trust = Trust(
        anchors=world.trust.anchors,
        intermediates=world.trust.intermediates,
        crls=CrlSet(crls[:missing] + crls[missing + 1 :]),
    )
    on_the_path = world.pki.authorities[missing].role in (Role.ROOT, Role.BRAND, Role.MERCHANT_CA)
    if on_the_path:
        with refused(ErrorCode.BCI_STALE, "K5"):
            _path(world, world.shop.certificate, trust=trust)
    else:
        assert _path(world, world.shop.certificate, trust=trust)


@pytest.mark.parametrize("days", [-2, 3])
def test_k5_crl_of_another_time(world: World, days: int) -> None:
    certificate = world.pki.merchant(not_before=world.now - timedelta(days=10)).certificate
    crls = world.pki.crls(world.now - timedelta(days=days))
    trust = Trust(anchors=world.trust.anchors, intermediates=world.trust.intermediates, crls=CrlSet(crls))
    with refused(ErrorCode.BCI_STALE, "K5"):
        _path(world, certificate, trust=trust)


# K6: signature


def test_k6_content_changed_after_signing(world: World, purchase: Purchase) -> None:
    tree, signed = _signed_data(purchase.auth_ack_signed)
    content = signed.children[2].at(1, 0)
    body = bytearray(content.content)
    body[10] ^= 1  # inside the RRPID
    content.content = bytes(body)
    received = _read(tree.encode())
    with refused(ErrorCode.SIGNATURE_FAILURE, "K6"):
        verify_signature(received)


def test_k5_and_k6_of_an_honest_object(world: World, purchase: Purchase) -> None:
    path = verify_signer(_read(purchase.auth_ack_signed), role=Role.MERCHANT, trust=world.trust, now=world.now)
    assert path.leaf == world.shop.certificate


# K7: time


@pytest.mark.parametrize("seconds", [-120, -1, 0, 1, 120])
def test_k7_inside_the_window(world: World, purchase: Purchase, seconds: int) -> None:
    received = _read(purchase.auth_ack_signed)
    check_live(received, received.body.date, now=world.now + seconds * SECOND)


@pytest.mark.parametrize(("seconds", "code"), [(121, ErrorCode.MESSAGE_TOO_OLD), (-121, ErrorCode.MESSAGE_TOO_NEW)])
def test_k7_outside_the_window_with_a_hint(world: World, purchase: Purchase, seconds: int, code: ErrorCode) -> None:
    received = _read(purchase.auth_ack_signed)
    now = world.now + seconds * SECOND
    with refused(code, "K7"):
        check_live(received, received.body.date, now=now)
    with pytest.raises(ProtocolError) as caught:
        check_live(received, received.body.date, now=now)
    assert caught.value.time_hint == now


@pytest.mark.parametrize("seconds", [-121, 121])
def test_k7_date_and_signing_time_disagree(world: World, purchase: Purchase, seconds: int) -> None:
    received = _read(purchase.auth_ack_signed)
    with refused(ErrorCode.CLOCK_SKEW, "K7"):
        check_live(received, to_time(world.now + seconds * SECOND), now=world.now)


def test_k7_answer_may_be_old_but_not_older_than_the_question(world: World, purchase: Purchase) -> None:
    received = _read(purchase.auth_ack_signed)
    late = world.now + timedelta(days=30)
    check_answer(received, received.body.date, asked=world.now + 120 * SECOND, now=late)
    with refused(ErrorCode.MESSAGE_TOO_OLD, "K7"):
        check_answer(received, received.body.date, asked=world.now + 121 * SECOND, now=late)
    with refused(ErrorCode.MESSAGE_TOO_NEW, "K7"):
        check_answer(received, received.body.date, asked=world.now, now=world.now - 121 * SECOND)
