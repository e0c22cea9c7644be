"""The roots that a wallet believes (RFC 8649): shown, followed by themselves, accepted from a file, dropped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from ca.hierarchy import load_hierarchy
from cli import output
from cli.state import existing
from cli.wallet_options import PassphraseFile, WalletFolder, folder_of, passphrase_of
from pki.keys import spki_sha256
from runtime.language import Message
from runtime.secrets import Secret
from storefront.wallet import wallet
from storefront.wallet.keys import Tokens
from storefront.wallet.wallet import Wallet


def register(app: typer.Typer) -> None:
    """Add the commands to `kwbp wallet`."""
    app.command("roots")(show_roots)
    app.command("accept-root")(accept_root)


def follow(opened: Wallet, passphrase: Secret, found: Sequence[x509.Certificate], tokens: Tokens) -> Wallet:
    """The wallet, which from now on believes those of the certificates found that follow its newest root.

    They are believed for what the root before says about them, not because they lie somewhere.
    """
    now = datetime.now(UTC)
    after = opened.next_roots(found, now)
    if not after:
        return opened
    with wallet.editing(opened.folder, passphrase) as editor:
        for root in after:
            editor.accept_root(root, now=now)
            output.done(output.said(Message("the next root is believed from now on: {name}", name=_name(root))))
    return Wallet.open(opened.folder, passphrase, tokens=tokens)


def show_roots(
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
    drop_older: Annotated[
        bool, typer.Option("--drop-older", help="Believe the newest root alone from now on.")
    ] = False,
) -> None:
    """Show the roots that the wallet believes, the oldest first."""
    path, passphrase = folder_of(existing(), folder), passphrase_of(passphrase_file)
    if drop_older:
        with wallet.editing(path, passphrase) as editor:
            for root in editor.drop_older_roots():
                output.done(output.said(Message("this root is not believed any more: {name}", name=_name(root))))
    output.table(
        "Roots",
        ("Name", "Until", "Key SHA-256"),
        [
            (_name(root), root.not_valid_after_utc.date().isoformat(), spki_sha256(root.public_key()).hex())
            for root in Wallet.open(path, passphrase).roots
        ],
    )


def accept_root(
    file: Annotated[Path, typer.Argument(help="The certificate of the next root, DER or PEM, from wherever it came.")],
    folder: WalletFolder = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Believe the root that follows the newest one of this wallet; every other is refused, with the reason."""
    found = existing()
    candidate = _read(file)
    known = load_hierarchy(found.home.pki).anchors
    with wallet.editing(folder_of(found, folder), passphrase_of(passphrase_file)) as editor:
        editor.accept_root(candidate, now=datetime.now(UTC), known=known)
    output.emit(
        {"root": _name(candidate), "key": spki_sha256(candidate.public_key()).hex()},
        [output.said(Message("the next root is believed from now on: {name}", name=_name(candidate)))],
    )


def _read(file: Path) -> x509.Certificate:
    content = file.read_bytes()
    try:
        if content.startswith(b"-----"):
            return x509.load_pem_x509_certificate(content)
        return x509.load_der_x509_certificate(content)
    except ValueError:
        output.fail(Message("{file} is no certificate", file=file))


def _name(certificate: x509.Certificate) -> str:
    return output.plain(certificate.subject.rfc4514_string())
