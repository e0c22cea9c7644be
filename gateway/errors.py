"""Errors of `gateway`. None ever holds a PAN, PIN, CVV2, expiry or key.

GatewayError
├── StoreError
│   ├── StateConflictError     an order is not (or no longer) in the state that a step starts from
│   ├── UnknownOrderError      no order of this merchant has this XID
│   ├── StoreLockedError       another gateway process has this database open
│   └── StanExhaustedError     an acquirer's 999,999 trace numbers of one business day are used up
├── LinkError
│   ├── LinkDownError          the message did not leave: the outcome is certain, nothing happened
│   │   ├── LinkBusyError      because too many are under way already
│   │   └── NotAcceptedError   it left, and the other side says that it took nothing in
│   └── NoAnswerError          the message may have left and no answer can be believed: the outcome is unknown
├── RoutingError               the routes name a connector that there is none of, or a prefix that is none
├── LimitExceededError         an order would use more than a rule of limits leaves
├── LimitRulesError            the file of limits is wrong, or not there
├── CardKeyError               the key by which cards are told apart is not the one that the database knows
├── CardBusyError              another reversal of the same card is under way
├── OrderCommandError          an operator asks for what the rules do not allow
├── MerchantRegistryError      a merchant's registration is refused
│   └── TerminalTakenError     its terminal is registered for another
└── IdentityError              the gateway's keys have no certificates, or another gateway's

A commit that fails is `runtime.group_writer.DatabaseUnavailableError`: nothing that depended on it may happen.
Refusals of the protocol are not here: they are `kwbp.errors.ProtocolError` with SET's code and the check that refused.
"""

from __future__ import annotations

from runtime.language import Message, Text, ToldError


class GatewayError(Exception):
    """Base of everything this package raises."""


class StoreError(GatewayError):
    """The order book refused or failed."""


class StateConflictError(StoreError):
    """Compare-and-set found another state: someone else moved the order first."""

    def __init__(self, expected: Text, found: Text) -> None:
        super().__init__(f"expected the order in state {expected}, found {found}")
        self.expected = expected
        self.found = found


class UnknownOrderError(StoreError):
    """There is no such order of this merchant."""


class StoreLockedError(StoreError):
    """Two processes on one order book would each send the same reversals."""


class StanExhaustedError(StoreError):
    """One more trace number today would repeat one: refused, because answers could not be told apart."""


class LinkError(GatewayError):
    """The line to the switch."""


class LinkDownError(LinkError):
    """Not connected or not signed on; no byte of this message was written."""


class LinkBusyError(LinkDownError):
    """As much as may be under way at once is under way: it would be answered after its time."""


class NotAcceptedError(LinkDownError):
    """Refused by the other side before it was worked on, and said so in a way that can be believed."""


class NoAnswerError(LinkError):
    """Written, in whole or in part, and not answered in time."""


class RoutingError(GatewayError):
    """A route table that leads nowhere."""


class IdentityError(GatewayError):
    """The certificates of the gateway's keys do not make the gateway that the settings name."""


class MerchantRegistryError(ToldError, GatewayError):
    """A registration that cannot be carried out, or contradicts another one."""


class TerminalTakenError(MerchantRegistryError):
    """The terminal is another merchant's."""


class LimitExceededError(GatewayError):
    """Refused by a rule of limits; `rc` is DE 39, 61 for an amount and 65 for a number of orders."""

    def __init__(self, rule: str, rc: str) -> None:
        super().__init__(f"refused by the rule {rule}")
        self.rule = rule
        self.rc = rc


class LimitRulesError(GatewayError):
    """Rules of limits that cannot be in force."""


class CardKeyError(GatewayError):
    """Cards would be told apart by another key than before, and each would begin anew with its limits."""


class CardBusyError(GatewayError):
    """Reversals of one card go one at a time."""


class OrderCommandError(ToldError, GatewayError):
    """What an operator asked for is not allowed; `clause` says by which rule."""

    def __init__(self, clause: str, told: Message) -> None:
        super().__init__(told)
        self.clause = clause
