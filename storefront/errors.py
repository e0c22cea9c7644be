"""What can go wrong in the wallet and the shop, apart from the protocol's own refusals (`kwbp.errors`).

StorefrontError            set up wrongly: a key file, a certificate
├── WalletError            the wallet file, or a record of a purchase
│   ├── WalletLocked       wrong passphrase, or the file was changed: one error for both
│   ├── LockedOut          too many wrong passphrases: none is tried before a certain time
│   ├── WalletBusy         another process has the wallet open
│   ├── NoSuchCard         the wallet holds no card of that label
│   ├── TransferRefused    a file is no exported wallet, or what it holds contradicts what is here
│   ├── RootRefused        a root that the wallet does not believe
│   └── NotAsShown         what would be signed is not what the buyer was shown
├── CatalogueError         the shop's catalogue is not as expected
├── EvidenceError          a bundle cannot be exported
│   └── BundleRefused      a folder is not the bundle of a purchase; nothing in it is judged
├── OrderBookError         a change that the merchant's order book refuses
│   ├── XidAlreadyUsed     the order is not in the state that the change starts from
│   ├── RrpidAlreadyUsed   another message of the same kind came with this RRPID
│   ├── MoneyRefused       the merchant's own book has no room for what is asked after the authorisation
│   └── DocumentMissing    an object is missing that the state of the order promises
└── NoAnswer               the other side said nothing that can be believed; the same may be sent again
    ├── NoMessage          what came back is no KwbpMessage
    ├── GatewayUnreachable the merchant's gateway
    ├── UnsignedRefusal    an Error that anybody on the way may have made up
    └── ShopUnreachable    the buyer's shop

`RefusedByShop` is no failure: it carries the merchant's signed Error.
"""

from __future__ import annotations

from kwbp.errors import ProtocolError
from runtime.language import Text, ToldError


class StorefrontError(Exception):
    """Base of all."""


class WalletError(StorefrontError, ToldError):
    """The wallet cannot do what was asked."""


class WalletLocked(WalletError):
    """The passphrase is wrong or the file is not as the wallet wrote it."""


class LockedOut(WalletError):
    """Too many wrong passphrases: nothing was tried."""


class WalletBusy(WalletError):
    """Another process has the wallet open for writing."""


class NoSuchCard(WalletError):
    """There is no card of that label."""


class TransferRefused(WalletError):
    """Nothing was imported: the file is no exported wallet, or a card or root of it is not the one that is here."""


class RootRefused(WalletError):
    """A root certificate that this wallet does not believe (RFC 8649)."""


class NotAsShown(WalletError):
    """What would be signed is not what the buyer was shown; nothing was signed."""


class CatalogueError(StorefrontError):
    """The shop's catalogue is not as expected."""


class EvidenceError(StorefrontError, ToldError):
    """The records of a purchase do not make a bundle."""


class BundleRefused(EvidenceError):
    """A folder is no bundle: a file missing, foreign, altered since the export, or not in its form."""


class OrderBookError(StorefrontError):
    """The order book refuses a change."""


class XidAlreadyUsed(OrderBookError):
    """The order is not in the state that the change starts from."""


class RrpidAlreadyUsed(OrderBookError):
    """Another message of the same kind came with this RRPID (K3)."""


class MoneyRefused(OrderBookError, ToldError):
    """What is asked for cannot be: nothing was signed. `clause` names the check that the gateway would refuse it by."""

    def __init__(self, said: Text, *, clause: str | None = None) -> None:
        super().__init__(said)
        self.clause = clause


class DocumentMissing(OrderBookError):
    """The order has no object of this kind, although its state says so: the order book is damaged."""


class NoAnswer(StorefrontError):
    """Nothing came back that can be believed; the same bytes may be sent again."""


class NoMessage(NoAnswer):
    """What came back is no KwbpMessage, whatever else it may be; the text says what, without quoting it."""

    def __init__(self, said: str, *, status: int | None = None) -> None:
        super().__init__(said)
        self.status = status


class GatewayUnreachable(NoAnswer):
    """The gateway did not answer the merchant."""


class UnsignedRefusal(NoAnswer):
    """An Error that anybody on the way may have made up."""


class ShopUnreachable(NoAnswer):
    """The shop did not answer the buyer, or nothing that can be believed."""


class RefusedByShop(Exception):
    """The shop answered with an Error message that it signed: `error` says why, `signed` is its SignedData."""

    def __init__(self, error: ProtocolError, signed: bytes) -> None:
        super().__init__(str(error))
        self.error = error
        self.signed = signed
