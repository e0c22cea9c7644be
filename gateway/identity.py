"""Who this gateway is: the certificates of its two keys, which must be one gateway's and that of the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from cryptography import x509

from gateway.errors import IdentityError
from gateway.ports import CmsSigner, KeyDescription
from kwbp.errors import ProtocolError
from kwbp.gateway import GatewayIdentity
from kwbp.parties import gateway_data
from pki.errors import CertificateError
from pki.roles import Role, role_of


@dataclass(frozen=True, slots=True)
class GatewayCertificates:
    """What card data are sealed to, and its chain: DER, leaf first, without the root."""

    encryption_chain: tuple[bytes, ...]
    encryption: GatewayIdentity

    @classmethod
    async def load(cls, keys: CmsSigner, *, signing_key: str, encryption_key: str) -> Self:
        """Ask the key service for them.

        :raises IdentityError: a key has no certificate, or one of another role, or the two name different gateways.
        :raises Problem: the key service is away or does not know a key.
        """
        signing, encryption = await keys.describe_key(signing_key), await keys.describe_key(encryption_key)
        signer = _leaf(signing, signing_key, Role.GATEWAY_SIGNING)
        recipient = _leaf(encryption, encryption_key, Role.GATEWAY_ENCRYPTION)
        try:
            identity, own = GatewayIdentity.of(recipient), gateway_data(signer)
        except ProtocolError as error:
            raise IdentityError(error.detail) from None
        if (own.gateway_id, own.acquirer_bin) != (identity.gateway_id, identity.acquirer_bin):
            raise IdentityError("the signing and the encryption certificate name different gateways")
        return cls(encryption.certificate_chain, identity)


def _leaf(key: KeyDescription, name: str, role: Role) -> x509.Certificate:
    if not key.certificate_chain:
        raise IdentityError(f"the key {name} has no certificate yet; enrol the gateway first")
    leaf = x509.load_der_x509_certificate(key.certificate_chain[0])
    try:
        found = role_of(leaf)
    except CertificateError as error:
        raise IdentityError(f"the certificate of {name} has no role of the profile ({error.reason})") from None
    if found is not role:
        raise IdentityError(f"the certificate of {name} is a {found} certificate, not {role}")
    return leaf
