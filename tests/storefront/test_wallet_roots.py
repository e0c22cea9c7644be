"""The roots of a wallet, RFC 8649: the next one is believed for good, every other is not; a purchase runs below it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509

from kwbp.codes import ErrorCode
from kwbp.errors import ProtocolError
from pki.crl import CrlSet
from pki.extensions import HashedRootKey
from pki.names import name
from pki.path import Trust
from pki.roles import Role
from runtime.language import Language
from runtime.secrets import Secret
from shetab.types import Expiry, Pan
from storefront.errors import RootRefused, WalletError
from storefront.wallet import container, roots, wallet
from storefront.wallet.wallet import FILE_NAME, Wallet
from tests.kwbp.world import World
from tests.pki.test_rollover import FIRST, FOURTH, KEYS, SECOND, THIRD, root
from tests.support.pki_factory import DAY, NOW, Authority, Credential, PkiFactory, role_extensions

pytestmark = pytest.mark.usefixtures("cheap_guesses")

PASSPHRASE = Secret(b"correct horse")
PAN, EXPIRY = Pan("6037701000000007"), Expiry("0912")


class BelowTheSecond(PkiFactory):
    """A hierarchy whose root is the one that follows `FIRST`."""

    def _self_signed(self) -> Authority:
        subject = name(cn="Root 1")
        certificate = self.build(
            subject=subject,
            issuer=subject,
            public_key=KEYS[1].public_key(),
            issuer_key=KEYS[1],
            extensions={
                **role_extensions(Role.ROOT),
                "hashed_root_key": (HashedRootKey.of(KEYS[2].public_key()).to_extension(), False),
            },
            not_after=self.now + 3650 * DAY,
        )
        return Authority(Credential(certificate, KEYS[1], (), self.now), Role.ROOT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Wallet.create(tmp_path, PASSPHRASE, root=FIRST)
    return tmp_path


def accept(folder: Path, candidate: x509.Certificate, now: datetime = NOW) -> None:
    with wallet.editing(folder, PASSPHRASE) as editor:
        editor.accept_root(candidate, now=now)


def believed(folder: Path) -> tuple[x509.Certificate, ...]:
    return Wallet.open(folder, PASSPHRASE).roots


def test_the_next_root_is_believed_from_then_on_and_so_is_the_one_after_it(folder: Path) -> None:
    assert believed(folder) == (FIRST,)
    accept(folder, SECOND)
    accept(folder, THIRD)
    assert believed(folder) == (FIRST, SECOND, THIRD)


def document(*pinned: x509.Certificate) -> dict[str, object]:
    """What a wallet keeps that went from root to root."""
    made = roots.first(pinned[0])
    for each in pinned[1:]:
        roots.accept(made, each, now=NOW)
    return made


@pytest.mark.parametrize(
    ("pinned", "candidate", "reason"),
    [
        ((FIRST,), root(3), "not_next_root"),
        ((FIRST,), PkiFactory().root.certificate, "not_next_root"),
        ((FIRST,), THIRD, "not_next_root"),  # nobody who has seen the second could tell it from a stranger
        ((FIRST, SECOND), FOURTH, "not_next_root"),
        ((FIRST, SECOND), FIRST, "older_root"),
        ((FIRST, SECOND, THIRD), FIRST, "older_root"),
        ((FIRST, SECOND), SECOND, "same_root"),
        ((FIRST,), root(1, signed_by=KEYS[4]), "not_self_signed"),
        ((FIRST,), root(1, start=NOW + DAY), "not_yet_valid"),
    ],
)
def test_every_other_root_is_refused_and_nothing_changes(
    pinned: tuple[x509.Certificate, ...], candidate: x509.Certificate, reason: str
) -> None:
    kept = document(*pinned)
    before = json.dumps(kept)
    with pytest.raises(RootRefused, match=reason) as refusal:
        roots.accept(kept, candidate, now=NOW)
    assert json.dumps(kept) == before
    assert reason not in refusal.value.text(Language.FA)  # said in words


def test_a_root_that_skips_a_generation_is_told_apart_where_the_one_between_is_at_hand() -> None:
    with pytest.raises(RootRefused, match="root_skipped"):
        roots.accept(document(FIRST), THIRD, now=NOW, known=[SECOND])


def test_a_root_that_was_dropped_does_not_come_back() -> None:
    kept = document(FIRST, SECOND, THIRD)
    assert roots.drop_older(kept) == (FIRST, SECOND)
    assert roots.pinned(kept) == (THIRD,)
    for older in (FIRST, SECOND):
        with pytest.raises(RootRefused, match="older_root"):
            roots.accept(kept, older, now=NOW)
    roots.accept(kept, FOURTH, now=NOW)
    assert roots.drop_older(kept) == (THIRD,)
    assert roots.pinned(kept) == (FOURTH,)
    assert roots.following(kept, [FIRST, SECOND, THIRD], NOW) == []


def test_what_a_repository_shows_is_followed_in_order_and_not_taken_back(folder: Path) -> None:
    opened = Wallet.open(folder, PASSPHRASE)
    assert opened.next_roots([THIRD, FIRST, SECOND], NOW) == [SECOND, THIRD]
    assert opened.next_roots([THIRD], NOW) == []
    accept(folder, SECOND)
    assert Wallet.open(folder, PASSPHRASE).next_roots([FIRST], NOW) == []
    assert believed(folder) == (FIRST, SECOND)


def test_a_card_that_was_certified_below_the_next_root_is_kept_once_that_is_believed(folder: Path) -> None:
    pki = BelowTheSecond()
    with wallet.editing(folder, PASSPHRASE) as editor:
        editor.add_card("mehr", PAN, EXPIRY, algorithm="ec-p256")
        begun = editor.begin_enrolment("mehr", application="A-1", nonce_cca=bytes(range(32)), ca_key_id=b"key")
    request = x509.load_der_x509_csr(begun.request)
    credential = pki.cardholder(begun.commitment, key=request)  # it has the public half
    chain = (credential.certificate, *credential.chain)
    with (
        pytest.raises(WalletError, match="below the root of this wallet"),
        wallet.editing(folder, PASSPHRASE) as editor,
    ):
        editor.finish_enrolment("mehr", chain, now=pki.now)
    with wallet.editing(folder, PASSPHRASE) as editor:
        editor.accept_root(pki.root.certificate, now=NOW)
        editor.finish_enrolment("mehr", chain, now=pki.now)
    assert Wallet.open(folder, PASSPHRASE).card("mehr").certificate == credential.certificate


def test_a_purchase_below_the_next_root_is_verified_from_the_wallets_own_roots(folder: Path) -> None:
    pki = BelowTheSecond()
    world = World(pki)
    purchase = world.purchase()

    def trust() -> Trust:
        intermediates = tuple(authority.certificate for authority in pki.authorities[1:])
        return Trust(believed(folder), intermediates, CrlSet(pki.crls(None)))

    with pytest.raises(ProtocolError) as refusal:
        world.check_invoice(purchase.invoice_message, purchase.request, trust=trust())
    assert refusal.value.code is ErrorCode.INVALID_CERTIFICATE
    accept(folder, pki.root.certificate)
    assert world.check_invoice(purchase.invoice_message, purchase.request, trust=trust()).invoice.xid
    assert world.check_receipt(purchase.receipt.message(purchase.receipt_signed), purchase.record, trust=trust())


def test_a_wallet_of_before_there_were_next_roots_opens(tmp_path: Path) -> None:
    container.create(tmp_path / FILE_NAME, PASSPHRASE, {**roots.first(FIRST), "cards": {}})
    assert believed(tmp_path) == (FIRST,)
