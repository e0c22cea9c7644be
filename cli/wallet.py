"""`kwbp wallet`: the buyer's cards, purchases and receipts."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from ca.errors import StatusError
from ca.hierarchy import load_hierarchy
from ca.status_client import StatusCache
from cli import keyfiles, output, wallet_care, wallet_certificate, wallet_gateway, wallet_roots
from cli.card_enrolment import enrol_card
from cli.state import Installation, existing
from cli.wallet_card import ASCII_DIGITS, card_secrets, card_to_keep
from cli.wallet_consent import LOCK_AFTER, LockAfter, consent
from cli.wallet_gateway import OneTimePassword, password_sent
from cli.wallet_options import (
    LanguageOption,
    PassphraseFile,
    TokenPin,
    WalletFolder,
    folder_of,
    passphrase_of,
    purchase_of,
)
from cli.wallet_token import CardTokens, place_of
from kwbp.codes import PurchaseStatus
from kwbp.errors import ProtocolError
from kwbp.wallet import CheckedInvoice
from runtime.client import http_client
from storefront.wallet import texts, wallet
from storefront.wallet.purchase import (
    Buyer,
    Outcome,
    PurchaseState,
    RefusedByShop,
    ShopUnreachable,
    purchases,
)
from storefront.wallet.shown import offered
from storefront.wallet.texts import Language
from storefront.wallet.wallet import Wallet

app = typer.Typer(help="The buyer's wallet: cards, purchases, receipts.", no_args_is_help=True)

CardLabel = Annotated[str, typer.Option("--card", help="Label of the card in the wallet.")]
FromStdin = Annotated[bool, typer.Option("--card-from-stdin", help="Read card data as JSON from standard input.")]


@app.callback()
def secrets_stay_in_memory() -> None:
    """The buyer's wallet: cards, purchases, receipts."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))  # a crash writes no passphrase, PIN or card data to a disk


@app.command()
def create(folder: WalletFolder = None, passphrase_file: PassphraseFile = None) -> None:
    """Make an empty wallet that trusts this installation's root."""
    found = existing()
    root = x509.load_pem_x509_certificate(found.home.trust_anchors.read_bytes())
    path = folder_of(found, folder)
    Wallet.create(path, keyfiles.passphrase_from(passphrase_file, "New passphrase", confirm=True), root=root)
    output.emit({"wallet": str(path)}, [f"Wallet in {path}."])


@app.command("add-card")
def add_card(
    label: Annotated[str, typer.Argument(help="What you call the card.")],
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
    algorithm: Annotated[keyfiles.AlgorithmChoice, typer.Option(help="Kind of signing key.")] = (
        keyfiles.AlgorithmChoice.RSA
    ),
    token: Annotated[
        str | None,
        typer.Option(help="Make the key in this token, where it stays: pkcs11:token=NAME?module-path=/… (RFC 7512)."),
    ] = None,
    configuration: Annotated[
        Path | None, typer.Option(help="SoftHSM2's configuration file, for a token in software.")
    ] = None,
    use: Annotated[bool, typer.Option("--use", help="Use the key that the URI names, and make none.")] = False,
    token_pin: TokenPin = None,
) -> None:
    """Put a card into the wallet and make its signing key. You are asked for the card, or it is JSON on standard input.

    Number and expiry are kept inside the encrypted file; PIN2 and CVV2 are not kept at all.
    """
    found = existing()
    pan, expiry = card_to_keep()
    tokens = CardTokens(token_pin)
    in_token = None
    if token is not None:
        in_token = partial(tokens.make, place_of(token, configuration), label, algorithm, use=use)
    with wallet.editing(folder_of(found, folder), passphrase_of(passphrase_file)) as editor:
        editor.add_card(label, pan, expiry, algorithm=algorithm.value, in_token=in_token)
    output.emit({"card": label, "pan": pan.masked}, [f"Card {output.plain(label)} ({pan.masked}) is in the wallet."])


