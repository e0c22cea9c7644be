"""Orders are opened in the token, after everything that can be checked before, and fail in one way afterwards."""

from __future__ import annotations

import logging
import os
import subprocess
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from gateway_keys import zone_keys
from gateway_keys.errors import BlobError, DecodingFailedError, OrderRefusedError
from gateway_keys.opened import OpenedOrder
from gateway_keys.orders import card_id, card_key_check, message_mac, open_order, unseal_pan, verify_order
from hsm_service.errors import WeakKey
from hsm_service.keys import Usage
from kwbp import fields
from kwbp.codes import SaleKind
from kwbp.money import Money
from pki.cms_enveloped import SealingSuite, seal
from pki.oids import CT_INVOICE
from pki.path import Trust
from runtime.settings import Home
from shetab import mac, pin_block
from shetab.pin_block import PinBlockFormat
from shetab.types import Expiry, Pin
from shetab.zone_keys import combine
from tests.gateway_keys.conftest import Gateway
from tests.support.pki_factory import NOW, PkiFactory
from tests.support.sealed_orders import BuyersCard, OrderMaker, SealedOrder
from tests.support.steps import done


def open_it(
    gateway: Gateway,
    order: SealedOrder,
    *,
    trust: Trust | None = None,
    accepts_bin: Callable[[str], bool] = lambda _bin: True,
) -> OpenedOrder:
    verified = verify_order(
        order.pi_envelope,
        order.dual_signature,
        order.hod,
        gateway=gateway.certificate,
        trust=trust or gateway.trust,
        now=NOW,
    )
    return done(open_order(verified, keys=gateway.keys, now=NOW, accepts_bin=accepts_bin))


@pytest.fixture(scope="module")
def card() -> BuyersCard:
    return BuyersCard.issue()


def zone_key(home: Home, which: zone_keys.ZoneKey) -> bytes:
    return combine([each.reveal() for each in zone_keys.read_components(home.secrets, which)])


# -- what is opened ----------------------------------------------------------------------------------------------------


def test_an_order_sealed_by_our_library_is_opened(gateway: Gateway, card: BuyersCard) -> None:
    order = open_it(gateway, gateway.orders.order(card))
    assert (order.pan, order.expiry, order.cvv2) == (card.pan, card.expiry, card.cvv2)
    assert order.masked_pan == card.pan.masked


