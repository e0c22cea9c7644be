"""`kwbp wallet`: the buyer's cards, purchases and receipts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from ca.errors import StatusError
from ca.hierarchy import load_hierarchy
from ca.status_client import StatusCache
from cli import keyfiles, output
from cli.bank import read_card
from cli.card_enrolment import enrol_card
from cli.state import Installation, existing
from kwbp.codes import PurchaseStatus
from kwbp.errors import ProtocolError
from kwbp.wallet import CheckedInvoice
from pki.rollover import next_roots
from runtime.client import http_client
from runtime.secrets import Secret
from shetab.types import Cvv2, Pin
from storefront.wallet import texts, wallet
from storefront.wallet.purchase import (
    Buyer,
    Outcome,
    PurchaseState,
    RefusedByShop,
    ShopUnreachable,
    purchases,
)
from storefront.wallet.texts import Language
from storefront.wallet.wallet import Wallet

app = typer.Typer(help="The buyer's wallet: cards, purchases, receipts.", no_args_is_help=True)

WalletFolder = Annotated[
    Path | None,
    typer.Option("--wallet", envvar="KWBP_WALLET", help="Folder of the wallet.", show_default="HOME/wallet"),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        envvar="KWBP_WALLET_PASSPHRASE_FILE", help="File of mode 0600 with the passphrase; without it you are asked."
    ),
]
CardLabel = Annotated[str, typer.Option("--card", help="Label of the card in the wallet.")]
FromStdin = Annotated[bool, typer.Option("--card-from-stdin", help="Read card data as JSON from standard input.")]


LanguageOption = Annotated[Language, typer.Option("--language", envvar="KWBP_LANGUAGE", help="Persian or English.")]


@app.command()
def create(folder: WalletFolder = None, passphrase_file: PassphraseFile = None) -> None:
    """Make an empty wallet that trusts this installation's root."""
    found = existing()
    root = x509.load_pem_x509_certificate(found.home.trust_anchors.read_bytes())
    path = _folder(found, folder)
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
) -> None:
    """Put a card (JSON on standard input) into the wallet and make its signing key. PIN and CVV2 are not kept."""
    found = existing()
    card = read_card()
    with wallet.editing(_folder(found, folder), _passphrase(passphrase_file)) as editor:
        editor.add_card(label, card.pan, card.expiry, algorithm=algorithm.value)
    output.emit({"card": label, "pan": card.pan.masked}, [f"Card {label} ({card.pan.masked}) is in the wallet."])


