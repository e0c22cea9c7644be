"""A wallet file through a registration: what is kept before it is sent, what is checked before it is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kwbp.codes import ErrorCode, RegistrationStatus
from kwbp.errors import ProtocolError
from pki.keys import spki_sha256
from runtime.secrets import Secret
from shetab.types import Pin
from storefront.errors import NoSuchCard
from storefront.wallet import wallet
from storefront.wallet.registration import RefusedByAuthority
from storefront.wallet.wallet import Wallet
from switch.records import IssuedCard
from tests.support.cps_cases import BIN, Office
from tests.support.pki_factory import PkiFactory
from tests.support.registration_site import RegistrationSite

pytestmark = pytest.mark.usefixtures("cheap_guesses")

PASSPHRASE = Secret(b"a long passphrase of a test")
LABEL = "mehr"


@dataclass
class Holder:
    """A person with a card, a wallet, and a registration authority to talk to."""

    site: RegistrationSite
    folder: Path
    card: IssuedCard

    def begin(self, **typed: Pin) -> None:
        form = self.site.registrar().form(BIN)
        with wallet.editing(self.folder, PASSPHRASE, rng=os.urandom) as editor:
            pin2 = typed.get("pin2", self.card.pin2)
            editor.begin_registration(
                LABEL,
                form,
                pin2=pin2,
                cvv2=self.card.cvv2,
                now=self.site.world.now,
                one_time_key=self.site.next_one_time_key,
            )

    @property
    def opened(self) -> Wallet:
        return Wallet.open(self.folder, PASSPHRASE)


@pytest.fixture(scope="module")
def office() -> Office:
    return Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0)))


@pytest.fixture
def holder(tmp_path: Path, office: Office) -> Iterator[Holder]:
    site = RegistrationSite(tmp_path / "site", office)
    folder = tmp_path / "wallet"
    Wallet.create(folder, PASSPHRASE, root=office.pki.root.certificate)
    card = site.new_card().issued
    with wallet.editing(folder, PASSPHRASE, rng=os.urandom) as editor:
        editor.add_card(LABEL, card.pan, card.expiry, algorithm="ec-p256")
    yield Holder(site, folder, card)
    site.close()


def test_a_card_is_certified_and_can_pay(holder: Holder) -> None:
    holder.begin()
    request = holder.opened.registration(LABEL)
    assert request is not None
    answer = holder.site.registrar().certificate(request)
    with wallet.editing(holder.folder, PASSPHRASE, rng=os.urandom) as editor:
        editor.finish_registration(LABEL, answer, now=holder.site.world.now)
    credential = holder.opened.card(LABEL)
    assert spki_sha256(credential.certificate.public_key()) == spki_sha256(credential.key.public_key())
    assert holder.opened.registration(LABEL) is None  # and with it the one-time key


def test_an_answer_that_was_lost_is_asked_for_again(holder: Holder) -> None:
    holder.begin()
    for _ in range(2):  # the first answer never reached the wallet's file
        request = holder.opened.registration(LABEL)
        assert request is not None
        answer = holder.site.registrar().certificate(request)
        assert answer.body.status is RegistrationStatus.ISSUED
    assert len(holder.site.world.store.applications()) == 1


def test_a_refused_request_is_dropped_and_another_one_made(holder: Holder) -> None:
    holder.begin(pin2=Pin("00000"))
    request = holder.opened.registration(LABEL)
    assert request is not None
    with pytest.raises(RefusedByAuthority) as caught:
        holder.site.registrar().certificate(request)
    assert (caught.value.error.code, caught.value.error.check) == (ErrorCode.UNSPECIFIED_FAILURE, "C9")
    with wallet.editing(holder.folder, PASSPHRASE, rng=os.urandom) as editor:
        editor.drop_registration(LABEL)
    assert holder.opened.registration(LABEL) is None


def test_an_answer_about_another_card_is_not_kept(holder: Holder) -> None:
    holder.begin()
    other = holder.site.new_card()
    answer = holder.site.enrol(other)
    with pytest.raises(ProtocolError) as caught, wallet.editing(holder.folder, PASSPHRASE, rng=os.urandom) as editor:
        editor.finish_registration(LABEL, answer, now=holder.site.world.now)
    assert caught.value.check == "D7"
    assert holder.opened.registration(LABEL) is not None


def test_a_wallet_of_another_root(holder: Holder) -> None:
    registrar = holder.site.registrar()
    registrar._thumb = bytes(32)
    with pytest.raises(RefusedByAuthority) as caught:
        registrar.form(BIN)
    assert caught.value.error.code is ErrorCode.THUMBS_MISMATCH


def test_an_authority_below_another_root(holder: Holder) -> None:
    registrar = holder.site.registrar()
    foreign = PkiFactory(now=holder.site.world.now)
    registrar._trust = lambda now: foreign.trust(now)
    with pytest.raises(ProtocolError) as caught:
        registrar.form(BIN)
    assert caught.value.check in ("K5", "D6")


def test_no_such_card(holder: Holder) -> None:
    with pytest.raises(NoSuchCard):
        holder.opened.registration("aban")


def test_what_the_wallet_keeps_shows_nothing(holder: Holder) -> None:
    holder.begin()
    assert holder.card.pan.reveal() not in repr(holder.opened.registration(LABEL))
    content = (holder.folder / wallet.FILE_NAME).read_bytes()
    assert holder.card.pan.reveal().encode() not in content
