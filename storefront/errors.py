"""What can go wrong in the wallet and the shop, apart from the protocol's own refusals (`kwbp.errors`).

StorefrontError            set up wrongly: a key file, a certificate
├── WalletError            the wallet file, or a record of a purchase
│   ├── WalletLocked       wrong passphrase, or the file was changed: one error for both
│   ├── WalletBusy         another process has the wallet open
│   └── NoSuchCard         the wallet holds no card of that label
├── CatalogueError         the shop's catalogue is not as expected
├── EvidenceError          a bundle cannot be exported
│   └── BundleRefused      a folder is not the bundle of a purchase; nothing in it is judged
├── OrderBookError         a change that the merchant's order book refuses
│   ├── XidAlreadyUsed     the order is not in the state that the change starts from
│   ├── RrpidAlreadyUsed   another message of the same kind came with this RRPID
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
from runtime.language import ToldError


class StorefrontError(Exception):
    """Base of all."""


class WalletError(StorefrontError):
    """The wallet cannot do what was asked."""


class WalletLocked(WalletError):
    """The passphrase is wrong or the file is not as the wallet wrote it."""


class WalletBusy(WalletError):
    """Another process has the wallet open for writing."""


class NoSuchCard(WalletError):
    """There is no card of that label."""


class CatalogueError(StorefrontError):
    """The shop's catalogue is not as expected."""


class EvidenceError(StorefrontError):
    """The records of a purchase do not make a bundle."""


class BundleRefused(EvidenceError, ToldError):
    """A folder is no bundle: a file missing, foreign, altered since the export, or not in its form."""


class OrderBookError(StorefrontError):
    """The order book refuses a change."""


class XidAlreadyUsed(OrderBookError):
    """The order is not in the state that the change starts from."""


class RrpidAlreadyUsed(OrderBookError):
    """Another message of the same kind came with this RRPID (K3)."""


class DocumentMissing(OrderBookError):
    """The order has no object of this kind, although its state says so: the order book is damaged."""


class NoAnswer(StorefrontError):
    """Nothing came back that can be believed; the same bytes may be sent again."""


class NoMessage(NoAnswer):
    """What came back is no KwbpMessage, whatever else it may be; the text says what, without quoting it."""


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