@pytest.mark.parametrize("options", [(), ("-keyopt", "rsa_oaep_md:sha1")], ids=["OAEP by default", "SHA-1 named"])
def test_an_order_sealed_by_openssl_is_opened(
    gateway: Gateway, card: BuyersCard, tmp_path: Path, options: tuple[str, ...]
) -> None:
    def seal_with_openssl(plaintext: bytes, recipient: x509.Certificate) -> bytes:
        (tmp_path / "pi.der").write_bytes(plaintext)
        (tmp_path / "gateway.pem").write_bytes(recipient.public_bytes(Encoding.PEM))
        command = ["openssl", "cms", "-encrypt", "-binary", "-aes-256-gcm", "-in", "pi.der", "-recip", "gateway.pem"]
        command += ["-keyopt", "rsa_padding_mode:oaep", *options, "-outform", "DER", "-out", "pi.p7m"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        return (tmp_path / "pi.p7m").read_bytes()

    maker = OrderMaker(gateway.pki, gateway.certificate, seal_with_openssl)
    assert open_it(gateway, maker.order(card)).pan == card.pan


def test_a_card_without_pin_and_cvv2_is_opened(gateway: Gateway) -> None:
    order = open_it(gateway, gateway.orders.order(BuyersCard.issue(pin2=None, cvv2=None)))
    assert (order.pin_block, order.cvv2) == (None, None)


def test_the_pin_comes_out_as_a_block_that_the_zone_key_opens(gateway: Gateway, home: Home, card: BuyersCard) -> None:
    block = open_it(gateway, gateway.orders.order(card)).pin_block
    assert block is not None
    clear = pin_block.decrypt(block, zone_key(home, zone_keys.ZONE_PIN))
    assert pin_block.parse(clear, card.pan, allowed=frozenset({PinBlockFormat.FORMAT_3})) == card.pin2


def test_openssl_decrypts_the_pin_block_to_format_3(gateway: Gateway, home: Home, card: BuyersCard) -> None:
    """ISO 9564-1 9.3.5, computed here by hand: 3, length, PIN, random A to F, XOR 0000 and 12 digits of the PAN."""
    block = open_it(gateway, gateway.orders.order(card)).pin_block
    assert block is not None
    key = zone_key(home, zone_keys.ZONE_PIN).hex()
    command = ["openssl", "enc", "-d", "-des-ede", "-nopad", "-K", key]
    clear = subprocess.run(command, input=block, check=True, capture_output=True).stdout
    account = bytes.fromhex("0000" + card.pan.reveal()[-13:-1])
    field = bytes(a ^ b for a, b in zip(clear, account, strict=True)).hex().upper()
    assert field.startswith("36736152")
    assert set(field.removeprefix("36736152")) <= set("ABCDEF")


def test_the_same_pin_never_gives_the_same_block(gateway: Gateway, card: BuyersCard) -> None:
    blocks = {open_it(gateway, gateway.orders.order(card)).pin_block for _ in range(4)}
    assert len(blocks) == 4


def test_the_pan_is_unsealed_for_its_own_order_only(gateway: Gateway, card: BuyersCard) -> None:
    sealed_order = gateway.orders.order(card)
    blob = open_it(gateway, sealed_order).pan_sealed
    token, vault = gateway.keys.token, gateway.keys.vault
    assert card.pan.reveal().encode() not in blob
    assert done(unseal_pan(token, vault, sealed_order.xid, blob)) == card.pan
    for xid, wrong in ((os.urandom(20), blob), (sealed_order.xid, blob[:-1]), (sealed_order.xid, b"")):
        with pytest.raises(BlobError) as refusal:
            done(unseal_pan(token, vault, xid, wrong))
        assert refusal.value.__context__ is None


def test_a_card_is_known_by_a_digest_whose_key_never_was_outside_the_token(gateway: Gateway, card: BuyersCard) -> None:
    token, cards = gateway.keys.token, gateway.keys.cards
    other = BuyersCard.issue("603799123456790")
    ids = [open_it(gateway, gateway.orders.order(each)).card_id for each in (card, BuyersCard.issue(), other)]
    assert ids[0] == ids[1] != ids[2]
    assert len(ids[0]) == 16
    said = token.attributes(cards)
    assert (said.local, said.never_extractable, said.usages) == (True, True, frozenset({"sign"}))
    stranger = token.generate_aes("other-cards", usage=Usage.DIGEST)
    assert done(card_id(token, stranger, card.pan)) != ids[0]
    assert done(card_key_check(token, cards)) != done(card_key_check(token, stranger))
    with pytest.raises(WeakKey):  # a key that was brought in is none of these, although it could do the same
        token.keyed_digest(gateway.zone_mac, b"")


def test_a_sealed_value_that_is_no_pan_is_refused_without_showing_it(gateway: Gateway) -> None:
    token, vault, xid = gateway.keys.token, gateway.keys.vault, os.urandom(20)
    for content in (b"6037991234567891", b"\xff" * 16):
        blob = token.aes_gcm_encrypt(vault, content, b"kwbp-pan-v1" + xid)
        with pytest.raises(BlobError) as refusal:
            done(unseal_pan(token, vault, xid, blob))
        assert refusal.value.__context__ is None


def test_the_mac_is_that_of_the_other_end_of_the_zone(gateway: Gateway, home: Home) -> None:
    data = b"0200B238000000C0000000..."
    found = done(message_mac(gateway.keys.token, gateway.zone_mac, data))
    assert found == mac.message_mac(zone_key(home, zone_keys.ZONE_MAC), data)
    assert len(found) == 8


# -- what is refused while it is still sealed --------------------------------------------------------------------------

Twin = Callable[[Gateway, BuyersCard], SealedOrder]


def honest(gateway: Gateway, card: BuyersCard) -> SealedOrder:
    return gateway.orders.order(card)


def flip(value: bytes, position: int) -> bytes:
    changed = bytearray(value)
    changed[position] ^= 1
    return bytes(changed)


def with_dual(**changes: object) -> Twin:
    return lambda gateway, card: gateway.orders.order(card, dual=changes)


def with_signature(change: Callable[[bytes], bytes]) -> Twin:
    def make(gateway: Gateway, card: BuyersCard) -> SealedOrder:
        order = honest(gateway, card)
        return SealedOrder(order.pi_envelope, change(order.dual_signature), order.hod, order.xid)

    return make


def with_envelope(change: Callable[[bytes], bytes]) -> Twin:
    def make(gateway: Gateway, card: BuyersCard) -> SealedOrder:
        order = honest(gateway, card)
        return SealedOrder(change(order.pi_envelope), order.dual_signature, order.hod, order.xid)

    return make


def signed_as_an_invoice(gateway: Gateway, card: BuyersCard) -> SealedOrder:
    order = honest(gateway, card)
    signature = gateway.orders.cardholder(card).sign(CT_INVOICE, b"\x30\x00", signing_time=NOW)
    return SealedOrder(order.pi_envelope, signature, order.hod, order.xid)


def signed_by_a_stranger(gateway: Gateway, card: BuyersCard) -> SealedOrder:
    return gateway.orders.order(card, signer=PkiFactory().cardholder(card.commitment))


def signed_by_a_merchant(gateway: Gateway, card: BuyersCard) -> SealedOrder:
    return gateway.orders.order(card, signer=gateway.pki.merchant())


def signed_with_an_expired_certificate(gateway: Gateway, card: BuyersCard) -> SealedOrder:
    signer = gateway.orders.cardholder(card, not_before=NOW - timedelta(days=9), not_after=NOW - timedelta(days=1))
    return gateway.orders.order(card, signer=signer)


def signed_in_the_future(gateway: Gateway, card: BuyersCard) -> SealedOrder:
    return gateway.orders.order(card, now=NOW + timedelta(hours=1))


def sealed_again_by_somebody_else(gateway: Gateway, card: BuyersCard) -> SealedOrder:
    order = honest(gateway, card)
    return SealedOrder(honest(gateway, card).pi_envelope, order.dual_signature, order.hod, order.xid)


def sealed_to_another_gateway(gateway: Gateway, card: BuyersCard) -> SealedOrder:
    other = gateway.pki.gateway_encryption().certificate
    return gateway.orders.order(
        card, envelope=lambda _der: seal(b"card data", other, SealingSuite.OAEP_SHA1, rng=os.urandom)
    )


def sealed_with_a_suite_that_the_certificate_does_not_name(gateway: Gateway, card: BuyersCard) -> SealedOrder:
    def seal_sha256(plaintext: bytes, recipient: x509.Certificate) -> bytes:
        return seal(plaintext, recipient, SealingSuite.OAEP_SHA256, rng=os.urandom)

    return OrderMaker(gateway.pki, gateway.certificate, seal_sha256).order(card)


def sealed_as_cbc_enveloped_data(gateway: Gateway, card: BuyersCard) -> SealedOrder:
    pem = gateway.certificate.public_bytes(Encoding.PEM)
    command = ["openssl", "cms", "-encrypt", "-binary", "-aes-256-cbc", "-outform", "DER"]
    command += ["-recip", "/dev/stdin", "-in", "/dev/null", "-keyopt", "rsa_padding_mode:oaep"]
    der = subprocess.run(command, input=pem, check=True, capture_output=True).stdout
    return gateway.orders.order(card, envelope=lambda _der: der)


def sealed_by_pkcs1_v15(gateway: Gateway, card: BuyersCard) -> SealedOrder:
    pem = gateway.certificate.public_bytes(Encoding.PEM)
    command = ["openssl", "cms", "-encrypt", "-binary", "-aes-256-gcm", "-outform", "DER"]
    command += ["-recip", "/dev/stdin", "-in", "/dev/null"]
    der = subprocess.run(command, input=pem, check=True, capture_output=True).stdout
    return gateway.orders.order(card, envelope=lambda _der: der)


REFUSED_SEALED: dict[str, tuple[Twin, str]] = {
    "signature of other content": (signed_as_an_invoice, "K4"),
    "last byte of the signature flipped": (with_signature(lambda der: flip(der, -1)), "G6"),
    "signature cut off": (with_signature(lambda der: der[:-1]), "K4"),
    "byte after the signature": (with_signature(lambda der: der + b"\x00"), "K4"),
    "empty signature": (with_signature(lambda _der: b""), "K4"),
    "unknown root": (signed_by_a_stranger, "G6"),
    "merchant instead of cardholder": (signed_by_a_merchant, "G6"),
    "expired certificate": (signed_with_an_expired_certificate, "G6"),
    "signed in the future": (signed_in_the_future, "K7"),
    "order expired": (with_dual(not_after=fields.to_time(NOW - timedelta(seconds=1))), "G7"),
    "other gateway certificate": (with_dual(gw_cert_hash=bytes(32)), "G7"),
    "other gateway id": (with_dual(gw_id="GW-2"), "G7"),
    "hash of another envelope": (with_dual(h_pi_envelope=bytes(32)), "G7"),
    "other envelope": (sealed_again_by_somebody_else, "G7"),
    "other recipient": (sealed_to_another_gateway, "G7"),
    "suite not in the certificate": (sealed_with_a_suite_that_the_certificate_does_not_name, "G7"),
    "CBC EnvelopedData": (sealed_as_cbc_enveloped_data, "K4"),
    "PKCS#1 v1.5 key transport": (sealed_by_pkcs1_v15, "K4"),
    "envelope cut off": (with_envelope(lambda der: der[:-1]), "K4"),
    "byte after the envelope": (with_envelope(lambda der: der + b"\x00"), "K4"),
    "last byte of the envelope flipped": (with_envelope(lambda der: flip(der, -1)), "G7"),
}


@pytest.mark.parametrize("twin", REFUSED_SEALED)
def test_the_gateway_opens_nothing_while_a_signature_or_binding_is_bad(
    gateway: Gateway, card: BuyersCard, twin: str
) -> None:
    make, check = REFUSED_SEALED[twin]
    order = make(gateway, card)
    before = gateway.uses()
    with pytest.raises(OrderRefusedError) as refusal:
        open_it(gateway, order)
    assert gateway.uses() == before
    assert refusal.value.check == check


def test_an_honest_order_uses_each_of_three_keys_once(gateway: Gateway, card: BuyersCard) -> None:
    order = gateway.orders.order(card)
    keys, token = gateway.keys, gateway.keys.token
    before = [token.uses(ref) for ref in (keys.encryption, keys.zone_pin, keys.vault)]
    open_it(gateway, order)
    after = [token.uses(ref) for ref in (keys.encryption, keys.zone_pin, keys.vault)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]


def test_a_path_that_ends_at_another_root_is_not_believed(gateway: Gateway, card: BuyersCard) -> None:
    stranger = Trust(anchors=(PkiFactory().root.certificate,))
    before = gateway.uses()
    with pytest.raises(OrderRefusedError):
        open_it(gateway, gateway.orders.order(card), trust=stranger)
    assert gateway.uses() == before


# -- what is refused once it is open -----------------------------------------------------------------------------------


def tampered(position: int) -> Twin:
    """One byte of ciphertext or tag is wrong, and the buyer signed the hash of exactly this envelope."""
    return lambda gateway, card: gateway.orders.order(card, envelope=lambda der: flip(der, position))


def wrapped_wrong(gateway: Gateway, card: BuyersCard) -> SealedOrder:
    """The encrypted key is a random number below the modulus: OAEP decoding fails."""
    certificate = gateway.certificate
    public = certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    good = public.encrypt(os.urandom(32), padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))

    def replace_key(der: bytes) -> bytes:
        start = der.index(b"\x04\x82\x01\x80") + 4
        return der[:start] + good + der[start + 384 :]

    return gateway.orders.order(card, envelope=replace_key)


