"""The small ceremony that happens again: the root's next CRL, and with it the revocation of what the root certified.

It opens the root room alone. The new CRL carries every entry of the old one, takes its place in the folder, and becomes
an entry of the founding transcript, whose chain goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ceremony.transcript import read_transcript
from ca.crl import ListedSerial, entry_der, listed, next_number, prepare_crl
from ca.errors import CeremonyError
from ca.files import replace_file
from ca.hierarchy import TRANSCRIPT, load_hierarchy
from ca.prepare import ROOT
from ca.signing import sign_crl
from ca.store import serial_hex
from cps.model import RevocationReason
from hsm_service.service import SigningService
from pki.crl import verify_crl
from pki.errors import PkiError


def renew_root_crl(
    folder: Path,
    *,
    root_room: Callable[[], AbstractContextManager[SigningService]],
    clock: Callable[[], datetime],
    revoke: Sequence[tuple[x509.Certificate, RevocationReason]] = (),
) -> x509.CertificateRevocationList:
    """Sign and publish the root's next CRL, revoking the given certificates of the root.

    Everything is checked before the root room opens. Raises CeremonyError, and SigningRefusedError,
    TokenUnavailableError or CompareError of `ca.signing`: then nothing changed.
    """
    root = load_hierarchy(folder).root
    assert root.profile.ca is not None
    path = folder / "crls" / f"{ROOT}.crl"
    now = clock()
    try:
        transcript = read_transcript((folder / TRANSCRIPT).read_bytes())
        old = x509.load_der_x509_crl(path.read_bytes())
        verify_crl(old, root.certificate, old.last_update_utc)
        last = old.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (OSError, ValueError, PkiError, x509.ExtensionNotFound) as error:
        raise CeremonyError(f"the root's CRL cannot be continued: {error}", clause="CPS 4.9.7") from None
    entries = listed(old)
    for certificate, reason in revoke:
        if certificate.issuer != root.certificate.subject or certificate == root.certificate:
            raise CeremonyError("the root revokes what it certified, and not itself", clause="CPS 4.9.2")
        if old.get_revoked_certificate_by_serial_number(certificate.serial_number) is None:
            entries.append(ListedSerial(serial_hex(certificate.serial_number), reason, now, None))
    number = next_number(last, now)
    tbs = prepare_crl(
        root.issuer,
        number=number,
        entries=[entry_der(each.serial, each.revoked_at, each.reason, each.invalidity_date) for each in entries],
        rule=root.profile.ca.crl,
        now=now,
    )
    with root_room() as room:
        crl = sign_crl(room, ROOT, tbs, root.issuer.public_key)
    transcript.append(
        f"crl {ROOT}", {"issuer": ROOT, "number": number, "sha256": crl.fingerprint(SHA256()).hex()}, clock()
    )
    replace_file(path, crl.public_bytes(Encoding.DER))
    replace_file(folder / TRANSCRIPT, transcript.to_json())
    return crl
