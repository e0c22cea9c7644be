"""Errors of `gateway`. None ever holds a PAN, PIN, CVV2, expiry or key.

GatewayError
├── StoreError
│   ├── StateConflictError     an order is not (or no longer) in the state that a step starts from
│   ├── UnknownOrderError      no order of this merchant has this XID
│   └── StoreLockedError       another gateway process has this database open
├── StanExhaustedError         an acquirer's 999,999 trace numbers of one business day are used up
├── LinkError
│   ├── LinkDownError          the message did not leave: the outcome is certain, nothing happened
│   └── NoAnswerError          the message may have left and no answer can be believed: the outcome is unknown
├── MerchantRegistryError      a merchant's registration is refused (its terminal belongs to another)
└── IdentityError              the gateway's keys have no certificates, or another gateway's

A commit that fails is `runtime.group_writer.DatabaseUnavailableError`: nothing that depended on it may happen.
Refusals of the protocol are not here: they are `kwbp.errors.ProtocolError` with SET's code and the check that refused.
"""

from __future__ import annotations


class GatewayError(Exception):
    """Base of everything this package raises."""


class StoreError(GatewayError):
    """The order book refused or failed."""


class StateConflictError(StoreError):
    """Compare-and-set found another state: someone else moved the order first."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected the order in state {expected}, found {found}")
        self.expected = expected
        self.found = found


class UnknownOrderError(StoreError):
    """There is no such order of this merchant."""


class StoreLockedError(StoreError):
    """Two processes on one order book would each send the same reversals."""


class StanExhaustedError(GatewayError):
    """One more trace number today would repeat one: refused, because answers could not be told apart."""


class LinkError(GatewayError):
    """The line to the switch."""


class LinkDownError(LinkError):
    """Not connected or not signed on; no byte of this message was written."""


class NoAnswerError(LinkError):
    """Written, in whole or in part, and not answered in time."""


class IdentityError(GatewayError):
    """The certificates of the gateway's keys do not make the gateway that the settings name."""


class MerchantRegistryError(GatewayError):
    """A registration that contradicts another one."""
