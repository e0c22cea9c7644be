"""Holders of certificates before a registration authority, for tests: what each asks, over the RA's own application."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

import httpx
from cryptography import x509

from kwbp.codes import ErrorCode
from kwbp.error_message import read_error
from kwbp.wrapper import MEDIA_TYPE, unwrap
from pki import cms_signed
from pki.oids import CT_ERROR
from pki.roles import Role
from storefront.holder import CertificateDesk, Sign
from tests.support.cps_cases import csr
from tests.support.pki_factory import Key, p256
from tests.support.registration_site import RegistrationSite

PATH = "/v1/registration"
HEADERS = {"content-type": MEDIA_TYPE}


class Holder:
    """Who holds the signing certificate of a case; `site` may be another one after a restart."""

    def __init__(self, site: RegistrationSite, application_id: str, key: Key) -> None:
        self.key = key
        issued = next(each for each in site.world.store.certificates(application_id) if each.purpose == "signing")
        self.issued = issued
        self.certificate = x509.load_der_x509_certificate(issued.der)
        self.chain = tuple(x509.load_der_x509_certificate(der) for der in issued.chain)
        self.application_id = application_id
        self.site = site

    @classmethod
    def merchant(cls, site: RegistrationSite, **changes: Any) -> Holder:
        key = p256()
        return cls(site, site.world.certified_merchant(key=key, **changes).id, key)

    @classmethod
    def card(cls, site: RegistrationSite) -> Holder:
        card = site.new_card()
        return cls(site, site.enrol(card).body.application, card.held.key)

    def sign(
        self, content_type: x509.ObjectIdentifier, content: bytes, *, signing_time: datetime | None = None
    ) -> bytes:
        return cms_signed.sign(
            content_type,
            content,
            key=self.key,
            signer=self.certificate,
            chain=self.chain,
            signing_time=signing_time or self.site.world.now,
        )

    def desk(self, *, sign: Sign | None = None, client: httpx.Client | None = None, **changes: Any) -> CertificateDesk:
        """The authority as this holder sees it; `changes` go to the desk."""
        arguments: dict[str, Any] = {
            "certificate": self.certificate,
            "trust": self.site.trust,
            "rng": os.urandom,
            "clock": self.site.world.clock,
        }
        return CertificateDesk(client or self.site.http, sign=sign or self.sign, **(arguments | changes))

    def renewal(self, key: Key | None = None) -> bytes:
        return self.desk().renewal(csr(key or p256()))


def refused(site: RegistrationSite, message: bytes, *, status: int = 200) -> tuple[ErrorCode, str, bool]:
    """Code and check of the Error that answers the message, and whether the authority signed it."""
    response = site.http.post(PATH, content=message, headers=HEADERS)
    assert (response.status_code, response.headers["content-type"]) == (status, MEDIA_TYPE)
    found = unwrap(response.content, expected=[CT_ERROR])
    error = read_error(found, sent=message, role=Role.SERVICE, trust=site.trust(site.world.now), now=site.world.now)
    return error.body.error_code, error.body.clause, error.signer is not None
