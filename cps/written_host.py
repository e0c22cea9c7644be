"""Hosts and web origins as certificates carry them: ASCII, every label as RFC 1123 and IDNA 2008 (RFC 5891) want it.

A label that begins with `xn--` is read back into its letters. They must be of one script and of the alphabets that
names are written in (`cps.written_text`), so that no shop is certified for a host that reads as another one's.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address
from typing import Final

import idna

from cps.written_text import DIGITS, LATIN, MARKS, PERSIAN, TextError, alphabet_fault, named, spelling_fault
from runtime.language import Message

MAX_HOST: Final = 253  # characters (RFC 1035 2.3.4, without the length octets)
_MAX_LABEL: Final = 63
_MAX_PORT: Final = 65535
_ACE: Final = "xn--"
_LDH: Final = frozenset("abcdefghijklmnopqrstuvwxyz-") | DIGITS
_LETTERS: Final = frozenset(each for each in LATIN if each == each.lower()) | PERSIAN | MARKS | DIGITS | {"-"}
_HTTPS: Final = "https://"

LONG: Final = "a host has at most {most} characters, each of its labels {label}"
LABEL: Final = "a label of a host begins and ends with a letter or digit, and is not empty"
ADDRESS: Final = "a host that ends in a number is not an IPv4 address"
NO_LDH: Final = "{character} is not written in a host: a-z, 0-9 and hyphens, other letters in their xn-- form"
NO_IDNA: Final = "a label in xn-- form is not one that IDNA 2008 makes"
PORT: Final = "a port is a number from 1 to {most}, without leading zeros"
ORIGIN: Final = "an origin is https://, a host, and a port if it is not 443; nothing follows"


def check_host(host: str) -> str:
    """The host itself (a DNS name or an IPv4 address); raises TextError naming the rule."""
    labels = host.split(".")
    if len(host) > MAX_HOST or any(len(label) > _MAX_LABEL for label in labels):
        raise TextError(Message(LONG, most=MAX_HOST, label=_MAX_LABEL))
    for label in labels:
        _check_label(label)
    if labels[-1].isdigit():
        try:
            IPv4Address(host)
        except AddressValueError:
            raise TextError(Message(ADDRESS)) from None
    return host


def check_origin(origin: str) -> str:
    """The origin itself (RFC 6454, https alone); raises TextError naming the rule."""
    host, colon, port = origin.removeprefix(_HTTPS).partition(":")
    if not origin.startswith(_HTTPS) or "/" in host:
        raise TextError(Message(ORIGIN))
    check_host(host)
    if colon and not (port.isascii() and port.isdigit() and port[0] != "0" and int(port[:6]) <= _MAX_PORT):
        raise TextError(Message(PORT, most=_MAX_PORT))
    return origin


def _check_label(label: str) -> None:
    foreign = next((character for character in label if character not in _LDH), None)
    if foreign is not None:
        raise TextError(Message(NO_LDH, character=named(foreign)))
    if not label or label[0] == "-" or label[-1] == "-":
        raise TextError(Message(LABEL))
    if label[2:4] == "--":
        _check_international(label)


def _check_international(label: str) -> None:
    try:
        letters = idna.ulabel(label)
        same = idna.alabel(letters).decode() == label
    except idna.IDNAError:
        same = False
    if not same or not label.startswith(_ACE):
        raise TextError(Message(NO_IDNA))
    fault = alphabet_fault(letters, _LETTERS) or spelling_fault(letters)
    if fault is not None:
        raise TextError(fault)
