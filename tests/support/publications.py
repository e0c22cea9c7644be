"""Versions of the statement after the published one, signed and time-stamped in a test PKI, for tests of publishing.

press = Press(office)
made = press.published()                              # 1.1.0: in force in an hour, two officers, stamped now
decide_publication(made, press.founding, trust=office.pki.trust(), now=NOW)
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509.oid import ExtendedKeyUsageOID

from cps.model import Pack, load_pack
from cps.packs import published
from cps.publication import Candidate, Publication, build_publication
from cps.statement_text import StatementText, load_texts
from pki import oids
from pki.der import any_value, encode, tlv
from pki.names import name
from pki.oids import CT_PACK_PUBLICATION
from pki.roles import Role
from pki.timestamp_structures import Accuracy, TstInfo, imprint_of
from statements.files import PublicationFiles
from tests.support.cps_cases import Office
from tests.support.pki_factory import Credential, role_extensions
from tests.support.statements import PACK_TEXT

HOUR: Final = timedelta(hours=1)
TEXTS: Final = {"1": b'"1.1": procedural\n', "rules": b"{}\n", "terms": b"{}\n"}
"""Texts of few words, which nobody who only verifies reads: quickly loaded."""


def pack_text(
    version: str = "1.1.0",
    *,
    effective: datetime,
    on_supersede: str = "reevaluate",
    changes: dict[str, str] | None = None,
) -> str:
    """The YAML of a later version; `changes` are passages replaced, each of which must be there."""
    text = PACK_TEXT
    edits = {
        "version: 1.0.0\n": f"version: {version}\n",
        "effective: 2026-01-01T00:00:00Z": f"effective: {effective:%Y-%m-%dT%H:%M:%SZ}",
        '"urn:kwbp:cps:1.0.0"': f'"urn:kwbp:cps:{version}"',
        "on_supersede: reevaluate": f"on_supersede: {on_supersede}",
        **(changes or {}),
    }
    for old, new in edits.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def grandfathering(until: datetime) -> str:
    """The `on_supersede` of a version that lets open cases be finished until then."""
    return f"{{grandfather_until: {until:%Y-%m-%dT%H:%M:%SZ}}}"


class Press:
    """An office that publishes: its security officers, and a time-stamp authority below its root."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.founding = published()
        self.now = office.now

    @cached_property
    def tsa(self) -> Credential:
        return self.authority("Time")

    def authority(self, cn: str) -> Credential:
        """A time-stamp authority's credential."""
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        extensions = {**role_extensions(Role.TIMESTAMP_AUTHORITY), "extended_key_usage": (usage, True)}
        return self.office.pki.issue(self.office.pki.operations_ca, name(cn=cn), extensions)

    def pack(self, version: str = "1.1.0", *, after: timedelta = HOUR, **options: Any) -> Pack:
        """A later version, in force `after` now."""
        return load_pack(pack_text(version, effective=self.now + after, **options))

    def candidate(self, pack: Pack | None = None, texts: StatementText | None = None) -> Candidate:
        """A version that nobody has signed yet."""
        return Candidate(pack or self.pack(), texts or load_texts(TEXTS))

    def statement(
        self,
        candidate: Candidate,
        by: Credential,
        *,
        predecessor: Pack | None = None,
        signing_time: datetime | None = None,
        **changes: Any,
    ) -> bytes:
        """An officer's statement; each of `changes` is a field to have otherwise."""
        date = changes.get("date", self.now)
        stated = Publication.of(candidate.pack, candidate.texts, predecessor or self.founding, date=date)
        content = build_publication(replace(stated, **changes))
        return by.sign(CT_PACK_PUBLICATION, content, signing_time=signing_time or date)

    def token(self, data: bytes, *, at: datetime | None = None, by: Credential | None = None) -> bytes:
        """A TimeStampToken (DER) over some bytes."""
        tsa, when = by or self.tsa, at or self.now
        info = TstInfo(
            version=1,
            policy=oids.POLICY_TIMESTAMP,
            message_imprint=imprint_of(data),
            serial_number=7,
            gen_time=asn1.GeneralizedTime(when),
            accuracy=Accuracy(seconds=1, millis=None, micros=None),
            ordering=False,
            nonce=None,
            tsa=any_value(tlv(0xA4, tsa.certificate.subject.public_bytes())),
        )
        return tsa.sign(oids.CT_TST_INFO, encode(info), signing_time=when)

    def files(
        self,
        version: str = "1.1.0",
        *by: Credential,
        after: timedelta = HOUR,
        on_supersede: str = "reevaluate",
        changes: dict[str, str] | None = None,
        **options: Any,
    ) -> PublicationFiles:
        """As `published`, as files."""
        text = pack_text(version, effective=self.now + after, on_supersede=on_supersede, changes=changes)
        return files_of(self.published(load_pack(text), *by, **options), text)

    def published(
        self,
        pack: Pack | None = None,
        *by: Credential,
        predecessor: Pack | None = None,
        stamped_at: datetime | None = None,
        texts: StatementText | None = None,
        **changes: Any,
    ) -> Candidate:
        """A version signed by two security officers, or by whoever is named, and stamped."""
        made = self.candidate(pack, texts)
        signers = by or (self.office.security, self.office.security_2)
        statements = tuple(self.statement(made, each, predecessor=predecessor, **changes) for each in signers)
        made = replace(made, statements=statements)
        return replace(made, stamp=self.token(made.stamped, at=stamped_at))


def files_of(made: Candidate, text: str) -> PublicationFiles:
    """The files of a publication whose pack is `text`, with `TEXTS`."""
    assert made.stamp is not None
    return PublicationFiles(text.encode(), TEXTS, made.statements, made.stamp)
