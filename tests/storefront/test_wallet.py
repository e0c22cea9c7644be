"""The wallet's cards: one key and one certificate each, all secrets inside one sealed file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from kwbp.commitment import commitment_cn
from runtime.secrets import Secret
from shetab.types import Expiry, Pan
from storefront.errors import NoSuchCard, WalletError
from storefront.wallet import wallet
from storefront.wallet.editor import Enrolment
from storefront.wallet.lockout import Tries
from storefront.wallet.wallet import FILE_NAME, Wallet
from tests.support.pki_factory import Credential, PkiFactory

pytestmark = pytest.mark.usefixtures("cheap_guesses")

PASSPHRASE = Secret(b"correct horse")
PAN, OTHER = Pan("6037701000000007"), Pan("6219861000000009")
EXPIRY = Expiry("0912")
NONCE, CA_KEY = bytes(range(32)), b"cardholder-ca-key-id"


class PublicOnly:
    def __init__(self, request: bytes) -> None:
        self._public: Any = x509.load_der_x509_csr(request).public_key()

    def public_key(self) -> Any:
        return self._public


@pytest.fixture(scope="module")
def pki() -> PkiFactory:
    return PkiFactory()


@pytest.fixture(scope="module")
def made(pki: PkiFactory, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A wallet file with one card that has no certificate yet."""
    folder = tmp_path_factory.mktemp("wallet")
    Wallet.create(folder, PASSPHRASE, root=pki.root.certificate)
    with wallet.editing(folder, PASSPHRASE) as editor:
        editor.add_card("mehr", PAN, EXPIRY, algorithm="ec-p256")
    return (folder / FILE_NAME).read_bytes()


@pytest.fixture
def folder(made: bytes, tmp_path: Path) -> Path:
    (tmp_path / FILE_NAME).write_bytes(made)
    Tries(tmp_path / FILE_NAME).begin()
    return tmp_path


def begin(folder: Path, *, application: str = "A-1", nonce: bytes = NONCE) -> Enrolment:
    with wallet.editing(folder, PASSPHRASE) as editor:
        return editor.begin_enrolment("mehr", application=application, nonce_cca=nonce, ca_key_id=CA_KEY)


def certified(pki: PkiFactory, enrolment: Enrolment, **changes: Any) -> Credential:
    key: Any = PublicOnly(enrolment.request)
    return pki.cardholder(changes.pop("commitment", enrolment.commitment), **{"key": key, **changes})


def finish(folder: Path, pki: PkiFactory, credential: Credential) -> None:
    with wallet.editing(folder, PASSPHRASE) as editor:
        editor.finish_enrolment("mehr", (credential.certificate, *credential.chain), now=pki.now)


def test_a_card_pays_once_it_has_a_certificate(folder: Path, pki: PkiFactory) -> None:
    with pytest.raises(WalletError, match="no certificate yet"):
        Wallet.open(folder, PASSPHRASE).card("mehr")
    enrolment = begin(folder)
    credential = certified(pki, enrolment)
    finish(folder, pki, credential)
    opened = Wallet.open(folder, PASSPHRASE)
    card = opened.card("mehr")
    assert card.certificate == credential.certificate
    assert card.chain == credential.chain
    assert commitment_cn(card.pan_secret, card.pan, card.expiry) == enrolment.commitment
    (summary,) = opened.cards()
    assert (summary.masked_pan, summary.serial) == (PAN.masked, credential.certificate.serial_number)
    assert opened.application("mehr") is None
    assert opened.root == pki.root.certificate


def test_the_request_proves_possession_and_names_nobody(folder: Path) -> None:
    enrolment = begin(folder)
    request = x509.load_der_x509_csr(enrolment.request)
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == f"CN={enrolment.commitment},C=IR"
    assert PAN.reveal().encode() not in enrolment.request
    assert enrolment.bin == PAN.reveal()[:6]
    assert Wallet.open(folder, PASSPHRASE).application("mehr") == "A-1"


def test_a_certificate_stays_in_use_until_the_next_one_is_there(folder: Path, pki: PkiFactory) -> None:
    first = certified(pki, begin(folder))
    finish(folder, pki, first)
    before = Wallet.open(folder, PASSPHRASE).card("mehr")
    second = begin(folder, application="A-2", nonce=bytes(range(1, 33)))
    opened = Wallet.open(folder, PASSPHRASE)
    assert opened.card("mehr").certificate == first.certificate
    assert opened.card("mehr").pan_secret == before.pan_secret
    finish(folder, pki, certified(pki, second))
    after = Wallet.open(folder, PASSPHRASE).card("mehr")
    assert commitment_cn(after.pan_secret, PAN, EXPIRY) == second.commitment


def test_another_certificate_is_not_taken(folder: Path, pki: PkiFactory) -> None:
    enrolment = begin(folder)
    foreign = PkiFactory(brand="KWBP Test")
    wrong = {
        "not for this card": [
            certified(pki, enrolment, key=None),
            certified(pki, enrolment, commitment="commitment-to-another-card"),
        ],
        "below the root of this wallet": [
            certified(foreign, enrolment),
            certified(pki, enrolment, issuer=pki.merchant_ca),
            certified(pki, enrolment, not_before=pki.now.replace(year=2020), not_after=pki.now.replace(year=2021)),
        ],
    }
    for message, credentials in wrong.items():
        for credential in credentials:
            with pytest.raises(WalletError, match=message):
                finish(folder, pki, credential)
    finish(folder, pki, certified(pki, enrolment))


def test_nothing_is_finished_that_was_not_begun(folder: Path, pki: PkiFactory) -> None:
    with pytest.raises(WalletError, match="not begun"):
        finish(folder, pki, pki.cardholder())


def test_two_cards_have_a_key_each_and_no_card_is_there_twice(folder: Path) -> None:
    with wallet.editing(folder, PASSPHRASE) as editor:
        editor.add_card("melli", OTHER, EXPIRY, algorithm="rsa-3072")
        with pytest.raises(WalletError, match="already a card melli"):
            editor.add_card("melli", OTHER, EXPIRY)
        with pytest.raises(WalletError, match="already in the wallet"):
            editor.add_card("again", PAN, EXPIRY)
        requests = [
            editor.begin_enrolment(label, application=label, nonce_cca=NONCE, ca_key_id=CA_KEY)
            for label in ("mehr", "melli")
        ]
    keys = [x509.load_der_x509_csr(each.request).public_key() for each in requests]
    assert keys[0] != keys[1]
    assert [each.label for each in Wallet.open(folder, PASSPHRASE).cards()] == ["mehr", "melli"]
    with wallet.editing(folder, PASSPHRASE) as editor:
        editor.remove_card("mehr")
        with pytest.raises(NoSuchCard):
            editor.remove_card("mehr")
    with pytest.raises(NoSuchCard):
        Wallet.open(folder, PASSPHRASE).card("mehr")


def test_a_card_shows_nothing_of_itself(folder: Path, pki: PkiFactory) -> None:
    finish(folder, pki, certified(pki, begin(folder)))
    opened = Wallet.open(folder, PASSPHRASE)
    card = opened.card("mehr")
    shown = repr(card) + str(card) + repr(opened) + repr(card.in_hand(None, None)) + repr(opened.cards())
    for secret in (PAN.reveal(), card.card_secret.hex(), card.pan_secret.hex()):
        assert secret not in shown
