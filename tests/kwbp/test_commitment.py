"""Card commitment: recomputed independently, and no oracle for card numbers (threats 11 and 12)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import random

import pytest

from kwbp.commitment import commitment_cn, pan_secret, trans_stain
from kwbp.errors import CommitmentError
from shetab.types import Expiry, Pan, luhn_check_digit
from tests.kwbp.world import BIN, EXPIRY, PAN, Purchase
from tests.support.judges import openssl

SECRET = bytes(range(32))
NONCE = bytes(range(32, 64))
KEY_ID = bytes(range(20))


def _hmac_by_openssl(key: bytes, data: bytes) -> bytes:
    return openssl("dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}", "-binary", stdin=data)


def test_pan_secret_as_openssl_computes_it() -> None:
    assert pan_secret(SECRET, NONCE, KEY_ID) == _hmac_by_openssl(SECRET, b"KWBP-PANSecret-v1" + NONCE + KEY_ID)


def test_commitment_as_openssl_computes_it() -> None:
    digest = _hmac_by_openssl(SECRET, (PAN + EXPIRY).encode())
    assert commitment_cn(SECRET, Pan(PAN), Expiry(EXPIRY)) == base64.urlsafe_b64encode(digest).decode().rstrip("=")


def test_stain_as_openssl_computes_it() -> None:
    xid, invoice_hash = bytes(20), bytes(32)
    assert trans_stain(SECRET, xid, invoice_hash) == _hmac_by_openssl(SECRET, b"KWBP-stain" + xid + invoice_hash)


def test_ca_cannot_force_a_secret_by_its_choice_of_nonce() -> None:
    assert pan_secret(SECRET, SECRET, KEY_ID) not in (bytes(32), SECRET)


@pytest.mark.parametrize(
    "secret", [b"", SECRET[:31], SECRET + b"\x00", bytes(32), b"\xff" * 32, b"ab" * 16], ids=lambda s: s.hex()[:8]
)
def test_secrets_that_protect_nothing(secret: bytes) -> None:
    with pytest.raises(CommitmentError):
        pan_secret(secret, NONCE, KEY_ID)
    with pytest.raises(CommitmentError):
        commitment_cn(secret, Pan(PAN), Expiry(EXPIRY))
    with pytest.raises(CommitmentError):
        trans_stain(secret, bytes(20), bytes(32))


@pytest.mark.parametrize(("nonce", "key_id"), [(NONCE[:31], KEY_ID), (NONCE, b"")])
def test_pan_secret_needs_nonce_and_key_id(nonce: bytes, key_id: bytes) -> None:
    with pytest.raises(CommitmentError):
        pan_secret(SECRET, nonce, key_id)


@pytest.mark.parametrize(("xid", "invoice_hash"), [(bytes(19), bytes(32)), (bytes(20), bytes(31))])
def test_stain_needs_whole_ids(xid: bytes, invoice_hash: bytes) -> None:
    with pytest.raises(CommitmentError):
        trans_stain(SECRET, xid, invoice_hash)


def test_error_does_not_show_the_secret() -> None:
    with pytest.raises(CommitmentError) as caught:
        pan_secret(b"\x07" * 32, NONCE, KEY_ID)
    assert "7, 7" not in repr(caught.value)
    assert "\\x07" not in repr(caught.value)


def _guesses() -> list[str]:
    """Card numbers of the BIN, the right one among them: what somebody who knows the bank would try."""
    generator = random.Random(7)
    payloads = [f"{BIN}{generator.randrange(10**9):09d}" for _ in range(300)] + [PAN[:-1]]
    return [payload + luhn_check_digit(payload) for payload in payloads]


def _tries(guess: str, public: bytes) -> list[bytes]:
    """Hashes that need no secret, over what an attacker knows."""
    plain = (guess + EXPIRY).encode()
    return [
        hashlib.sha256(plain).digest(),
        hashlib.sha256(guess.encode()).digest(),
        hmac.digest(bytes(32), plain, "sha256"),
        hmac.digest(public, plain, "sha256"),
    ]


def test_no_public_field_tells_a_card_number(purchase: Purchase) -> None:
    dual = purchase.order.dual_signature.body
    name = purchase.checked_purchase.card_certificate.subject.rfc4514_string()
    public = {dual.h_pi_data, dual.h_oi_data, dual.h_pi_envelope, purchase.card.trans_stain}
    for guess in _guesses():
        for digest in _tries(guess, dual.xid):
            assert digest not in public
            assert base64.urlsafe_b64encode(digest).decode().rstrip("=") not in name


def test_guessing_would_work_if_the_secret_were_zero() -> None:
    """Positive control: the harness above finds the card once the secret is known."""
    commitment = hmac.digest(bytes(32), (PAN + EXPIRY).encode(), "sha256")
    assert [guess for guess in _guesses() if commitment in _tries(guess, b"")] == [PAN]
