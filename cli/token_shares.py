"""`kwbp token pin split|join-check`: a token's PIN as shares of words, of which so many custodians restore it.

Shares are shown one after the other on a screen of their own, which is gone when its custodian has written it down; or
written to files, if that is asked for. They are no part of any answer, log or argument.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli import output
from cli.state import Installation, existing
from hsm_service.logged_in import LoggedInToken
from hsm_service.pin_shares import PinShare, ShareError, ShareSet, record_file, split
from hsm_service.pin_sources import PinFile, PinShares
from hsm_service.pkcs11_module import load_module
from hsm_service.token_layout import pin_file, so_pin_file
from hsm_service.token_source import token_source
from runtime.secrets import Secret, write_secret

_IN_A_LINE = 5

Label = Annotated[str, typer.Argument(help="Label of the token: see 'kwbp token list'.")]


def split_pin(
    label: Label,
    needed: Annotated[int, typer.Option("--needed", help="How many shares restore the PIN.")],
    custodian: Annotated[list[str], typer.Option(help="Who gets a share; one option a custodian.")],
    files: Annotated[
        Path | None, typer.Option(help="Write each share to a file (mode 0600) in this folder instead of showing it.")
    ] = None,
    remove_file: Annotated[
        bool, typer.Option("--remove-file", help="Remove the PIN file: from then on custodians are asked.")
    ] = False,
) -> None:
    """Split the PIN in a token's PIN file into shares of words (SLIP-39), one a custodian.

    Afterwards as many custodians as are needed type theirs in. Only if that restores the PIN, and the token takes it,
    is the set recorded and, if asked for, the PIN file removed.
    """
    found = existing()
    source = token_source(found.home, found.settings, label)
    if not isinstance(source.pin, PinFile):
        output.fail(f"the PIN of token {label} comes from {source.pin}, not from a file")
    try:
        pin = source.pin()
        of, shares = split(label, pin, needed, custodian)
    except ShareError as error:
        output.fail(str(error))
    _hand_out(of, shares, files)
    output.note(f"Now {needed} of the custodians type in what they have written down.")
    if PinShares(label, of)() != pin:
        output.fail("the shares restore another PIN; nothing was changed")
    _log_in(found, label, pin)
    of.save(record_file(found.home, label))
    if remove_file:
        source.pin.path.unlink()
        if so_pin_file(found.home, label).exists():
            output.note(
                f"{so_pin_file(found.home, label)} still resets the PIN of token {label}: put it into a safe, "
                "and off this machine."
            )
    output.emit(
        {"token": label, "set": of.number, "needed": needed, "custodians": custodian, "file_removed": remove_file},
        [f"Set {of.number}: {needed} of {len(custodian)} shares restore the PIN of token {output.plain(label)}."],
    )


def join_check(
    label: Label,
    restore_file: Annotated[
        bool, typer.Option("--restore-file", help="Write the PIN to its file again; the set is forgotten.")
    ] = False,
) -> None:
    """Have custodians type in their shares, and say whether they restore the token's PIN. No token is touched.

    That it is right is known from the shares themselves. With '--restore-file' the token is logged in to, once.
    """
    found = existing()
    record = record_file(found.home, label)
    try:
        of = ShareSet.load(record) if record.exists() else None
    except ShareError as error:
        output.fail(str(error))
    pin = PinShares(label, of)()
    if restore_file:
        _log_in(found, label, pin)
        write_secret(pin_file(found.home, label), pin.reveal())
        record.unlink(missing_ok=True)
    output.emit(
        {"token": label, "set": None if of is None else of.number, "restores": True, "file_restored": restore_file},
        [f"The shares restore the PIN of token {output.plain(label)}."],
    )


def register(app: typer.Typer) -> None:
    """Add the commands to `kwbp token pin`."""
    app.command("split")(split_pin)
    app.command("join-check")(join_check)


def _hand_out(of: ShareSet, shares: tuple[PinShare, ...], files: Path | None) -> None:
    screen = Console(stderr=True, highlight=False)
    if files is None and not screen.is_terminal:
        output.fail("shares are shown on a terminal, and there is none", hint="--files writes them to files")
    for name, share in zip(of.custodians, shares, strict=True):
        words = share.words.reveal().decode().split()
        rows = [" ".join(words[start : start + _IN_A_LINE]) for start in range(0, len(words), _IN_A_LINE)]
        title = (
            f"Share {share.number} of {len(shares)} of the PIN of token {of.token}, set {of.number}, for {name}; "
            f"{of.needed} are needed"
        )
        if files is not None:
            files.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_secret(files / f"{of.token}-{of.number}-{share.number}.share", "\n".join([title, *rows, ""]).encode())
            continue
        screen.input(f"{output.plain(name)} alone looks at the screen now; press Enter. ")
        with screen.screen(hide_cursor=False):
            screen.print(output.plain(title), *rows, sep="\n")
            screen.input("Written down and compared? Press Enter. ")


def _log_in(found: Installation, label: str, pin: Secret) -> None:
    """Whether the token takes the PIN; raises PinRefused."""
    source = token_source(found.home, found.settings, label)
    module = load_module(source.module, source.configuration)
    try:
        LoggedInToken.open(module, label, pin, sessions=1).close()
    finally:
        module.finalize()
