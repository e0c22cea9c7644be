"""Errors of `kwbp`.

ProtocolError                       a message was refused: code of the protocol, id of the check, a safe sentence
└── SealedContentError              refused after the card data were opened: outsiders learn `decodingFailure` alone
    ├── SealedCardError             the same at the card's bank, in registration
    └── SealedPasswordRequestError  the same of a request for a one-time password

A `CommitmentError` (ValueError) says that secrets handed to `kwbp.commitment` cannot protect a card number.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from kwbp.checks import CHECKS
from kwbp.codes import ErrorCode

_COLLAPSED: Final = {ErrorCode.MISSING_CERTIFICATE: ErrorCode.DECODING_FAILURE}


class ProtocolError(Exception):
    """A message breaks the protocol.

    `code` is the exact cause, for the receiver's own audit log; `outward` is what an Error message may say.
    `check` is the id of the check that refused (`kwbp.checks.CHECKS`); `detail` says in English what was expected,
    and holds no card data, no key and no text taken from the message. `time_hint` is the receiver's clock, set where
    the signing time was out of the window (rule 6: a peer may *explain* clock skew with it, never adjust to it).
    """

    def __init__(self, code: ErrorCode, check: str, detail: str, *, time_hint: datetime | None = None) -> None:
        if check not in CHECKS:
            raise ValueError(f"no check of the protocol has the id {check!r}")
        super().__init__(f"{check} {code.protocol_name}: {detail}")
        self.code = code
        self.check = check
        self.detail = detail
        self.time_hint = time_hint

    @property
    def outward(self) -> ErrorCode:
        """The code that the other side may learn."""
        return _COLLAPSED.get(self.code, self.code)

    @property
    def outward_check(self) -> str:
        """The check id that the other side may learn."""
        return self.check


class SealedContentError(ProtocolError):
    """The opened card data are not what was signed, or not this card's (G9, G10).

    Which of them it was is an oracle in the hands of whoever can submit orders, therefore every one of these looks the
    same from outside: `decodingFailure` at G8, as if the envelope had not opened.
    """

    @property
    def outward(self) -> ErrorCode:
        return ErrorCode.DECODING_FAILURE

    @property
    def outward_check(self) -> str:
        return "G8"


class SealedCardError(SealedContentError):
    """The opened card data of a registration are not in form, or for another request (F5): looks as if F4 failed."""

    @property
    def outward_check(self) -> str:
        return "F4"


class SealedPasswordRequestError(SealedContentError):
    """What was sealed is no request for a password, or about another card (P3, P4): looks as if it had not opened."""

    @property
    def outward_check(self) -> str:
        return "P3"


class CommitmentError(ValueError):
    """A secret is too short, or a constant: a commitment made with it would let card numbers be guessed."""
