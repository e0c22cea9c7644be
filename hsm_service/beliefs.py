"""What this service itself believes when it judges the approvals of a certificate (`hsm_service.typed_approval`), or
of an operation on a key (`hsm_service.dual_control`).

The policy packs are those published in this installation (`statements`), the anchors are the pinned roots. Authorities
are known from the chains of the CA keys in custody here, and so are the numbers of their newest CRLs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from cryptography import x509

from hsm_service.custody import Custody
from hsm_service.judging import SigningKey, authority_key_identifier, extension_value, subject_key_identifier
from hsm_service.ledger import Ledger
from hsm_service.purposes import Purpose
from hsm_service.typed_approval import Believed
from pki.crl import CrlSet
from pki.path import Trust
from statements.published import Statements


class Beliefs:
    """Reads custody and ledger at the moment it is asked. Safe for threads."""

    def __init__(
        self,
        custody: Custody,
        ledger: Ledger,
        anchors: Callable[[], Sequence[x509.Certificate]],
        statements: Statements,
    ) -> None:
        self._custody = custody
        self._ledger = ledger
        self._anchors = anchors
        self._statements = statements

    def now(self) -> Believed:
        """What is believed at this moment."""
        authorities = self._authorities()
        intermediates = dict.fromkeys(certificate for key in authorities for certificate in key.chain)
        return Believed(self._statements(), tuple(self._anchors()), tuple(intermediates), self._newest_crl(authorities))

    def in_force(self, trust: Trust) -> Trust:
        """`trust` without the CRLs that were followed by another one, signed with a key in custody here.

        They come from a folder that others write. Who puts back an older list that has not ended yet cannot hide the
        revocation of an officer: nothing below that authority is believed then.
        """
        newest_crl = self._newest_crl(self._authorities())

        def superseded(crl: x509.CertificateRevocationList) -> bool:
            number, issuer = extension_value(crl, x509.CRLNumber), authority_key_identifier(crl)
            newest = None if issuer is None else newest_crl(issuer)
            return newest is not None and (number is None or number.crl_number < newest)

        if not any(map(superseded, trust.crls)):
            return trust
        return replace(trust, crls=CrlSet(crl for crl in trust.crls if not superseded(crl)))

    def _authorities(self) -> list[SigningKey]:
        keys = (key.signing for key in self._custody.all() if key.template.purpose is Purpose.CA)
        return [key for key in keys if key is not None and key.chain]

    def _newest_crl(self, authorities: Sequence[SigningKey]) -> Callable[[bytes], int | None]:
        names = {subject_key_identifier(key.certificate): key.name for key in authorities}

        def newest_crl(key_identifier: bytes) -> int | None:
            name = names.get(key_identifier)
            return None if name is None else self._ledger.newest_crl(name)

        return newest_crl
