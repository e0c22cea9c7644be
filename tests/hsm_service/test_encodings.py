"""Forms of PKCS#11 turned into those of X.509 and of the zone-key ceremony."""

from __future__ import annotations

import pytest
from asn1crypto.core import OctetString
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from pkcs11 import Attribute
from pkcs11.util.ec import encode_named_curve_parameters

from hsm_service import encodings
from hsm_service.errors import BadInput, TokenUnavailable
from hsm_service.keys import KeyKind
from runtime.secrets import Secret


@pytest.mark.parametrize("wrapped", [True, False], ids=["OCTET STRING", "bare point"])
@pytest.mark.parametrize(("curve", "name"), [(ec.SECP256R1(), "secp256r1"), (ec.SECP384R1(), "secp384r1")])
def test_a_point_is_read_with_and_without_its_octet_string(curve: ec.EllipticCurve, name: str, wrapped: bool) -> None:
    public = ec.generate_private_key(curve).public_key()
    point = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    values = {
        Attribute.EC_PARAMS: encode_named_curve_parameters(name),
        Attribute.EC_POINT: OctetString(point).dump() if wrapped else point,
    }
    assert encodings.ec_public_key(values) == public


def test_a_key_on_another_curve_is_not_taken() -> None:
    values = {Attribute.EC_PARAMS: encode_named_curve_parameters("secp521r1"), Attribute.EC_POINT: b""}
    with pytest.raises(TokenUnavailable, match="secp521r1"):
        encodings.ec_public_key(values)


@given(r=st.integers(1, 2**256 - 1), s=st.integers(1, 2**256 - 1))
def test_both_halves_of_an_ecdsa_signature_survive(r: int, s: int) -> None:
    assert decode_dss_signature(encodings.ecdsa_signature(r.to_bytes(32) + s.to_bytes(32))) == (r, s)


def test_a_digest_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(BadInput, match="32 bytes"):
        encodings.digest_info(bytes(20), hashes.SHA256())


@given(value=st.binary(min_size=16, max_size=16).filter(any), mask=st.binary(min_size=16, max_size=16))
def test_components_give_back_the_key(value: bytes, mask: bytes) -> None:
    parts = [Secret(mask), Secret(bytes(a ^ b for a, b in zip(mask, value, strict=True)))]
    assert encodings.combine_components(KeyKind.AES, parts) == Secret(value)


@given(value=st.binary(min_size=16, max_size=16))
def test_a_tdes_key_gets_odd_parity_and_keeps_its_key_bits(value: bytes) -> None:
    try:
        key = encodings.combine_components(KeyKind.DES2, [Secret(value), Secret(bytes(16))]).reveal()
    except BadInput:
        assert all((a ^ b) & 0xFE == 0 for a, b in zip(value[:8], value[8:], strict=True))
        return
    assert all(byte.bit_count() % 2 == 1 for byte in key)
    assert all((a ^ b) & 0xFE == 0 for a, b in zip(key, value, strict=True))