@app.command()
def enrol(
    label: Annotated[str, typer.Argument(help="Label of the card.")],
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
    token_pin: TokenPin = None,
) -> None:
    """Get the card its certificate (scenario B).

    Card data are sealed to the card's bank, which asks for PIN2 and CVV2 (typed, or in the JSON on standard input). The
    registration authority passes them on unopened, the bank confirms, the authority decides, the CA issues. Again,
    while an application waits, this asks how it stands.
    """
    found = existing()
    path, passphrase = folder_of(found, folder), passphrase_of(passphrase_file)
    chain = enrol_card(found, path, passphrase, label, card_secrets, CardTokens(token_pin))
    output.emit(
        {"card": label, "serial": f"{chain[0].serial_number:x}", "until": chain[0].not_valid_after_utc.isoformat()},
        [f"Card {label} has certificate {chain[0].serial_number:x}, until {chain[0].not_valid_after_utc:%Y-%m-%d}."],
    )


@app.command("list")
def list_cards(folder: WalletFolder = None, passphrase_file: PassphraseFile = None) -> None:
    """Show the cards, masked."""
    opened = Wallet.open(folder_of(existing(), folder), passphrase_of(passphrase_file))
    output.table(
        "Cards",
        ("Card", "Number", "Certificate", "Until", "Token"),
        [
            (
                card.label,
                card.masked_pan,
                None if card.serial is None else f"{card.serial:x}",
                None if card.not_after is None else card.not_after.date().isoformat(),
                card.token,
            )
            for card in opened.cards()
        ],
    )


@app.command()
def buy(
    items: Annotated[list[str], typer.Argument(help="What to buy: SKU or SKU=QUANTITY.", metavar="ITEM…")],
    shop: Annotated[str, typer.Option(help="Name of a shop of this installation, or its https address.")],
    card: CardLabel,
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
    card_from_stdin: FromStdin = False,
    yes: Annotated[bool, typer.Option("--yes", help="Sign without asking.")] = False,
    ship_to: Annotated[str | None, typer.Option(help="Delivery address.")] = None,
    language: LanguageOption = Language.FA,
    lock_after: LockAfter = LOCK_AFTER,
    token_pin: TokenPin = None,
    one_time_password: OneTimePassword = False,
    hold: Annotated[
        bool, typer.Option("--hold", help="Only have the money held: the shop collects it when it delivers.")
    ] = False,
) -> None:
    """Buy: ask for the invoice, check it, sign it, pay, check the receipt (scenario C to H)."""
    found = existing()
    with _buyer(found, folder, passphrase_file, card, shop, token_pin) as buyer, _told(language):
        invoice = buyer.request_invoice([_item(item) for item in items], ship_to=ship_to, language=language.value)
        shown = offered(invoice.signed, invoice.order_details, hold=hold)
        password = partial(_password, buyer, invoice, language) if one_time_password else None
        pin2, cvv2 = consent(
            shown, language, from_stdin=card_from_stdin, yes=yes, lock_after=lock_after, password=password
        )
        _report(buyer.order(invoice, pin2=pin2, cvv2=cvv2, shown=shown, hold=hold), language)


@app.command()
def resume(
    xid: Annotated[str, typer.Argument(help="The purchase.")],
    shop: Annotated[str, typer.Option(help="Name of the shop, or its https address.")],
    card: CardLabel,
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
    language: LanguageOption = Language.FA,
    token_pin: TokenPin = None,
) -> None:
    """Ask again about a purchase whose outcome is open: the same order is sent, never a second one."""
    purchase, found = purchase_of(xid), existing()
    with _buyer(found, folder, passphrase_file, card, shop, token_pin) as buyer, _told(language):
        _report(buyer.resume(purchase), language)


@app.command()
def history(folder: WalletFolder = None) -> None:
    """Show the purchases of this wallet."""
    path = folder_of(existing(), folder)
    output.table(
        "Purchases",
        ("XID", "State", "Amount"),
        [(made.xid.hex(), made.state.value, made.amount) for made in purchases(path / "purchases")],
    )


app.add_typer(wallet_certificate.app, name="certificate")
wallet_care.register(app)
wallet_gateway.register(app)
wallet_roots.register(app)


