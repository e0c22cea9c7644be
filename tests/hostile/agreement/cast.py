"""Who takes part, made once for a process: certificates, software keys, two cards with money behind them.

Two buyers, two merchants, two gateways of one acquirer. The second gateway serves nobody: it exists so that a dishonest
one has good certificates. Every article and address is a canary that the gateway and the switch must never see.
"""

from __future__ import annotations

import atexit
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding

from hsm_service.errors import DecodingFailure
from kwbp.commitment import commitment_cn
from pki.cms_enveloped import oaep
from pki.path import Trust
from runtime.database import open_database
from shetab import pin_block
from shetab.mac import aes_cmac
from shetab.types import Rial
from storefront.merchant.catalogue import Catalogue
from storefront.wallet.wallet import CardCredential
from switch.bank import Bank, transact_on
from switch.issuer_keys import IssuerKeys
from switch.records import IssuedCard
from tests.kwbp.world import site as site_names
from tests.support.pki_factory import NOW, Credential, PkiFactory, rsa_key, unseal

ACQUIRER: Final = "603770"
CARD_BIN: Final = "603770"
OPENING: Final = 100_000_000
MERCHANTS: Final = ("M-1", "M-2")
BUYERS: Final = ("B-1", "B-2")
TERMINALS: Final = {"M-1": "T0000001", "M-2": "T0000002"}
ORIGINS: Final = {"M-1": "https://one.example", "M-2": "https://two.example"}
SKU: Final = "canary-sku"
ARTICLE: Final = "canary article"
ADDRESS: Final = "canary street 7"
PRICES: Final = {"M-1": 150_000, "M-2": 90_000}
PIN_KEY: Final = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
MAC_KEY: Final = bytes(range(16))
_VAULT_KEY: Final = bytes(range(32))
_CARD_KEY: Final = bytes(range(32, 64))
_ISSUER_KEY: Final = b"\x07" * 32
_TRUST_LIVES: Final = timedelta(hours=6)


@dataclass(frozen=True)
class Cardholder:
    """A buyer with one card."""

    name: str
    issued: IssuedCard
    credential: Credential
    card: CardCredential


class SoftwareToken:
    """The token operations that opening an order needs (`gateway_keys.orders`), with keys in memory."""

    def unwrap_and_decrypt_gcm(
        self, ref: Any, suite: Any, encrypted_key: bytes, nonce: bytes, ciphertext: bytes, tag: bytes
    ) -> bytes:
        try:
            content_key = rsa_key(0).decrypt(encrypted_key, oaep(suite))
            return AESGCM(content_key).decrypt(nonce, ciphertext + tag, None)
        except Exception:
            raise DecodingFailure from None

    def aes_gcm_encrypt(self, ref: Any, plaintext: bytes, aad: bytes) -> bytes:
        nonce = random.randbytes(12)
        return nonce + AESGCM(_VAULT_KEY).encrypt(nonce, plaintext, aad)

    def aes_gcm_decrypt(self, ref: Any, sealed: bytes, aad: bytes) -> bytes:
        try:
            return AESGCM(_VAULT_KEY).decrypt(sealed[:12], sealed[12:], aad)
        except Exception:
            raise DecodingFailure from None

    def aes_cmac(self, ref: Any, data: bytes) -> bytes:
        return aes_cmac(MAC_KEY, data)

    def keyed_digest(self, ref: Any, data: bytes) -> bytes:
        return aes_cmac(_CARD_KEY, data)

    def des3_ecb_encrypt(self, ref: Any, block: bytes) -> bytes:
        return pin_block.encrypt(block, PIN_KEY)

    def random(self, length: int) -> bytes:
        return random.randbytes(length)


@dataclass
class Cast:
    """All certificates and keys; the bank's database as it is before the first purchase."""

    pki: PkiFactory
    merchants: dict[str, Credential]
    buyers: dict[str, Cardholder]
    gateway_signing: dict[str, Credential]
    gateway_encryption: dict[str, Credential]
    bank: Path
    issuer_keys: IssuerKeys
    _trust: dict[int, Trust] = field(default_factory=dict)

    def trust(self, now: datetime) -> Trust:
        """What everybody believes at `now`: lists of the last hours."""
        number = int((now - NOW) / _TRUST_LIVES)
        if number not in self._trust:
            self._trust[number] = self.pki.trust(NOW + number * _TRUST_LIVES)
        return self._trust[number]


def catalogue(merchant: str) -> Catalogue:
    """One article."""
    text = {"fa": "کتاب", "en": "Bookshop"}
    article = {"sku": SKU, "name": {"fa": ARTICLE, "en": ARTICLE}, "price": PRICES[merchant]}
    return Catalogue.model_validate({"shop": text, "terms": text, "articles": [article]})


@cache
def cast() -> Cast:
    """The cast of this process."""
    pki = PkiFactory()
    rng = random.Random(1404)
    folder = Path(tempfile.mkdtemp(prefix="agreement-cast-", dir=memory()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    issuer_keys = IssuerKeys(_ISSUER_KEY)
    engine = open_database(folder / "bank.sqlite")
    bank = Bank(transact_on(engine), issuer_keys, rng=rng.randbytes, clock=lambda: NOW)
    bank.register_acquirer(ACQUIRER, "Acquirer")
    buyers = {name: _cardholder(name, bank, pki, rng.randbytes) for name in BUYERS}
    engine.dispose()
    return Cast(
        pki=pki,
        merchants={
            name: pki.merchant(name, acquirer_bin=ACQUIRER, replace=site_names(name, ORIGINS[name]))
            for name in MERCHANTS
        },
        buyers=buyers,
        gateway_signing={name: pki.gateway_signing(name, acquirer_bin=ACQUIRER) for name in ("GW-1", "GW-2")},
        gateway_encryption={
            name: pki.gateway_encryption(name, acquirer_bin=ACQUIRER, key=rsa_key(number))
            for number, name in enumerate(("GW-1", "GW-2"))
        },
        bank=folder / "bank.sqlite",
        issuer_keys=issuer_keys,
    )


def _cardholder(name: str, bank: Bank, pki: PkiFactory, rng: Callable[[int], bytes]) -> Cardholder:
    account = bank.open_account(CARD_BIN, holder=f"Member {name}", balance=Rial(OPENING))
    issued = bank.issue_card(account.iban)
    secret = rng(32)
    credential = pki.cardholder(commitment_cn(secret, issued.pan, issued.expiry))
    card = CardCredential(
        label=name,
        pan=issued.pan,
        expiry=issued.expiry,
        card_secret=rng(32),
        pan_secret=secret,
        key=credential.key,
        certificate=credential.certificate,
        chain=credential.chain,
    )
    return Cardholder(name, issued, credential, card)


def memory() -> str | None:
    """A folder in memory for databases that live for a second, if there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def copy_of_bank(target: Path) -> None:
    """The bank before the first purchase."""
    shutil.copyfile(cast().bank, target)


def opened_by(gateway: str, envelope: bytes) -> bytes:
    """What the holder of a gateway's key finds in an envelope."""
    key = cast().gateway_encryption[gateway].key
    return unseal(envelope, key)  # type: ignore[arg-type]


def chain_of(credential: Credential) -> tuple[bytes, ...]:
    """A certificate and those above it, DER, without the root."""
    return tuple(each.public_bytes(Encoding.DER) for each in (credential.certificate, *credential.chain))
