"""`kwbp merchant certificate`, `kwbp wallet certificate`: what holders are told, in two languages, by exit code too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from ca.repository import create_app as create_repository
from cli.own_certificate import OPEN
from cli.wallet_token import CardTokens
from hsm_service import pkcs11_module
from hsm_service.token_layout import configuration_of, layout, pin_file
from ra.client import RaClient
from ra.states import State
from runtime.problems import Problem
from runtime.secrets import write_secret
from runtime.server import start
from storefront.merchant.files import key_files
from storefront.wallet.purchase import PurchaseState
from storefront.wallet.wallet import Wallet
from tests.support.holders_site import CEREMONY, TOKEN, HoldersSite, endpoint, holders_site, private_pem
from tests.support.pki_factory import p256

CERTIFICATE = ("merchant", "certificate")
CARD = ("wallet", "certificate")
EC = ("--algorithm", "ec-p256")
LOST = ("--reason", "key-compromise")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HoldersSite]:
    with holders_site(tmp_path_factory.mktemp("holders")) as made:
        yield made
    end_of_the_process()


def end_of_the_process() -> None:
    """What the end of a command does to its tokens."""
    if pkcs11_module._module is not None:
        pkcs11_module._module.finalize()


@pytest.fixture(scope="module")
def corner(site: HoldersSite) -> str:
    """A merchant server that keeps its own key."""
    site.merchant("corner", "M-2")
    return "corner"


def enrolled(site: HoldersSite, label: str, folder: Path) -> tuple[str, ...]:
    """A wallet in the folder with a certified card; what commands about it end with."""
    wallet = ("--wallet", str(folder))
    site.done("wallet", "create", *wallet)
    site.done("wallet", "add-card", label, *EC, *wallet, stdin=site.new_card(label))
    site.done("wallet", "enrol", label, *wallet, stdin=site.card_of(label))
    return wallet


@pytest.fixture(scope="module")
def kept(site: HoldersSite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wallet with the card `safe`, which is certified before each test and after it."""
    folder = tmp_path_factory.mktemp("kept") / "wallet"
    enrolled(site, "safe", folder)
    return folder


def shown(site: HoldersSite, *words: str) -> dict[str, Any]:
    said = site.run("--json", *words)
    assert said.code == 0, said
    return said.document


# From start to end


def test_a_merchant_with_a_token_key_renews_then_revokes_and_is_told_so(site: HoldersSite) -> None:
    site.merchant("bookshop", "M-1", key="shop")
    with site.key_service() as vault:
        first = shown(site, *CERTIFICATE, "show", "bookshop")
        assert (first["certificate"], first["status"]) == ("bookshop", "good")

        same_key = site.run(*CERTIFICATE, "renew", "bookshop")
        assert (same_key.code, same_key.out) == (1, "")
        assert "a certificate is renewed for a new key" in same_key.err
        assert "'kwbp key rotate' makes one" in same_key.err

        vault.life.rotate(CEREMONY, "shop")
        waiting = site.run(*CERTIFICATE, "renew", "bookshop")
        assert (waiting.code, waiting.out) == (OPEN, "")
        assert "kwbp merchant certificate renew bookshop asks again" in waiting.err
        (application,) = site.renewals()
        in_persian = site.run(*CERTIFICATE, "renew", "bookshop", language="fa")
        assert in_persian.code == OPEN
        assert "دوباره می‌پرسد" in in_persian.err
        assert site.renewals() == [application], "it is asked about, not asked for a second time"
        assert shown(site, *CERTIFICATE, "show", "bookshop")["serial"] == first["serial"]

        site.approve(application)
        renewed = shown(site, *CERTIFICATE, "renew", "bookshop")
        assert renewed["serial"] != first["serial"]
        assert site.state(application) is State.ACTIVE, "what is fetched is accepted"
        after = shown(site, *CERTIFICATE, "show", "bookshop")
        assert (after["serial"], after["status"]) == (renewed["serial"], "good")
        assert vault.describe_key(CEREMONY, "shop").version == 2

        revoked = site.done(*CERTIFICATE, "revoke", "bookshop", *LOST, stdin="y\n")
        assert f"certificate {after['serial']} of bookshop is revoked since" in revoked
        assert "keyCompromise" in revoked
        told = shown(site, *CERTIFICATE, "show", "bookshop")
        assert (told["status"], told["reason"]) == ("revoked", "keyCompromise")
        in_persian_now = site.done(*CERTIFICATE, "show", "bookshop", language="fa")
        assert "باطل" in in_persian_now
        assert "کلید لو رفته است" in in_persian_now
        again = shown(site, *CERTIFICATE, "revoke", "bookshop", *LOST, "--yes")
        assert again["since"] == told["since"], "it was revoked once"