@contextmanager
def _buyer(
    found: Installation,
    folder: Path | None,
    passphrase_file: Path | None,
    card: str,
    shop: str,
    token_pin: str | None,
) -> Iterator[Buyer]:
    path, passphrase, tokens = folder_of(found, folder), passphrase_of(passphrase_file), CardTokens(token_pin)
    opened = Wallet.open(path, passphrase, tokens=tokens)
    url = _shop_address(found, shop)
    hierarchy = load_hierarchy(found.home.pki)
    opened = wallet_roots.follow(opened, passphrase, hierarchy.anchors, tokens)
    status = StatusCache(found.settings.repository.url, opened.roots, hierarchy.intermediates, with_bci=True)
    client = http_client(None, url, ca=found.home.trust_anchors, timeout=90)
    try:
        yield Buyer(opened.card(card), client, origin=url, trust=status.trust, folder=opened.purchases)
    finally:
        client.close()
        status.close()


def _password(buyer: Buyer, invoice: CheckedInvoice, language: Language) -> None:
    password_sent(buyer.request_password(invoice), language)


@contextmanager
def _told(language: Language) -> Iterator[None]:
    """End the command with a sentence for people when the purchase is refused."""
    try:
        yield
    except ProtocolError as error:
        _refuse(error, language)
    except RefusedByShop as refusal:
        _refuse(refusal.error, language)
    except (ShopUnreachable, StatusError) as error:
        output.fail(str(error), hint="'kwbp wallet history' shows what was sent; 'kwbp wallet resume' asks again")


def _refuse(error: ProtocolError, language: Language) -> None:
    sentence = texts.refusal(error.code, language)
    output.fail(
        f"{sentence} [{error.code.value} {error.code.protocol_name}, {error.check}]",
        document={
            "refused": True,
            "code": error.code.value,
            "name": error.code.protocol_name,
            "check": error.check,
            "sentence": sentence,
        },
    )


def _report(outcome: Outcome, language: Language) -> None:
    if outcome.refusal is not None and outcome.state is not PurchaseState.PENDING:  # else it is open, not refused
        _refuse(outcome.refusal, language)
    document: dict[str, object] = {
        "xid": outcome.xid.hex(),
        "state": outcome.state.value,
        "amount": outcome.amount,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    lines = []
    if outcome.receipt is not None:
        answer = outcome.receipt.auth_res
        document |= {"auth_code": answer.auth_code.protocol_name, "rrn": answer.rrn, "card": answer.masked_pan}
        lines.append(f"[bold]{texts.outcome(answer.auth_code, language)}[/bold]")
        if answer.rrn is not None:
            lines.append(f"{texts.label('reference', language)}: {texts.digits(answer.rrn, language)}")
    elif outcome.state in (PurchaseState.REVERSED, PurchaseState.DECLINED):
        lines.append(texts.label("closed", language))
    elif outcome.refusal is not None:
        document |= {"code": outcome.refusal.code.value, "name": outcome.refusal.code.protocol_name}
        lines.append(texts.refusal(outcome.refusal.code, language))
    if outcome.word in (PurchaseStatus.REVERSING, PurchaseStatus.UNSETTLED):
        document["gateway_says"] = outcome.word.protocol_name
        lines.append(texts.label(outcome.word.protocol_name, language))
    lines.append(f"XID {outcome.xid.hex()}")
    output.emit(document, lines)
    if outcome.state is not PurchaseState.PAID:
        raise typer.Exit(1)


def _item(text: str) -> tuple[str, int]:
    sku, equals, quantity = text.partition("=")
    quantity = quantity.translate(ASCII_DIGITS) if equals else "1"
    if not sku or re.fullmatch("[1-9][0-9]{0,3}", quantity) is None:
        output.fail(f"{text!r} is not an item", hint="expected SKU or SKU=QUANTITY, for example divan-hafez=2")
    return sku, int(quantity)


def _shop_address(found: Installation, shop: str) -> str:
    """Origin of a shop: what its certificate must name."""
    if shop.startswith("https://"):
        return shop.rstrip("/")
    if shop not in found.settings.merchants:
        output.fail(f"there is no shop {shop!r} here", hint=f"shops: {', '.join(found.settings.merchants) or 'none'}")
    return found.settings.merchants[shop].url
