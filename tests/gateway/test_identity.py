"""The gateway is who its two certificates say, if they say the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.errors import IdentityError
from gateway.identity import GatewayCertificates
from tests.gateway.conftest import run
from tests.support.pki_factory import Credential, PkiFactory


@dataclass
class Description:
    certificate_chain: tuple[bytes, ...]


class Registry:
    """Two keys with these certificates."""

    def __init__(self, signing: Credential | None, encryption: Credential | None) -> None:
        self._keys = {"signing": signing, "encryption": encryption}

    async def describe_key(self, name: str) -> Description:
        credential = self._keys[name]
        if credential is None:
            return Description(())
        return Description((credential.der, *(ca.public_bytes(Encoding.DER) for ca in credential.chain)))

    async def sign_cms(self, name: str, content_type: str, content: bytes) -> bytes:
        raise NotImplementedError


@pytest.fixture(scope="module")
def pki() -> PkiFactory:
    return PkiFactory()


def load(signing: Credential | None, encryption: Credential | None) -> GatewayCertificates:
    return run(
        GatewayCertificates.load(Registry(signing, encryption), signing_key="signing", encryption_key="encryption")
    )


def test_two_certificates_of_one_gateway_make_it(pki: PkiFactory) -> None:
    signing, encryption = pki.gateway_signing("GW-1"), pki.gateway_encryption("GW-1")
    found = load(signing, encryption)
    assert found.encryption.gateway_id == "GW-1"
    assert found.encryption_chain[0] == encryption.der


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda pki: (None, pki.gateway_encryption()), "no certificate yet"),
        (lambda pki: (pki.gateway_signing(), None), "no certificate yet"),
        (lambda pki: (pki.merchant(), pki.gateway_encryption()), "not gateway-signing"),
        (lambda pki: (pki.gateway_signing(), pki.gateway_signing()), "not gateway-encryption"),
        (lambda pki: (pki.gateway_signing("GW-1"), pki.gateway_encryption("GW-2")), "different gateways"),
        (
            lambda pki: (pki.gateway_signing(acquirer_bin="603770"), pki.gateway_encryption(acquirer_bin="603799")),
            "different gateways",
        ),
    ],
    ids=["no signing", "no encryption", "a merchant's", "two signing", "two gateways", "two acquirers"],
)
def test_anything_else_makes_none(pki: PkiFactory, make: Any, reason: str) -> None:
    with pytest.raises(IdentityError, match=reason):
        load(*make(pki))