def test_a_card_is_renewed_then_revoked_and_the_wallet_is_told_so(site: HoldersSite, tmp_path: Path) -> None:
    wallet = enrolled(site, "mehr", tmp_path / "wallet")
    first = shown(site, *CARD, "show", "mehr", *wallet)
    assert first["status"] == "good"
    renewed = site.done(*CARD, "renew", "mehr", *EC, *wallet, stdin=site.card_of("mehr"), language="fa")
    assert "گواهی پیشین برای اثبات می‌ماند" in renewed
    after = shown(site, *CARD, "show", "mehr", *wallet)
    assert (after["status"], after["serial"] == first["serial"]) == ("good", False)
    opened = Wallet.open(tmp_path / "wallet", site.passphrase)
    assert [f"{chain[0].serial_number:x}" for chain in opened.earlier("mehr")] == [first["serial"]]

    held = shown(site, *CARD, "revoke", "mehr", "--reason", "suspend", "--yes", *wallet)
    assert (held["status"], held["reason"]) == ("suspended", "certificateHold")
    assert "تعلیق‌شده" in site.done(*CARD, "show", "mehr", *wallet, language="fa")
    revoked = site.done(*CARD, "revoke", "mehr", "--reason", "no-longer-used", "--yes", *wallet)
    assert "is revoked since" in revoked
    assert shown(site, *CARD, "show", "mehr", *wallet)["status"] == "revoked"


def test_a_card_is_renewed_into_a_token(site: HoldersSite, kept: Path) -> None:
    wallet = ("--wallet", str(kept))
    pin = f"file:{pin_file(site.home, TOKEN)}"
    place = ("--token", f"pkcs11:token={TOKEN}", "--token-pin", pin)
    configuration = configuration_of(site.home, layout().group_of(TOKEN))
    site.done(
        *(*CARD, "renew", "safe", *EC, *place, "--configuration", str(configuration), *wallet),
        stdin=site.card_of("safe"),
    )
    end_of_the_process()
    assert shown(site, *CARD, "show", "safe", "--token-pin", pin, *wallet)["status"] == "good"
    end_of_the_process()
    opened = Wallet.open(kept, site.passphrase, tokens=CardTokens(pin))
    assert opened.cards()[0].token is not None
    assert opened.card("safe").certificate.public_key() == opened.card("safe").key.public_key()


def test_a_merchant_that_keeps_its_own_key_names_the_next_one(site: HoldersSite, corner: str, tmp_path: Path) -> None:
    unnamed = site.run(*CERTIFICATE, "renew", corner, language="fa")
    assert (unnamed.code, unnamed.out) == (1, "")
    assert "--next-key" in unnamed.err
    before = len(site.renewals())
    key, path = p256(), tmp_path / "next.key"
    write_secret(path, private_pem(key))
    assert site.run(*CERTIFICATE, "renew", corner, "--next-key", str(path)).code == OPEN
    old = key_files(site.home, corner)[0].read_bytes()
    (application,) = site.renewals()[before:]
    site.approve(application)
    done = site.done(*CERTIFICATE, "renew", corner, language="fa")
    assert "آن را از نو راه بیندازید" in done
    kept, chain = key_files(site.home, corner)
    assert kept.read_bytes() != old
    certificate = x509.load_pem_x509_certificate(chain.read_bytes())
    assert certificate.public_key() == key.public_key()
    assert shown(site, *CERTIFICATE, "show", corner)["serial"] == f"{certificate.serial_number:x}"


