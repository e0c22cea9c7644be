"""What this service states about a key that it made: the token's own answer, read afresh (`pki.attestation`)."""

from __future__ import annotations

from datetime import datetime

from hsm_service.custody import Key
from pki.attestation import KeyAttestation
from pki.der import sha256
from pki.keys import spki_der


def attestation_of(key: Key, now: datetime) -> bytes:
    """KeyAttestation (DER) of a key pair: the attributes that the token reports now, at `now` (aware).

    Raises Problem if the key does not serve or has no public half, HsmError if the token does not answer.
    """
    signing = key.pair()
    token, ref = key.use()
    attributes = token.attributes(ref)
    return KeyAttestation(
        key_name=key.row.name,
        key_version=key.row.version,
        spki_sha256=sha256(spki_der(signing.public_key)),
        token=token.label,
        local=attributes.local,
        sensitive=attributes.sensitive,
        always_sensitive=attributes.always_sensitive,
        never_extractable=attributes.never_extractable,
        extractable=attributes.extractable,
        at=now,
    ).to_der()
