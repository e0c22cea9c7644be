"""What the wallet has to do with the payment gateway itself: a one-time password, and the question where a purchase
stands that the shop does not answer."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Annotated

import typer

from ca.errors import StatusError
from ca.hierarchy import load_hierarchy
from ca.status_client import StatusCache
from cli import output, wallet_roots
from cli.state import existing
from cli.wallet_options import (
    LanguageOption,
    PassphraseFile,
    TokenPin,
    WalletFolder,
    folder_of,
    passphrase_of,
    purchase_of,
)
from cli.wallet_token import CardTokens
from kwbp.common import instant
from kwbp.errors import ProtocolError
from kwbp.password import OTPResTBS
from runtime.client import http_client
from shetab.jalali import local_time_and_date
from storefront.errors import GatewayUnreachable
from storefront.wallet import texts
from storefront.wallet.gateway_desk import GatewayDesk, Word
from storefront.wallet.purchase import PurchaseState
from storefront.wallet.texts import Language
from storefront.wallet.wallet import Wallet

OneTimePassword = Annotated[
    bool,
    typer.Option(
        "--one-time-password",
        help="Have the card's bank send a password for this purchase; it is typed in the place of PIN2.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to `kwbp wallet`."""
    app.command("ask-gateway")(ask_gateway)


def password_sent(told: OTPResTBS, language: Language) -> None:
    """Tell, on standard error, where the password went and how long it is good."""
    clock, _date = local_time_and_date(instant(told.valid_until))
    until = texts.digits(f"{clock[:2]}:{clock[2:4]}:{clock[4:]}", language)
    output.note(f"{texts.label('password_sent', language)}: {texts.digits(told.sent_to, language)}")
    output.note(f"{texts.label('password_until', language)}: {until}")


def ask_gateway(
    xid: Annotated[str, typer.Argument(help="The purchase.")],
    card: Annotated[str, typer.Option("--card", help="Label of the card that ordered it.")],
    gateway: Annotated[
        str | None, typer.Option(help="Public https address of the gateway; this installation's by default.")
    ] = None,
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
    language: LanguageOption = Language.FA,
    token_pin: TokenPin = None,
) -> None:
    """Ask the payment gateway itself where a purchase stands, if the shop is silent or is not believed.

    What it says is signed, is judged like a receipt, and is kept with the purchase as evidence.
    """
    purchase, found = purchase_of(xid), existing()
    url = gateway or found.settings.gateway.public_url
    if url is None:
        output.fail("this installation's gateway has no public address", hint="give the gateway's with --gateway")
    path, passphrase, tokens = folder_of(found, folder), passphrase_of(passphrase_file), CardTokens(token_pin)
    hierarchy = load_hierarchy(found.home.pki)
    opened = wallet_roots.follow(Wallet.open(path, passphrase, tokens=tokens), passphrase, hierarchy.anchors, tokens)
    status = StatusCache(found.settings.repository.url, opened.roots, hierarchy.intermediates, with_bci=True)
    client = http_client(None, url.rstrip("/"), ca=found.home.trust_anchors, timeout=30)
    try:
        desk = GatewayDesk(
            opened.card(card),
            client,
            trust=status.trust,
            folder=opened.purchases,
            clock=lambda: datetime.now(UTC),
            rng=os.urandom,
        )
        word = desk.ask(purchase)
    except ProtocolError as error:
        output.fail(f"{texts.refusal(error.code, language)} [{error.code.protocol_name}, {error.check}]")
    except (GatewayUnreachable, StatusError) as error:
        output.fail(str(error), hint="nothing was changed; ask again")
    finally:
        client.close()
        status.close()
    _report(word, language)


def _report(word: Word, language: Language) -> None:
    document: dict[str, object] = {"xid": word.xid.hex(), "state": word.state.value, "amount": word.amount}
    lines = []
    if word.status is not None:
        document["gateway_says"] = word.status.protocol_name
        lines.append(texts.label(f"gateway_{word.status.protocol_name}", language))
    if word.answer is not None:
        document |= {"auth_code": word.answer.auth_code.protocol_name, "rrn": word.answer.rrn}
        lines.append(texts.outcome(word.answer.auth_code, language))
        if word.answer.rrn is not None:
            lines.append(f"{texts.label('reference', language)}: {texts.digits(word.answer.rrn, language)}")
    if word.refusal is not None:
        document |= {"code": word.refusal.code.value, "name": word.refusal.code.protocol_name}
        lines.append(texts.label("gateway_unknown", language))
    output.emit(document, [*lines, f"XID {word.xid.hex()}"])
    if word.state is not PurchaseState.PAID:
        raise typer.Exit(1)