# Refusals, and no answer


@pytest.mark.parametrize(
    ("language", "asked", "said"),
    [
        ("en", "Revoke the certificate of corner for ever?", "nothing was revoked"),
        ("fa", "برای همیشه باطل شود؟", "چیزی باطل نشد"),
    ],
    ids=["en", "fa"],
)
def test_nothing_is_revoked_without_a_yes(site: HoldersSite, corner: str, language: str, asked: str, said: str) -> None:
    ended = site.run(*CERTIFICATE, "revoke", corner, *LOST, stdin="n\n", language=language)
    assert ended.code == 1
    assert asked in ended.err
    assert said in ended.err
    assert shown(site, *CERTIFICATE, "show", corner)["status"] == "good"


def test_a_wallet_without_a_certificate_is_told_to_enrol(site: HoldersSite, tmp_path: Path) -> None:
    wallet = ("--wallet", str(tmp_path / "wallet"))
    site.done("wallet", "create", *wallet)
    site.done("wallet", "add-card", "new", *EC, *wallet, stdin=site.new_card("new"))
    for words in (("show", "new"), ("revoke", "new", *LOST, "--yes"), ("renew", "new", *EC)):
        ended = site.run(*CARD, *words, *wallet, stdin=site.card_of("new"))
        assert (ended.code, ended.out) == (1, "")
        assert "enrol it first" in ended.err
    unknown = site.run(*CARD, "show", "other", *wallet, language="fa")
    assert unknown.code == 1
    assert "other" in unknown.err


def test_nothing_is_renewed_while_a_purchase_is_open(site: HoldersSite, kept: Path) -> None:
    wallet, folder = ("--wallet", str(kept)), kept / "purchases" / ("ab" * 20)
    folder.mkdir(parents=True)
    made: dict[str, Any] = {"xid": "ab" * 20, "state": PurchaseState.PENDING.value, "amount": 1, "rrpid": "01" * 20}
    made |= {"origin": "https://shop.example", "merchant_id": "M-1", "gw_id": "GW-1", "acquirer_bin": "603770"}
    made |= dict.fromkeys(("chall_c", "h_oi_data", "h_dual_sig", "mer_cert_hash"), "02" * 32)
    (folder / "purchase.json").write_text(json.dumps(made | {"ordered_at": "2026-01-01T12:00:00Z"}))
    ended = site.run(*CARD, "renew", "safe", *EC, *wallet, stdin=site.card_of("safe"))
    shutil.rmtree(folder)
    assert (ended.code, ended.out) == (1, "")
    assert "a purchase is open" in ended.err
    assert "'kwbp wallet resume' closes it" in ended.err


@pytest.mark.parametrize(("language", "hint"), [("en", "there are: "), ("fa", "موجود: ")])
def test_a_merchant_that_is_none_is_told_which_there_are(
    site: HoldersSite, corner: str, language: str, hint: str
) -> None:
    for words in (("show",), ("revoke", *LOST, "--yes"), ("renew",)):
        ended = site.run(*CERTIFICATE, words[0], "nobody", *words[1:], language=language)
        assert (ended.code, ended.out) == (1, "")
        assert hint in ended.err
        assert corner in ended.err


