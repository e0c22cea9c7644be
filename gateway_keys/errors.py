"""Errors of the gateway's token operations.

    GatewayKeysError
    ├── OrderRefusedError      refused before anything was opened: names the check (KWBP G1, G6, G7, K5) and its code
    ├── DecodingFailedError    refused at or after opening (G8 to G10): one answer, whatever the cause
    ├── BlobError              a sealed PAN that does not open for this XID
    └── ZoneKeyError           components that are missing, malformed, or make another key than the token holds

No error holds card data, and none is chained to an exception that was raised while card data was at hand.
"""

from __future__ import annotations

from kwbp.codes import ErrorCode


class GatewayKeysError(Exception):
    """Base of this package's errors."""


class OrderRefusedError(GatewayKeysError):
    """The order was refused while it was still sealed; `check` and `code` as in `kwbp.errors.ProtocolError`."""

    def __init__(self, check: str, code: ErrorCode, detail: str) -> None:
        super().__init__(f"{check} {code.protocol_name}: {detail}")
        self.check = check
        self.code = code
        self.detail = detail


class DecodingFailedError(GatewayKeysError):
    """The envelope did not open, or holds something else than was signed. `cause` is for the journal alone."""

    def __init__(self, cause: str) -> None:
        super().__init__("the sealed data could not be opened")
        self.cause = cause


class BlobError(GatewayKeysError):
    """A sealed PAN does not open: other bytes, another XID, or another key."""

    def __init__(self) -> None:
        super().__init__("the sealed card number could not be opened for this order")


class ZoneKeyError(GatewayKeysError):
    """Zone-key components are missing or malformed, or do not make the key that the token holds."""