REFUSED_OPEN: dict[str, Twin] = {
    "tag": tampered(-1),
    "ciphertext": tampered(-40),
    "wrapped key": wrapped_wrong,
    "not DER": lambda gateway, card: gateway.orders.order(card, plaintext=b"not a PISealed"),
    "empty": lambda gateway, card: gateway.orders.order(card, plaintext=b""),
    "hash of PIData": with_dual(h_pi_data=bytes(32)),
    "hash of OIData": lambda gateway, card: gateway.orders.order(card, sealed={"h_oi_data": bytes(32)}),
    "amount": lambda gateway, card: gateway.orders.order(card, head={"amount": Money.rial(1_250_001)}),
    "XID": lambda gateway, card: gateway.orders.order(card, head={"xid": os.urandom(20)}),
    "merchant": lambda gateway, card: gateway.orders.order(card, head={"merchant_id": "M-2"}),
    "gateway": lambda gateway, card: gateway.orders.order(card, head={"gw_id": "GW-2"}),
    "order description": lambda gateway, card: gateway.orders.order(card, head={"hod": bytes(32)}),
    "kind of sale": lambda gateway, card: gateway.orders.order(card, head={"sale_kind": SaleKind.AUTH_ONLY}),
    "commitment to another card": lambda gateway, card: gateway.orders.order(
        card, signer=gateway.orders.cardholder(BuyersCard.issue("603799999999999"))
    ),
    "secret of another card": lambda gateway, card: gateway.orders.order(card, pan_data={"pan_secret": os.urandom(32)}),
    "constant secret": lambda gateway, card: gateway.orders.order(card, pan_data={"pan_secret": bytes(32)}),
    "check digit": lambda gateway, card: gateway.orders.order(card, pan_data={"pan": "6037991234567891"}),
    "expiry": lambda gateway, card: gateway.orders.order(card, pan_data={"expiry": "0713"}),
    "PIN with letters": lambda gateway, card: gateway.orders.order(card, pan_data={"pin2": "73615a"}),
    "short CVV2": lambda gateway, card: gateway.orders.order(card, pan_data={"cvv2": "1"}),
    "expired card": lambda gateway, card: gateway.orders.order(BuyersCard(card.pan, Expiry("0401"))),
}


