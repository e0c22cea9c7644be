"""Cards whose key is in a PKCS#11 token: made there, certified, buying, and nowhere else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cli.keyfiles import AlgorithmChoice
from cli.wallet_token import CardTokens, place_of
from hsm_service import pkcs11_module
from hsm_service.errors import KeyExists, KeyNotFound, PinRefused, TokenNotFound
from hsm_service.token_layout import configuration_of, layout, pin_file
from hsm_service.token_uri import TokenUri
from kwbp.commitment import commitment_cn
from runtime.secrets import Secret, read_secret
from runtime.settings import Home
from storefront.errors import WalletError
from storefront.wallet import container, keys, wallet
from storefront.wallet.editor import WalletEditor
from storefront.wallet.keys import TokenKey, TokenPlace
from storefront.wallet.wallet import FILE_NAME, Wallet
from tests.kwbp.world import World
from tests.support.cps_cases import BIN, Office
from tests.support.pki_factory import PkiFactory, p256
from tests.support.registration_site import RegistrationSite
from tests.support.softhsm import provisioned_home

PASSPHRASE = Secret(b"correct horse")
TOKEN = "merchants"
URI = f"pkcs11:token={TOKEN}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return provisioned_home(tmp_path_factory.mktemp("card"))


@pytest.fixture(autouse=True)
def end_of_the_process() -> Iterator[None]:
    """Each test is a command of its own: its end logs out."""
    yield
    if pkcs11_module._module is not None:
        pkcs11_module._module.finalize()


@pytest.fixture
def place(home: Home) -> TokenPlace:
    return place_of(URI, configuration_of(home, layout().group_of(TOKEN)))


@pytest.fixture
def tokens(home: Home) -> CardTokens:
    return CardTokens(f"file:{pin_file(home, TOKEN)}")


@pytest.fixture(scope="module")
def office() -> Office:
    return Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0)))


@pytest.mark.parametrize("algorithm", AlgorithmChoice)
def test_a_card_in_a_token_is_certified_and_buys(
    tmp_path: Path, office: Office, place: TokenPlace, tokens: CardTokens, algorithm: AlgorithmChoice
) -> None:
    """Request, proof of possession, order and acknowledgement are signed in the token; each party takes them."""
    site = RegistrationSite(tmp_path / "site", office)
    try:
        card, folder = site.new_card().issued, tmp_path / "wallet"
        Wallet.create(folder, PASSPHRASE, root=office.pki.root.certificate)
        with wallet.editing(folder, PASSPHRASE, tokens=tokens) as editor:
            editor.add_card(
                "safe",
                card.pan,
                card.expiry,
                in_token=lambda: tokens.make(place, algorithm.value, algorithm, use=False),
            )
        form = site.registrar().form(BIN)
        with wallet.editing(folder, PASSPHRASE, tokens=tokens) as editor:
            editor.begin_registration(
                *("safe", form), pin2=card.pin2, cvv2=card.cvv2, now=site.world.now, one_time_key=site.next_one_time_key
            )
        opened = Wallet.open(folder, PASSPHRASE)
        request = opened.registration("safe")  # no token is needed to ask again
        assert request is not None
        answer = site.registrar().certificate(request)
        with wallet.editing(folder, PASSPHRASE) as editor:
            editor.finish_registration("safe", answer, now=site.world.now)
    finally:
        site.close()

    opened = Wallet.open(folder, PASSPHRASE, tokens=tokens)
    credential = opened.card("safe")
    kind = rsa.RSAPrivateKey if algorithm is AlgorithmChoice.RSA else ec.EllipticCurvePrivateKey
    assert isinstance(credential.key, kind)
    assert credential.certificate.public_key() == credential.key.public_key()
    (shown,) = opened.cards()
    assert shown.token is not None
    assert shown.token.startswith(URI)
    kept = container.read(folder / FILE_NAME, PASSPHRASE)["cards"]["safe"]
    assert "key" not in kept
    assert "PRIVATE" not in json.dumps(kept)

    world = World(PkiFactory())
    commitment = commitment_cn(world.pan_secret, world.card.pan, world.card.expiry)
    world.buyer = world.pki.cardholder(commitment, key=credential.key)
    assert world.purchase().checked_receipt.paid


def test_the_key_cannot_leave_the_token_and_is_made_once(place: TokenPlace, tokens: CardTokens) -> None:
    made = tokens.make(place, "fast", AlgorithmChoice.EC, use=False)
    (token,) = tokens._opened
    attributes = token.attributes(token.named(TokenUri.parse(made.place.uri)))
    assert (attributes.never_extractable, attributes.always_sensitive, attributes.local) == (True, True, True)
    with pytest.raises(KeyExists):
        tokens.make(place, "fast", AlgorithmChoice.EC, use=False)
    assert tokens.make(made.place, "fast", AlgorithmChoice.EC, use=True).public == made.public


def test_a_card_without_its_token_says_so_and_another_key_is_not_taken(
    tmp_path: Path, office: Office, place: TokenPlace, tokens: CardTokens
) -> None:
    card = World(office.pki).card
    Wallet.create(tmp_path, PASSPHRASE, root=office.pki.root.certificate)
    with wallet.editing(tmp_path, PASSPHRASE, tokens=tokens) as editor:
        made = tokens.make(place, "lost", AlgorithmChoice.EC, use=False)
        editor.add_card("lost", card.pan, card.expiry, in_token=lambda: made)
        entry = editor._document["cards"]["lost"]
        with pytest.raises(WalletError, match="not at hand"):
            WalletEditor(editor._document, os.urandom).begin_enrolment(
                "lost", application="A-1", nonce_cca=bytes(range(32)), ca_key_id=b"key"
            )
        entry["token"]["public"] = keys.key_in_token(TokenKey(place, p256().public_key()))["token"]["public"]
        with pytest.raises(WalletError, match="not the one of this card"):
            editor.begin_enrolment("lost", application="A-1", nonce_cca=bytes(range(32)), ca_key_id=b"key")
    with pytest.raises(KeyNotFound):
        tokens(TokenPlace(f"{URI};object=nobody", place.configuration))


# Where the PIN comes from


def test_another_token_of_the_same_name_is_known_before_it_gets_the_pin(
    place: TokenPlace, tokens: CardTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tokens.make(place, "exchanged", AlgorithmChoice.EC, use=False)
    uri = TokenUri.parse(made.place.uri)
    assert uri.serial
    other = replace(made.place, uri=str(replace(uri, serial="0000")))
    asked: list[str] = []
    monkeypatch.setattr("getpass.getpass", asked.append)
    with pytest.raises(TokenNotFound, match="another serial number"):
        CardTokens(None)(other)
    assert asked == []


def test_the_pin_comes_through_a_descriptor_and_is_asked_for_once(home: Home, place: TokenPlace) -> None:
    reading, writing = os.pipe()
    os.write(writing, read_secret(pin_file(home, TOKEN)).reveal())
    os.close(writing)
    tokens = CardTokens(f"fd:{reading}")
    made = tokens.make(place, "through a pipe", AlgorithmChoice.EC, use=False)
    assert tokens(made.place).public_key() == made.public  # the pipe is empty: it was not asked again


def test_without_a_source_the_person_is_asked(home: Home, place: TokenPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return read_secret(pin_file(home, TOKEN)).reveal().decode()

    monkeypatch.setattr("getpass.getpass", answer)
    CardTokens(None).make(place, "asked for", AlgorithmChoice.EC, use=False)
    assert asked == [f"PIN of token {TOKEN}: "]


def test_a_wrong_pin_is_tried_once_and_said_nowhere(place: TokenPlace, tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    pin.write_text("90909090")
    pin.chmod(0o600)
    with pytest.raises(PinRefused) as refusal:
        CardTokens(f"file:{pin}").make(place, "never", AlgorithmChoice.EC, use=False)
    assert "90909090" not in str(refusal.value)


@pytest.mark.parametrize("value", ["90909090", "pass:90909090", "|cat", "fd:1"])
def test_a_pin_on_the_command_line_is_refused_and_not_repeated(
    place: TokenPlace, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        CardTokens(value).make(place, "never", AlgorithmChoice.EC, use=False)
    assert "90909090" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("uri", ["pkcs11:token=a?pin-value=90909090", "file:/key"])
def test_a_place_that_is_none_is_refused_and_not_repeated(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        place_of(uri, None)
    assert "90909090" not in "".join(capsys.readouterr())


def test_a_card_in_a_file_loads_no_pkcs11_module() -> None:
    program = """
import sys
from cli.wallet_token import CardTokens
from storefront.wallet import keys
keys.private_key(keys.new_key("ec-p256"), CardTokens(None))
assert "pkcs11" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
