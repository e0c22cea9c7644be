"""What certificates say about merchants and gateways; silence is a refusal."""

from __future__ import annotations

from cryptography import x509

from kwbp.codes import ErrorCode
from kwbp.parties import GatewayIdentity, MerchantIdentity, gateway_data
from pki.algorithms import SealingSuite
from pki.der import sha256
from pki.oids import EXT_GATEWAY_DATA, SET_MERCHANT_DATA, SMIME_CAPABILITIES
from tests.kwbp.forge import refused
from tests.kwbp.world import ORIGIN, World


def test_merchant(world: World) -> None:
    merchant = MerchantIdentity.of(world.shop.certificate)
    assert (merchant.merchant_id, merchant.acquirer_bin, merchant.name) == ("M-1", "603799", "Bookshop")
    assert merchant.cert_hash == sha256(world.shop.der)
    assert merchant.online
    assert merchant.origins == (ORIGIN,)


def test_gateway(world: World) -> None:
    gateway = GatewayIdentity.of(world.gateway_encryption.certificate)
    assert (gateway.gateway_id, gateway.acquirer_bin) == ("GW-1", "603799")
    assert gateway.cert_hash == sha256(world.gateway_encryption.der)
    assert gateway.strongest_suite is SealingSuite.OAEP_SHA256


def test_gateway_that_knows_sha1_only(world: World) -> None:
    certificate = world.pki.gateway_encryption(suites=("oaep-sha1",)).certificate
    assert GatewayIdentity.of(certificate).strongest_suite is SealingSuite.OAEP_SHA1


def _garbage(oid: x509.ObjectIdentifier) -> dict[str, tuple[x509.ExtensionType, bool]]:
    return {"own_0": (x509.UnrecognizedExtension(oid, b"\x30\x01"), False)}


def test_no_merchant_data(world: World) -> None:
    with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
        MerchantIdentity.of(world.buyer.certificate)


def test_malformed_merchant_data(world: World) -> None:
    with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
        MerchantIdentity.of(world.pki.merchant(replace=_garbage(SET_MERCHANT_DATA)).certificate)


def test_no_gateway_data(world: World) -> None:
    with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
        gateway_data(world.shop.certificate)


def test_malformed_gateway_data(world: World) -> None:
    with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
        GatewayIdentity.of(world.pki.gateway_encryption(replace=_garbage(EXT_GATEWAY_DATA)).certificate)


def test_no_sealing_suite(world: World) -> None:
    with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
        GatewayIdentity.of(world.gateway_signing.certificate)


def test_malformed_sealing_suites(world: World) -> None:
    garbage = (x509.UnrecognizedExtension(SMIME_CAPABILITIES, b"\x30\x01"), False)
    with refused(ErrorCode.INVALID_CERTIFICATE, "K5"):
        GatewayIdentity.of(world.pki.gateway_encryption(replace={"own_1": garbage}).certificate)