def refusal_of(
    gateway: Gateway, order: SealedOrder, accepts_bin: Callable[[str], bool] = lambda _bin: True
) -> DecodingFailedError:
    with pytest.raises(DecodingFailedError) as refusal:
        open_it(gateway, order, accepts_bin=accepts_bin)
    return refusal.value


@pytest.mark.parametrize("twin", REFUSED_OPEN)
def test_after_opening_every_failure_is_the_same(gateway: Gateway, card: BuyersCard, twin: str) -> None:
    order = REFUSED_OPEN[twin](gateway, card)
    pin_blocks = gateway.keys.token.uses(gateway.keys.zone_pin)
    error = refusal_of(gateway, order)
    assert str(error) == "the sealed data could not be opened"
    assert (error.__cause__, error.__context__) == (None, None)
    assert gateway.keys.token.uses(gateway.keys.zone_pin) == pin_blocks


def test_an_issuer_that_is_not_served_fails_the_same_way(gateway: Gateway, card: BuyersCard) -> None:
    asked: list[str] = []

    def none(prefix: str) -> bool:
        asked.append(prefix)
        return False

    assert str(refusal_of(gateway, gateway.orders.order(card), accepts_bin=none)) == (
        "the sealed data could not be opened"
    )
    assert asked == [card.pan.bin]


