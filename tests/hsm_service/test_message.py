from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from hsm_service.message import MessageWriter
from pki import oids
from pki.cms_signed import (
    assemble_signed_data,
    build_signed_attributes,
    parse_signed_data,
    sign_signed_attributes,
    verify_signature,
)
from tests.support.pki_factory import Credential, PkiFactory, rsa_key

FACTORY = PkiFactory()
SIGNERS = {
    "P-256": FACTORY.merchant("M-1"),
    "RSA": FACTORY.merchant("M-2", key=rsa_key(0)),
    "without chain": Credential(FACTORY.merchant("M-3").certificate, FACTORY.make_key(), ()),
}
CONTENT_TYPES = (oids.CT_INVOICE, oids.CT_AUTH_RES, x509.ObjectIdentifier("1.2.3"))


@given(
    signer=st.sampled_from(list(SIGNERS)),
    content_type=st.sampled_from(CONTENT_TYPES),
    content=st.binary(max_size=300) | st.just(b"\x00" * 70_000),
    signature=st.binary(min_size=1, max_size=512),
    time=st.datetimes(
        min_value=datetime(1970, 1, 1),  # noqa: DTZ001  # hypothesis adds the zone
        max_value=datetime(2100, 1, 1),  # noqa: DTZ001
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=3, minutes=30))]),
    ),
)
def test_every_byte_is_that_of_the_general_encoder(
    signer: str, content_type: x509.ObjectIdentifier, content: bytes, signature: bytes, time: datetime
) -> None:
    credential = SIGNERS[signer]
    certificate, chain = credential.certificate, credential.chain
    writer = MessageWriter(certificate, chain)
    attributes = writer.signed_attributes(content_type, content, time)
    assert attributes == build_signed_attributes(content_type, content, signer=certificate, signing_time=time)
    assert writer.assemble(content_type, content, attributes, signature) == assemble_signed_data(
        content_type, content, attributes, signature, signer=certificate, chain=chain
    )


@pytest.mark.parametrize("name", ["P-256", "RSA"])
def test_what_is_written_verifies(name: str) -> None:
    credential = SIGNERS[name]
    writer = MessageWriter(credential.certificate, credential.chain)
    attributes = writer.signed_attributes(oids.CT_INVOICE, b"\x05\x00", credential.now)
    signature = sign_signed_attributes(attributes, credential.key)
    der = writer.assemble(oids.CT_INVOICE, b"\x05\x00", attributes, signature)
    signed = parse_signed_data(der, content_type=oids.CT_INVOICE)
    verify_signature(signed)
    assert signed.signer == credential.certificate


def test_neither_id_data_nor_a_time_without_zone_is_signed() -> None:
    writer = MessageWriter(SIGNERS["P-256"].certificate, ())
    with pytest.raises(ValueError):
        writer.signed_attributes(oids.DATA, b"", FACTORY.now)
    with pytest.raises(ValueError):
        writer.signed_attributes(oids.CT_INVOICE, b"", FACTORY.now.replace(tzinfo=None))
