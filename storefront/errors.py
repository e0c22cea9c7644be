"""What can go wrong in the wallet and the shop, apart from the protocol's own refusals.

StorefrontError
├── WalletError          the wallet file
│   ├── WalletLocked     wrong passphrase, or the file was changed: one error for both
│   ├── WalletBusy       another process has the wallet open
│   └── NoSuchCard       the wallet holds no card of that label
├── CatalogueError       the shop's catalogue is not as expected
└── EvidenceError        a bundle cannot be exported
"""

from __future__ import annotations


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
