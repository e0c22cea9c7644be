"""The next certificate of a card: a new key, asked for as the first one was; what the old one proves stays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kwbp.codes import CertificateStatus, RegistrationStatus, RevocationReason
from pki import cms_signed
from pki.keys import spki_sha256
from runtime.secrets import Secret
from storefront.errors import WalletError
from storefront.holder import CertificateDesk
from storefront.wallet import container, transfer, wallet
from storefront.wallet.editor import check_entry
from storefront.wallet.wallet import FILE_NAME, CardCredential, Wallet
from switch.records import IssuedCard
from tests.support.cps_cases import BIN, Office
from tests.support.pki_factory import PkiFactory
from tests.support.registration_site import RegistrationSite

pytestmark = pytest.mark.usefixtures("cheap_guesses")

PASSPHRASE, OTHER = Secret(b"a long passphrase of a test"), Secret(b"another one, for the exported file")
LABEL = "mehr"


class Holder:
    """A person with a card in a wallet, before a registration authority."""

    def __init__(self, site: RegistrationSite, folder: Path) -> None:
        self.site, self.folder = site, folder
        Wallet.create(folder, PASSPHRASE, root=site.office.pki.root.certificate)
        self.card: IssuedCard = site.new_card().issued
        with self.editing() as editor:
            editor.add_card(LABEL, self.card.pan, self.card.expiry, algorithm="ec-p256")

    def editing(self) -> Any:
        return wallet.editing(self.folder, PASSPHRASE, rng=os.urandom)

    @property
    def opened(self) -> Wallet:
        return Wallet.open(self.folder, PASSPHRASE)

    @property
    def entry(self) -> dict[str, Any]:
        found: dict[str, Any] = container.read(self.folder / FILE_NAME, PASSPHRASE)["cards"][LABEL]
        return found

    def begin(self, *, renew: bool = False) -> None:
        form = self.site.registrar().form(BIN)
        with self.editing() as editor:
            if renew:
                editor.begin_renewal(LABEL, algorithm="ec-p256")
            editor.begin_registration(
                LABEL,
                form,
                pin2=self.card.pin2,
                cvv2=self.card.cvv2,
                now=self.site.world.now,
                one_time_key=self.site.next_one_time_key,
            )

    def finish(self) -> None:
        request = self.opened.registration(LABEL)
        assert request is not None
        answer = self.site.registrar().certificate(request)
        assert answer.body.status is RegistrationStatus.ISSUED
        with self.editing() as editor:
            editor.finish_registration(LABEL, answer, now=self.site.world.now)

    def desk(self, card: CardCredential) -> CertificateDesk:
        def sign(content_type: Any, content: bytes) -> bytes:
            return cms_signed.sign(
                content_type,
                content,
                key=card.key,
                signer=card.certificate,
                chain=card.chain,
                signing_time=self.site.world.now,
            )

        return CertificateDesk(
            self.site.http, card.certificate, sign, trust=self.site.trust, rng=os.urandom, clock=self.site.world.clock
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistrationSite]:
    office = Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0)))
    made = RegistrationSite(tmp_path_factory.mktemp("site"), office)
    yield made
    made.close()


@pytest.fixture
def holder(authority: RegistrationSite, tmp_path: Path) -> Holder:
    authority.world.clock.forward(timedelta(minutes=5))  # nobody asks too often
    made = Holder(authority, tmp_path / "wallet")
    made.begin()
    made.finish()
    return made


def test_a_card_gets_its_next_certificate_and_keeps_what_the_old_one_proves(holder: Holder) -> None:
    before = holder.opened.card(LABEL)
    holder.begin(renew=True)
    assert holder.opened.card(LABEL).certificate == before.certificate  # it pays until the next one is here
    holder.site.world.clock.forward(timedelta(minutes=1))
    holder.finish()
    after = holder.opened.card(LABEL)
    assert after.certificate != before.certificate
    assert spki_sha256(after.certificate.public_key()) == spki_sha256(after.key.public_key())
    assert spki_sha256(after.key.public_key()) != spki_sha256(before.key.public_key())
    assert holder.opened.earlier(LABEL) == [(before.certificate, *before.chain)]
    assert holder.entry["earlier"][0]["pan_secret"] == before.pan_secret.hex()
    assert "next" not in holder.entry
    check_entry(holder.entry)


def test_what_was_lost_on_the_way_is_asked_for_again(holder: Holder) -> None:
    holder.begin(renew=True)
    applications = len(holder.site.world.store.applications())
    request = holder.opened.registration(LABEL)
    assert request is not None
    holder.site.registrar().certificate(request)  # the answer never reached the wallet's file
    holder.finish()
    assert len(holder.site.world.store.applications()) == applications + 1
    assert len(holder.opened.earlier(LABEL)) == 1


def test_a_renewal_that_came_to_nothing_leaves_the_card_as_it_was(holder: Holder) -> None:
    before = holder.entry
    holder.begin(renew=True)
    with holder.editing() as editor:
        editor.drop_registration(LABEL)
    assert holder.entry == before


def test_a_card_without_a_certificate_is_enrolled_and_not_renewed(authority: RegistrationSite, tmp_path: Path) -> None:
    holder = Holder(authority, tmp_path / "wallet")
    with pytest.raises(WalletError, match="enrol it first"), holder.editing() as editor:
        editor.begin_renewal(LABEL, algorithm="ec-p256")


def test_an_exported_wallet_brings_what_was_and_what_comes(holder: Holder, tmp_path: Path) -> None:
    holder.begin(renew=True)
    holder.finish()
    holder.begin(renew=True)
    transfer.export(holder.folder, PASSPHRASE, tmp_path / "file", OTHER)
    anchors = (holder.site.office.pki.root.certificate,)
    transfer.import_(tmp_path / "there", PASSPHRASE, tmp_path / "file", OTHER, anchors=anchors)
    there = Wallet.open(tmp_path / "there", PASSPHRASE)
    assert there.earlier(LABEL) == holder.opened.earlier(LABEL)
    assert there.registration(LABEL) is not None


def test_what_is_kept_of_other_keys_belongs_to_the_card(holder: Holder) -> None:
    holder.begin(renew=True)
    holder.finish()
    spoilers: tuple[Callable[[dict[str, Any]], None], ...] = (
        lambda entry: entry["earlier"][0].update(pan_secret="00" * 32),
        lambda entry: entry["earlier"][0].update(key=entry["key"]),
        lambda entry: entry.update(next={"key": entry["key"], "pan": entry["pan"]}),
        lambda entry: entry.update(next={"key": "00"}),
    )
    for spoil in spoilers:
        entry = holder.entry
        check_entry(entry)
        spoil(entry)
        with pytest.raises((WalletError, ValueError)):
            check_entry(entry)


def test_a_holder_asks_about_its_certificate_and_has_it_revoked(holder: Holder) -> None:
    desk = holder.desk(holder.opened.card(LABEL))
    assert desk.status().status is CertificateStatus.GOOD
    told = desk.revoke(desk.revocation(RevocationReason.KEY_COMPROMISE))
    assert (told.status, told.reason) == (CertificateStatus.REVOKED, RevocationReason.KEY_COMPROMISE)
    assert desk.status().status is CertificateStatus.REVOKED
