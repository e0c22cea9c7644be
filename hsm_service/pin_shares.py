"""A PIN in shares of words: N custodians hold one each, any M of them restore it, fewer know nothing (SLIP-39).

The library is SatoshiLabs' reference implementation. Its authors warn that it is not hardened against side channels:
here it runs at a ceremony, on a machine that nobody else uses, where the restored PIN itself lies in memory. What it
gives is a format that other software and devices read, whose words carry a checksum of their own.

What is shared is an envelope, so that a PIN is known to be right before a token ever sees it (a wrong one costs a try):

    header    1 byte    0x80 + number of digits, or the number of bytes
    value               the digits as a number, or the bytes
    zeros               until the whole is an even number of bytes, 16 at least
    tag       6 bytes   SHA-256 over the label of the token, header and value

The tag stands inside what is shared: outside, it would let whoever reads it try all PINs of sixteen digits. Beside the
PIN file lies a record without secrets: which set of shares it is, how many are needed, who holds which.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from shamir_mnemonic import MnemonicError, Share, combine_mnemonics, generate_mnemonics
from shamir_mnemonic.wordlist import WORDLIST

from hsm_service.token_layout import pin_file
from runtime.secrets import Secret
from runtime.settings import Home

MOST: Final = 16
"""Shares of a set at most, as SLIP-39 has it."""
_FEWEST_NEEDED: Final = 2
_LONGEST_PIN: Final = 63
_DIGITS: Final = 0x80
_TAG: Final = 6
_SMALLEST: Final = 16
_ITERATION_EXPONENT: Final = 0  # the words are not encrypted under a passphrase: nothing to stretch
_PREFIX: Final = 4
_BY_PREFIX: Final = {word[:_PREFIX]: word for word in WORDLIST}


class ShareError(Exception):
    """A share, or a set of them, that restores nothing; the message repeats no word. Nothing was tried on a token."""


@dataclass(frozen=True, slots=True)
class ShareSet:
    """What is known of a set of shares without any of them: `custodians` hold shares 1, 2, … in this order."""

    token: str
    number: int
    needed: int
    custodians: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write the record, in place of an older one."""
        draft = path.with_name(f".{path.name}.new")
        draft.write_text(json.dumps(asdict(self), ensure_ascii=False) + "\n", encoding="utf-8")
        draft.chmod(0o600)
        os.replace(draft, path)  # noqa: PTH105 - one step for every reader

    @classmethod
    def load(cls, path: Path) -> ShareSet:
        """Read the record; ShareError if it is not one."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            made = cls(str(found["token"]), int(found["number"]), int(found["needed"]), tuple(found["custodians"]))
        except (OSError, ValueError, KeyError, TypeError):
            raise ShareError(f"{path} is not the record of a set of shares") from None
        if not _FEWEST_NEEDED <= made.needed <= len(made.custodians) <= MOST:
            raise ShareError(f"{path} is not the record of a set of shares")
        return made


@dataclass(frozen=True)
class PinShare:
    """One share as it was spoken: the number of its set, its own number (from 1), how many are needed."""

    set_number: int
    number: int
    needed: int
    words: Secret


def record_file(home: Home, label: str) -> Path:
    """Where the record of a token's set of shares is: beside its PIN file."""
    return pin_file(home, label).with_suffix(".shares")


def split(label: str, pin: Secret, needed: int, custodians: Sequence[str]) -> tuple[ShareSet, tuple[PinShare, ...]]:
    """Shares of the PIN of the token `label`, one a custodian, of which `needed` restore it.

    Raises ShareError: fewer than two needed, more needed than there are, more than 16, a custodian named twice, a PIN
    that is empty or longer than 63 bytes.
    """
    names = tuple(custodians)
    if not _FEWEST_NEEDED <= needed <= len(names) <= MOST:
        raise ShareError(f"at least {_FEWEST_NEEDED} shares are needed, of {MOST} at most; each has a custodian")
    if len(set(names)) != len(names) or not all(names):
        raise ShareError("each share has a custodian of its own")
    ((*mnemonics,),) = generate_mnemonics(
        1, [(needed, len(names))], _envelope(label, pin), iteration_exponent=_ITERATION_EXPONENT
    )
    shares = tuple(_read(words) for words in mnemonics)
    return ShareSet(label, shares[0].set_number, needed, names), shares


