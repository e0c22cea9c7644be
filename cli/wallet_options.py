"""What the commands of `kwbp wallet` have in common: where the wallet is, its passphrase, the tokens of its cards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from cli import keyfiles, output
from cli.state import Installation
from runtime.secrets import Secret
from storefront.wallet.texts import Language

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
TokenPin = Annotated[
    str | None,
    typer.Option(
        envvar="KWBP_WALLET_TOKEN_PIN",
        help="Where the PIN of a token comes from: fd:N, file:/… of mode 0600, credential:NAME, prompt:; "
        "else the URI's pin-source, else you are asked.",
    ),
]
LanguageOption = Annotated[Language, typer.Option("--language", envvar="KWBP_LANGUAGE", help="Persian or English.")]


def folder_of(found: Installation, folder: Path | None) -> Path:
    """The folder of the wallet."""
    return folder or found.home.path / "wallet"


def purchase_of(number: str) -> bytes:
    """The XID that somebody typed; ends the command if it is none."""
    if re.fullmatch("[0-9a-f]{40}", number) is None:
        output.fail("a purchase has a number of 40 hexadecimal digits", hint="kwbp wallet history")
    return bytes.fromhex(number)


def passphrase_of(file: Path | None) -> Secret:
    """The wallet's passphrase, from its file or typed."""
    return keyfiles.passphrase_from(file, "Passphrase of the wallet")