@app.command()
def enrol(
    label: Annotated[str, typer.Argument(help="Label of the card.")],
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Get the card its certificate (scenario B).

    Card data (JSON on standard input) are sealed to the card's bank, which asks for PIN and CVV2; the registration
    authority passes them on unopened, the bank confirms, the authority decides, the CA issues. Again, while an
    application waits, this asks how it stands.
    """
    found = existing()
    path, passphrase = _folder(found, folder), _passphrase(passphrase_file)
    chain = enrol_card(found, path, passphrase, label, read_card)
    output.emit(
        {"card": label, "serial": f"{chain[0].serial_number:x}", "until": chain[0].not_valid_after_utc.isoformat()},
        [f"Card {label} has certificate {chain[0].serial_number:x}, until {chain[0].not_valid_after_utc:%Y-%m-%d}."],
    )


@app.command("list")
def list_cards(folder: WalletFolder = None, passphrase_file: PassphraseFile = None) -> None:
    """Show the cards, masked."""
    opened = Wallet.open(_folder(existing(), folder), _passphrase(passphrase_file))
    output.table(
        "Cards",
        ("Card", "Number", "Certificate", "Until"),
        [
            (
                card.label,
                card.masked_pan,
                None if card.serial is None else f"{card.serial:x}",
                None if card.not_after is None else card.not_after.date().isoformat(),
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
) -> None:
    """Buy: ask for the invoice, check it, sign it, pay, check the receipt (scenario C to H)."""
    found = existing()
    with _buyer(found, folder, passphrase_file, card, shop) as buyer, _told(language):
        invoice = buyer.request_invoice([_item(item) for item in items], ship_to=ship_to, language=language.value)
        _show_invoice(invoice, language)
        pin2, cvv2 = _secrets(card_from_stdin)
        if not yes and not typer.confirm(texts.label("consent", language), err=True):
            output.fail("nothing was signed")
        _report(buyer.order(invoice, pin2=pin2, cvv2=cvv2), language)


@app.command()
def resume(
    xid: Annotated[str, typer.Argument(help="The purchase.")],
    shop: Annotated[str, typer.Option(help="Name of the shop, or its https address.")],
    card: CardLabel,
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
    language: LanguageOption = Language.FA,
) -> None:
    """Ask again about a purchase whose outcome is open: the same order is sent, never a second one."""
    found = existing()
    with _buyer(found, folder, passphrase_file, card, shop) as buyer, _told(language):
        _report(buyer.resume(bytes.fromhex(xid)), language)


@app.command()
def history(folder: WalletFolder = None) -> None:
    """Show the purchases of this wallet."""
    path = _folder(existing(), folder)
    output.table(
        "Purchases",
        ("XID", "State", "Amount"),
        [(made.xid.hex(), made.state.value, made.amount) for made in purchases(path / "purchases")],
    )


@contextmanager
def _buyer(
    found: Installation, folder: Path | None, passphrase_file: Path | None, card: str, shop: str
) -> Iterator[Buyer]:
    path = _folder(found, folder)
    opened = Wallet.open(path, _passphrase(passphrase_file))
    url = _shop_address(found, shop)
    hierarchy = load_hierarchy(found.home.pki)
    # The roots that follow the pinned one are believed for what it says about them, not because they lie there.
    anchors = (opened.root, *next_roots(opened.root, hierarchy.anchors))
    status = StatusCache(found.settings.repository.url, anchors, hierarchy.intermediates, with_bci=True)
    client = http_client(None, url, ca=found.home.trust_anchors, timeout=90)
    try:
        yield Buyer(opened.card(card), client, origin=url, trust=status.trust, folder=opened.purchases)
    finally:
        client.close()
        status.close()


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


def _show_invoice(checked: CheckedInvoice, language: Language) -> None:
    """Exactly what will be signed: the lines under hod, the amount and the promise, all from the checked invoice."""
    output.note(
        f"{texts.label('merchant', language)}: {output.plain(checked.merchant.name)} ({checked.merchant.merchant_id})"
    )
    for line in checked.order.lines:
        quantity = texts.digits(str(line.quantity), language)
        output.note(f"  {quantity} × {output.plain(line.name)}  {texts.amount(line.amount, language)}")
    total = texts.amount(checked.invoice.amount.amount, language)
    output.note(f"  {texts.label('total', language)}: {total}")
    output.note(f"  {texts.label('terms', language)}: {output.plain(checked.invoice.terms)}")


def _secrets(from_stdin: bool) -> tuple[Pin, Cvv2]:
    if from_stdin:
        card = read_card()
        return card.pin2, card.cvv2
    pin2 = typer.prompt("PIN2", hide_input=True, err=True)
    cvv2 = typer.prompt("CVV2", hide_input=True, err=True)
    return Pin.parse(pin2), Cvv2.parse(cvv2)


def _item(text: str) -> tuple[str, int]:
    sku, _, quantity = text.partition("=")
    if quantity and not quantity.isdigit():
        output.fail(f"{text!r} is not an item", hint="expected SKU or SKU=QUANTITY, for example divan-hafez=2")
    return sku, int(quantity or 1)


def _shop_address(found: Installation, shop: str) -> str:
    """Origin of a shop: what its certificate must name."""
    if shop.startswith("https://"):
        return shop.rstrip("/")
    if shop not in found.settings.merchants:
        output.fail(f"there is no shop {shop!r} here", hint=f"shops: {', '.join(found.settings.merchants) or 'none'}")
    return found.settings.merchants[shop].url


def _folder(found: Installation, folder: Path | None) -> Path:
    return folder or found.home.path / "wallet"


def _passphrase(file: Path | None) -> Secret:
    return keyfiles.passphrase_from(file, "Passphrase of the wallet")