def read_share(spoken: str) -> PinShare:
    """A share from words in any case, whole or by their first four letters; ShareError if it is none."""
    words = [_BY_PREFIX.get(word[:_PREFIX].lower(), "") for word in spoken.split()]
    whole = all(
        word and word.startswith(said.lower()) and len(said) >= min(_PREFIX, len(word))
        for word, said in zip(words, spoken.split(), strict=True)
    )
    if not words or not whole:
        raise ShareError("a word is not in the list")
    return _read(" ".join(words))


def join(label: str, shares: Sequence[PinShare], of: ShareSet | None = None) -> Secret:
    """The PIN of the token `label`, from exactly as many different shares of one set as it needs.

    Raises ShareError: too few or too many, one twice, of different sets, of another set than `of`, of another token,
    or altered.
    """
    for before, share in enumerate(shares):
        check_next(shares[:before], share, of)
    if not shares or len(shares) != shares[0].needed:
        raise ShareError(f"{len(shares)} shares; {shares[0].needed if shares else 'more'} are needed")
    try:
        envelope = combine_mnemonics([share.words.reveal().decode() for share in shares])
    except MnemonicError:
        raise ShareError("the shares do not restore a PIN: they are of different sets") from None
    return _opened(label, envelope)


def check_next(before: Sequence[PinShare], share: PinShare, of: ShareSet | None = None) -> None:
    """Whether `share` can stand beside those `before`; raises ShareError."""
    expected = of.number if of is not None else before[0].set_number if before else share.set_number
    if share.set_number != expected or (of is not None and share.needed != of.needed):
        raise ShareError(f"this share is of set {share.set_number}, not {expected}")
    if of is not None and share.number > len(of.custodians):
        raise ShareError(f"there is no share {share.number} in set {expected}")
    if any(share.number == other.number for other in before):
        raise ShareError(f"share {share.number} was given already")


def _read(words: str) -> PinShare:
    try:
        share = Share.from_mnemonic(words)
    except MnemonicError:
        raise ShareError("these words are not a share: one is wrong, missing or out of place") from None
    if share.group_count != 1 or share.group_threshold != 1:
        raise ShareError("this share is of a set with groups, which is not ours")
    return PinShare(share.identifier, share.index + 1, share.member_threshold, Secret(words.encode()))


def _envelope(label: str, pin: Secret) -> bytes:
    clear = pin.reveal()
    if not 0 < len(clear) <= _LONGEST_PIN:
        raise ShareError(f"a PIN in shares has 1 to {_LONGEST_PIN} bytes")
    if clear.isdigit():
        number = int(clear)
        header, value = _DIGITS | len(clear), number.to_bytes(_length(len(clear)), "big")
    else:
        header, value = len(clear), clear
    content = bytes([header]) + value
    length = max(_SMALLEST, len(content) + _TAG)
    return content.ljust(length + length % 2 - _TAG, b"\0") + _tag(label, content)


def _opened(label: str, envelope: bytes) -> Secret:
    header = envelope[0]
    digits = header & ~_DIGITS
    length = _length(digits) if header & _DIGITS else digits
    content, rest = envelope[: 1 + length], envelope[1 + length : -_TAG]
    if any(rest) or not hmac.compare_digest(envelope[-_TAG:], _tag(label, content)):
        raise ShareError(f"the shares restore no PIN of token {label!r}: they are of another token, or altered")
    if header & _DIGITS:
        return Secret(str(int.from_bytes(content[1:], "big")).zfill(digits).encode())
    return Secret(content[1:])


def _length(digits: int) -> int:
    """Bytes that hold a number of so many digits."""
    return -(-len(f"{10**digits - 1:b}") // 8)


def _tag(label: str, content: bytes) -> bytes:
    return hashlib.sha256(b"kwbp-pin-shares-1\0" + label.encode() + b"\0" + content).digest()[:_TAG]
