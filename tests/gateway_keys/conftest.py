"""A gateway token with its four keys, and a PKI whose gateway certificate is on the token's own key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from cryptography import x509

from gateway_keys import zone_keys
from gateway_keys.orders import OrderKeys
from hsm_service.keys import KeyKind, KeyRef, Usage
from hsm_service.private_key import TokenRsaPrivateKey
from hsm_service.tokens import Token
from pki.cms_enveloped import SealingSuite, seal
from pki.path import Trust
from runtime.settings import Home
from tests.support.pki_factory import PkiFactory
from tests.support.sealed_orders import OrderMaker
from tests.support.softhsm import opened, provisioned_home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = provisioned_home(tmp_path_factory.mktemp("gateway-keys"))
    zone_keys.make_components(home.secrets)
    return home


@pytest.fixture(scope="module")
def token(home: Home) -> Iterator[Token]:
    with opened(home, "gateway") as token:
        yield token


@dataclass(frozen=True)
class Gateway:
    """The gateway's side: its keys in the token and the PKI around it."""

    keys: OrderKeys
    zone_mac: KeyRef
    certificate: x509.Certificate
    pki: PkiFactory
    trust: Trust
    orders: OrderMaker

    def uses(self) -> int:
        """How often any private or secret key of the gateway was used."""
        keys = self.keys
        used = (keys.encryption, keys.vault, keys.cards, keys.zone_pin, self.zone_mac)
        return sum(keys.token.uses(ref) for ref in used)


@pytest.fixture(scope="module")
def gateway(token: Token, home: Home) -> Gateway:
    encryption, _public = token.generate_rsa("gateway-encryption", 3072, usage=Usage.OPEN)
    pin, mac = (zone_keys.read_components(home.secrets, each) for each in zone_keys.WORKING_KEYS)
    zone_pin = token.import_zone_key("zone-pin", KeyKind.DES2, pin, usage=Usage.PIN_BLOCK)
    zone_mac = token.import_zone_key("zone-mac", KeyKind.AES, mac, usage=Usage.MAC)
    pki = PkiFactory()
    in_token = TokenRsaPrivateKey(token, encryption)
    certificate = pki.gateway_encryption(key=in_token, suites=("oaep-sha1",)).certificate
    vault, cards = token.generate_aes("gateway-vault"), token.generate_aes("gateway-card-ids", usage=Usage.DIGEST)
    keys = OrderKeys(token, encryption, vault, cards, zone_pin)
    trust = Trust(anchors=(pki.root.certificate,))
    return Gateway(keys, zone_mac, certificate, pki, trust, OrderMaker(pki, certificate, seal_with_our_library))


def seal_with_our_library(plaintext: bytes, recipient: x509.Certificate) -> bytes:
    return seal(plaintext, recipient, SealingSuite.OAEP_SHA1, rng=os.urandom)
