"""The frame of every protocol message from a merchant: read, handed on, and refused, in one place.

What a handler says of a message is its own; that a message is one of the kinds it takes (K1 to K3), and how a refusal
is answered and put on the record, is said here for all of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from cryptography import x509

from gateway.refusals import Refusals
from kwbp.errors import ProtocolError
from kwbp.wrapper import KwbpMessage, unwrap

A = TypeVar("A")


async def receive(
    refusals: Refusals,
    tls_merchant_id: str,
    data: bytes,
    expected: tuple[x509.ObjectIdentifier, ...],
    handle: Callable[[KwbpMessage], Awaitable[A]],
) -> A | bytes:
    """What `handle` answers to the message in `data` (DER KwbpMessage), or an Error (DER KwbpMessage).

    :param tls_merchant_id: the merchant at the other end of the TLS connection, for the record.
    :raises Problem: 503 while something that is needed is away: send the same again.
    """
    message: KwbpMessage | None = None
    try:
        message = unwrap(data, expected=expected)
        return await handle(message)
    except ProtocolError as error:
        return await refusals.answer(error, f"merchant:{tls_merchant_id}", data, message)
