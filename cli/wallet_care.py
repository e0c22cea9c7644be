"""Taking care of a wallet: names of cards, passphrase, export and import, and what was signed, to read it again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ca.hierarchy import load_hierarchy
from cli import keyfiles, output
from cli.state import existing
from cli.wallet_consent import show
from cli.wallet_options import LanguageOption, PassphraseFile, WalletFolder, folder_of, passphrase_of
from kwbp.errors import ProtocolError
from runtime.language import Message
from storefront.errors import NotAsShown
from storefront.wallet import container, records, shown, transfer, wallet
from storefront.wallet.texts import Language
from storefront.wallet.wallet import FILE_NAME, Wallet

Label = Annotated[str, typer.Argument(help="Label of the card.")]
NewPassphraseFile = Annotated[
    Path | None, typer.Option(help="File of mode 0600 with the new passphrase; without it you are asked, twice.")
]
ExportPassphraseFile = Annotated[
    Path | None,
    typer.Option(help="File of mode 0600 with the passphrase of the exported wallet; without it you are asked."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `kwbp wallet`."""
    app.command("show")(show_purchase)
    app.command("rename-card")(rename_card)
    app.command("remove-card")(remove_card)
    app.command("change-passphrase")(change_passphrase)
    app.command("export")(export)
    app.command("import")(import_)


def show_purchase(
    xid: Annotated[str, typer.Argument(help="The purchase.")],
    folder: WalletFolder = None,
    language: LanguageOption = Language.FA,
) -> None:
    """Show again what you signed, read from the signed bytes that the wallet kept; no passphrase is needed."""
    purchase = records.purchase(folder_of(existing(), folder) / wallet.PURCHASES, xid)
    try:
        contents = shown.signed_by(*purchase.signed_objects())
    except (ProtocolError, NotAsShown):
        output.fail(Message("what is kept of the purchase {xid} is damaged: it does not belong together", xid=xid))
    if output.json_wanted():
        output.emit({"xid": xid, "state": purchase.state.value, "lines": list(contents.told(language))})
    else:
        show(contents, "was_signed", language)


def rename_card(
    label: Label,
    new: Annotated[str, typer.Argument(help="What you call it from now on.")],
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Call a card otherwise."""
    with wallet.editing(folder_of(existing(), folder), passphrase_of(passphrase_file)) as editor:
        editor.rename_card(label, new)
    output.emit({"card": new}, [_said(Message("the card {label} is now called {new}", label=label, new=new))])


def remove_card(
    label: Label,
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it without asking.")] = False,
) -> None:
    """Forget a card: its number, its secrets, its key. Purchases stay. A key in a token stays in the token."""
    path, passphrase = folder_of(existing(), folder), passphrase_of(passphrase_file)
    found = next((card for card in Wallet.open(path, passphrase).cards() if card.label == label), None)
    question = output.said(Message("Forget the card {label} for ever?", label=label))
    if found is not None and not yes and not typer.confirm(question, err=True):
        output.fail(Message("nothing was removed"))
    with wallet.editing(path, passphrase) as editor:
        editor.remove_card(label)
    lines = [_said(Message("the card {label} is forgotten", label=label))]
    if found is not None and found.token is not None:
        lines.append(_said(Message("its key stays in the token {uri}", uri=found.token)))
    output.emit({"removed": label, "token": None if found is None else found.token}, lines)


def change_passphrase(
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
    new_passphrase_file: NewPassphraseFile = None,
) -> None:
    """Seal the wallet under another passphrase. Whatever interrupts it, the old one or the new one opens it."""
    path = folder_of(existing(), folder)
    old = passphrase_of(passphrase_file)
    Wallet.open(path, old)  # before anybody has to think of a new one
    new = keyfiles.passphrase_from(new_passphrase_file, "New passphrase", confirm=True)
    container.change_passphrase(path / FILE_NAME, old, new)
    output.emit({"wallet": str(path)}, [_said(Message("the wallet has a new passphrase"))])


def export(
    to: Annotated[Path, typer.Argument(help="The new file.")],
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
    export_passphrase_file: ExportPassphraseFile = None,
) -> None:
    """Write cards, keys and purchases to one encrypted file with a passphrase of its own. Keys in tokens stay there."""
    passphrase = passphrase_of(passphrase_file)
    sealed_under = keyfiles.passphrase_from(export_passphrase_file, "Passphrase of the exported wallet", confirm=True)
    done = transfer.export(folder_of(existing(), folder), passphrase, to, sealed_under)
    output.emit(
        {"file": str(to), "cards": done.cards, "keys_in_tokens": done.in_tokens, "purchases": done.purchases},
        [
            _said(
                Message(
                    "{cards} cards and {purchases} purchases are in {file}",
                    cards=len(done.cards),
                    purchases=done.purchases,
                    file=to,
                )
            ),
            *_stayed(done.in_tokens),
        ],
    )


def import_(
    source: Annotated[Path, typer.Argument(help="An exported wallet.")],
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
    export_passphrase_file: ExportPassphraseFile = None,
) -> None:
    """Take an exported wallet into this one, or make it anew where there is none. Nothing that is here is replaced."""
    found = existing()
    path = folder_of(found, folder)
    sealed_under = keyfiles.passphrase_from(export_passphrase_file, "Passphrase of the exported wallet")
    if (path / FILE_NAME).exists():
        passphrase = passphrase_of(passphrase_file)
    else:
        passphrase = keyfiles.passphrase_from(passphrase_file, "New passphrase of the wallet", confirm=True)
    done = transfer.import_(path, passphrase, source, sealed_under, anchors=load_hierarchy(found.home.pki).anchors)
    output.emit(
        {
            "cards": done.cards,
            "known": done.known,
            "keys_in_tokens": done.in_tokens,
            "purchases": done.purchases,
            "kept": done.kept,
        },
        [
            _said(
                Message(
                    "{cards} cards and {purchases} purchases came in; {known} cards and {kept} purchases were here",
                    cards=len(done.cards),
                    purchases=done.purchases,
                    known=len(done.known),
                    kept=done.kept,
                )
            ),
            *_stayed(done.in_tokens),
        ],
    )


def _stayed(labels: tuple[str, ...]) -> list[str]:
    return [
        _said(Message("the key of the card {label} is not in the file: it stays in its token", label=label))
        for label in labels
    ]


def _said(message: Message) -> str:
    return output.plain(output.said(message))
