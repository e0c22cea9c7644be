"""`kwbp wallet certificate`: how a card's certificate stands, have it revoked, get the next one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from cli import keyfiles, output, own_certificate
from cli.card_enrolment import authority, enrol_card
from cli.own_certificate import Reason, Yes
from cli.state import Installation, existing
from cli.wallet_card import card_secrets
from cli.wallet_options import PassphraseFile, TokenPin, WalletFolder, folder_of, passphrase_of
from cli.wallet_token import CardTokens, place_of
from pki import cms_signed
from runtime.language import Message
from storefront.holder import CertificateDesk
from storefront.wallet.purchase import PurchaseState, purchases
from storefront.wallet.wallet import CardCredential, Wallet

app = typer.Typer(help="The certificate of a card: how it stands, revoke it, get the next one.", no_args_is_help=True)

Label = Annotated[str, typer.Argument(help="Label of the card.")]


@app.command()
def show(
    label: Label, folder: WalletFolder = None, passphrase_file: PassphraseFile = None, token_pin: TokenPin = None
) -> None:
    """Ask the registration authority how the card's certificate stands; its answer is signed."""
    with _holder(existing(), folder, passphrase_file, label, token_pin) as (card, desk):
        own_certificate.report(desk.status(), card.certificate, label)


@app.command()
def revoke(
    label: Label,
    reason: Reason,
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
    token_pin: TokenPin = None,
    yes: Yes = False,
) -> None:
    """Have the card's certificate revoked or suspended: nobody can pay with this wallet's card then."""
    with _holder(existing(), folder, passphrase_file, label, token_pin) as (card, desk):
        own_certificate.sure(reason, label, yes)
        told = desk.revoke(desk.revocation(own_certificate.REASONS[reason]))
        own_certificate.report(told, card.certificate, label)


@app.command()
def renew(
    label: Label,
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
    algorithm: Annotated[keyfiles.AlgorithmChoice, typer.Option(help="Kind of the new signing key.")] = (
        keyfiles.AlgorithmChoice.RSA
    ),
    token: Annotated[str | None, typer.Option(help="Make the new key in this token: pkcs11:token=NAME?…")] = None,
    configuration: Annotated[
        Path | None, typer.Option(help="SoftHSM2's configuration file, for a token in software.")
    ] = None,
    token_pin: TokenPin = None,
) -> None:
    """Get the card its next certificate, for a new key. The old one pays until the new one is here.

    The card's bank is asked again, so PIN2 and CVV2 are needed. Run it again while the application waits.
    """
    found = existing()
    path, passphrase = folder_of(found, folder), passphrase_of(passphrase_file)
    if any(made.state is PurchaseState.PENDING for made in purchases(path / "purchases")):
        output.fail(
            Message("a purchase is open, and only the old key can ask about it"),
            hint=Message("'kwbp wallet resume' closes it; then renew the certificate"),
        )
    tokens = CardTokens(token_pin)
    in_token = None
    if token is not None:
        serial = f"{datetime.now(UTC):%Y%m%d%H%M%S}"  # another name than the old key's
        in_token = partial(tokens.make, place_of(token, configuration), f"{label} {serial}", algorithm, use=False)
    renewal = {"algorithm": algorithm.value, "in_token": in_token}
    chain = enrol_card(found, path, passphrase, label, card_secrets, tokens, renewal=renewal)
    told = Message(
        "the card {label} has the certificate {serial}, until {until}; the one before stays as evidence",
        label=label,
        serial=f"{chain[0].serial_number:x}",
        until=f"{chain[0].not_valid_after_utc:%Y-%m-%d}",
    )
    output.emit(
        {"card": label, "serial": f"{chain[0].serial_number:x}", "until": chain[0].not_valid_after_utc.isoformat()},
        [output.plain(output.said(told))],
    )


@contextmanager
def _holder(
    found: Installation, folder: Path | None, passphrase_file: Path | None, label: str, token_pin: str | None
) -> Iterator[tuple[CardCredential, CertificateDesk]]:
    path, passphrase, tokens = folder_of(found, folder), passphrase_of(passphrase_file), CardTokens(token_pin)
    opened = Wallet.open(path, passphrase, tokens=tokens)
    card = opened.card(label)
    with own_certificate.answers(), authority(found, opened, passphrase, tokens) as (client, _root, trust):
        yield card, own_certificate.desk(client, card.certificate, partial(_sign, card), trust)


def _sign(card: CardCredential, content_type: x509.ObjectIdentifier, content: bytes) -> bytes:
    return cms_signed.sign(
        content_type,
        content,
        key=card.key,
        signer=card.certificate,
        chain=card.chain,
        signing_time=datetime.now(UTC).replace(microsecond=0),
    )
