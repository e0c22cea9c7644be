"""What a person types of a card: number and expiry once, PIN2 and CVV2 each time they are needed.

At a terminal each is asked for; a program writes all of them to standard input, as JSON (`cli.bank.read_card`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final, TypeVar

import typer

from cli import output, typed
from cli.bank import read_card
from runtime.language import Message
from shetab.errors import ValueFormatError
from shetab.types import Cvv2, Expiry, Pan, Pin

_T = TypeVar("_T")

ASCII_DIGITS: Final = str.maketrans("۰۱۲۳۴۵۶۷۸۹٠١٢٣٤٥٦٧٨٩", "01234567890123456789")
"""People type the digits of their keyboard."""


def card_to_keep() -> tuple[Pan, Expiry]:
    """Number and expiry of a card that goes into the wallet."""
    if not sys.stdin.isatty():
        card = read_card()
        return card.pan, card.expiry
    pan = _typed(Message("Card number"), Pan.parse)
    return pan, _typed(Message("Expiry, year and month in four digits"), Expiry.parse)


def card_secrets() -> tuple[Pin, Cvv2]:
    """PIN2 and CVV2, which are not kept."""
    if not sys.stdin.isatty():
        card = read_card()
        return card.pin2, card.cvv2
    pin2 = _typed(Message("PIN2 of the card"), Pin.parse, hidden=True)
    return pin2, _typed(Message("CVV2 of the card"), Cvv2.parse, hidden=True)


def _typed(what: Message, parse: Callable[[str], _T], *, hidden: bool = False) -> _T:
    prompt = output.said(what)
    while True:
        text = typed.hidden(f"{prompt}: ") if hidden else typer.prompt(prompt, err=True)
        try:
            return parse("".join(text.translate(ASCII_DIGITS).split()))
        except (ValueError, ValueFormatError):  # what it was is nobody's affair: it may be card data
            output.note(output.said(Message("this is not what was asked for; once more")))