def test_whoever_asks_too_often_is_told_to_wait_and_revokes_nevertheless(site: HoldersSite) -> None:
    site.merchant("hurried", "M-3")
    for _ in range(site.site.desk.limits.holders.burst):
        said = site.run(*CERTIFICATE, "show", "hurried")
        assert said.code == 0, said
    for language, hint in (("en", "try again in a few minutes"), ("fa", "چند دقیقهٔ دیگر")):
        ended = site.run(*CERTIFICATE, "show", "hurried", language=language)
        assert (ended.code, ended.out) == (1, "")
        assert "rateLimited" in ended.err
        assert hint in ended.err
    assert shown(site, *CERTIFICATE, "revoke", "hurried", *LOST, "--yes")["status"] == "revoked"


def test_no_answer_is_no_refusal_and_nobody_is_told_that_it_was_done(site: HoldersSite, corner: str) -> None:
    """The RA hears the order, and the answer cannot be judged: the repository is away."""
    there = site.sections["repository"]
    with start(create_repository(site.home.pki), tls=None) as url:
        pass
    site.sections["repository"] = endpoint("repository", url)
    site.write_settings()
    try:
        ended = site.run("--json", *CERTIFICATE, "revoke", corner, "--reason", "suspend", "--yes")
        assert ended.code == OPEN
        assert ended.document["hint"] == "run it again: what was done is not done twice"
        assert "آنچه انجام شده دو بار انجام نمی‌شود" in site.run(*CERTIFICATE, "show", corner, language="fa").err
    finally:
        site.sections["repository"] = there
        site.write_settings()
    told = shown(site, *CERTIFICATE, "show", corner)
    assert told["status"] == "suspended", "it was done, once"
    assert shown(site, *CERTIFICATE, "revoke", corner, "--reason", "suspend", "--yes")["since"] == told["since"]


# An acceptance that was not sent


class Killed(BaseException):
    """The end of the process."""


@pytest.mark.parametrize("sent", [False, True])
def test_an_acceptance_goes_out_again_until_it_is_taken(
    site: HoldersSite, kept: Path, monkeypatch: pytest.MonkeyPatch, sent: bool
) -> None:
    """Killed after the certificate is in the wallet: the next run accepts it, and applies for nothing."""
    words = (*CARD, "renew", "safe", *EC, "--wallet", str(kept))
    accept = RaClient.accept

    def die(client: RaClient, *arguments: Any) -> None:
        if sent:
            accept(client, *arguments)
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(RaClient, "accept", die)
        site.run(*words, stdin=site.card_of("safe"))
    application = Wallet.open(kept, site.passphrase).unaccepted("safe")
    assert application is not None
    assert site.state(application) is (State.ACTIVE if sent else State.ISSUED)
    applications = len(site.site.world.store.applications())
    site.done(*words)  # nobody is asked for PIN2 again
    assert site.state(application) is State.ACTIVE
    assert len(site.site.world.store.applications()) == applications
    assert Wallet.open(kept, site.passphrase).unaccepted("safe") is None


def test_an_acceptance_that_is_too_late_is_not_sent_for_ever(
    site: HoldersSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is given up until the RA has said so; then the card can be certified anew."""
    wallet = ("--wallet", str(tmp_path / "wallet"))
    site.done("wallet", "create", *wallet)
    site.done("wallet", "add-card", "old", *EC, *wallet, stdin=site.new_card("old"))

    def away(*_: Any) -> None:
        raise Problem(503, "ra-unreachable", "away")

    def unaccepted() -> str | None:
        return Wallet.open(tmp_path / "wallet", site.passphrase).unaccepted("old")

    with monkeypatch.context() as patched:
        patched.setattr(RaClient, "accept", away)
        for _ in range(2):
            ended = site.run("wallet", "enrol", "old", *wallet, stdin=site.card_of("old"))
            assert (ended.code, ended.out) == (1, "")
            assert unaccepted() is not None, ended
    site.done(*CARD, "revoke", "old", *LOST, "--yes", *wallet)
    assert site.run("wallet", "enrol", "old", *wallet).code == 1
    assert unaccepted() is None
