"""What this service itself believes when it judges the approvals of a certificate (`hsm_service.typed_approval`).

The policy pack is the one of this installation, the anchors are the pinned roots. Authorities are known from the chains
of the CA keys in custody here, and so are the numbers of their newest CRLs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography import x509

from cps.model import Pack
from hsm_service.custody import Custody
from hsm_service.judging import subject_key_identifier
from hsm_service.ledger import Ledger
from hsm_service.templates import Purpose
from hsm_service.typed_approval import Believed


class Beliefs:
    """Reads custody and ledger at the moment it is asked. Safe for threads."""

    def __init__(
        self, custody: Custody, ledger: Ledger, anchors: Callable[[], Sequence[x509.Certificate]], pack: Pack
    ) -> None:
        self._custody = custody
        self._ledger = ledger
        self._anchors = anchors
        self._pack = pack

    def now(self) -> Believed:
        """What is believed at this moment."""
        intermediates: dict[x509.Certificate, None] = {}
        names: dict[bytes, str] = {}
        for key in self._custody.all():
            if key.template.purpose is Purpose.CA and key.signing is not None and key.signing.chain:
                intermediates.update(dict.fromkeys(key.signing.chain))
                names[subject_key_identifier(key.signing.certificate)] = key.row.name

        def newest_crl(key_identifier: bytes) -> int | None:
            name = names.get(key_identifier)
            return None if name is None else self._ledger.newest_crl(name)

        return Believed(self._pack, tuple(self._anchors()), tuple(intermediates), newest_crl)