def test_the_cause_is_kept_for_the_journal_without_card_data(gateway: Gateway, card: BuyersCard) -> None:
    causes = {twin: refusal_of(gateway, make(gateway, card)).cause for twin, make in REFUSED_OPEN.items()}
    assert causes["tag"] == causes["wrapped key"] == "G8 decodingFailure"
    assert causes["amount"].startswith("G9 ")
    assert causes["secret of another card"].startswith("G10 ")
    assert not [cause for cause in causes.values() if any(character.isdigit() for character in cause[3:])]


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_the_pin_is_in_no_answer_error_or_log(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    card = BuyersCard.issue(pin2=Pin("846192735"))
    canaries = ("846192735", card.pan.reveal())
    caplog.set_level(logging.DEBUG)
    answer = open_it(gateway, gateway.orders.order(card))
    assert not any(canary in repr(answer) for canary in canaries)
    assert not any(isinstance(getattr(answer, field), Pin) for field in OpenedOrder.__dataclass_fields__)
    blobs = (answer.pin_block or b"") + answer.pan_sealed
    assert not any(canary.encode() in blobs for canary in canaries)
    for make in (*REFUSED_OPEN.values(), *(make for make, _check in REFUSED_SEALED.values())):
        with pytest.raises((DecodingFailedError, OrderRefusedError)) as refusal:
            open_it(gateway, make(gateway, card))
        text = "".join(traceback.format_exception(refusal.value)) + repr(refusal.value) + repr(vars(refusal.value))
        assert not any(canary in text for canary in canaries)
    captured = capfd.readouterr()
    everything = caplog.text + captured.out + captured.err
    assert not any(canary in everything for canary in canaries)
