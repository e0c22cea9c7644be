"""An EST client made of `curl` and `openssl`, before a registration authority in service over TLS.

    site = EstSite(tmp_path, office)
    with site.serving():
        client = EstClient(site, tmp_path / "shop")
        prepared = site.prepare()                          # a draft, its one-time code
        answer = client.enrol(prepared)                    # 202 until officers decided

Nothing of ours runs on the client's side: what it sends, reads and believes are files that these two tools made.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from ra.app import create_app
from ra.est import EstDesk, OneTimeCode
from ra.rate_limit import AddressLimits, rate_limits
from ra.records import Application
from ra.states import State
from runtime.server import start
from tests.support.ca_world import tls_files
from tests.support.cps_cases import Office
from tests.support.judges import openssl, run
from tests.support.ra_world import DOCUMENTS, OPERATOR, RaWorld, merchant_subject

PREFIX = "/.well-known/est"
PKCS10 = ("-H", "Content-Type: application/pkcs10")


@dataclass(frozen=True)
class Answer:
    """What a server said; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        found: dict[str, Any] = json.loads(self.body)
        return found


class EstSite:
    """A registration authority over `folder`; another one over the same folder is the authority after a restart."""

    def __init__(self, folder: Path, office: Office, **options: Any) -> None:
        self.world = RaWorld(folder / "ra", office, **options)
        self.desk = EstDesk(self.world.workflow)
        self.tls = tls_files(office.pki, "service", "ra", folder / "tls")
        self.operator = tls_files(office.pki, "service", "operator", folder / "tls")
        self.url = ""

    @contextmanager
    def serving(self) -> Iterator[EstSite]:
        often = rate_limits()
        patient = often.model_copy(
            update={"addresses": tuple(each.model_copy(update={"burst": 10_000}) for each in often.addresses)}
        )
        limits = AddressLimits(patient, clock=lambda: datetime.now(UTC))
        app = create_app(self.world.workflow, limits=limits)
        with start(app, tls=self.tls, client_certificate="optional") as self.url:
            yield self

    def prepare(self, **changes: Any) -> OneTimeCode:
        """A merchant's draft, prepared by the operator."""
        draft = self.world.workflow.open(OPERATOR, "merchant")
        return self.desk.prepare(OPERATOR, draft.id, merchant_subject(**changes), None)

    def vet(self, application_id: str) -> Application:
        """The officers' first step, with all documents."""
        for kind in DOCUMENTS:
            self.world.add_document(application_id, kind)
        return self.world.decide(application_id, "vet", self.world.office.vetter)

    def approve(self, application_id: str) -> Application:
        return self.world.decide(application_id, "approve", self.world.office.approver)

    def state(self, application_id: str) -> State:
        return self.world.store.application(application_id).state

    def cases(self) -> list[Application]:
        return self.world.store.applications()

    def pass_time(self, **span: int) -> None:
        self.world.clock.now += timedelta(**span)


class EstClient:
    """One client's folder: its key, its request, the certificates it fetched."""

    def __init__(self, site: EstSite, folder: Path) -> None:
        self.site = site
        self.folder = folder
        folder.mkdir(parents=True)
        shutil.copy(site.tls.ca, self / "root.pem")

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def curl(self, path: str, *options: str | Path, ca: str = "root.pem") -> Answer:
        """One call; the answer of the last redirect-free exchange. AssertionError if there was none at all."""
        head, body = self / "head", self / "body"
        body.write_bytes(b"")
        done = run("curl", "-sS", "--cacert", self / ca, "-D", head, "-o", body, *options, self.site.url + path)
        assert done.returncode == 0, done.stderr.decode()
        first, *lines = head.read_text().strip().splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Answer(int(first.split()[1]), headers, body.read_bytes())

    def is_cut_off(self, path: str, *options: str | Path) -> bool:
        """Whether TLS ends the connection before there is an answer."""
        done = run("curl", "-sS", "--cacert", self / "root.pem", *options, self.site.url + path)
        return done.returncode in (35, 52, 55, 56)  # handshake failed, no reply, failure of sending, of receiving

    # RFC 7030 4.1

    def fetch_authorities(self) -> Path:
        """The roots and CAs, as a file of PEM."""
        answer = self.curl(f"{PREFIX}/cacerts")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/pkcs7-mime")
        der = openssl("base64", "-d", stdin=answer.body)
        (self / "ca.pem").write_bytes(openssl("pkcs7", "-inform", "DER", "-print_certs", stdin=der))
        return self / "ca.pem"

    # requests

    def make_request(self, stem: str = "shop", *options: str, subject: str = "/CN=a request") -> Path:
        """A P-256 key `stem.key` and a request for it, `stem.b64`."""
        key, der = self / f"{stem}.key", self / f"{stem}.der"
        if not key.exists():
            openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        openssl("req", "-new", "-key", key, "-subj", subject, *options, "-outform", "DER", "-out", der)
        (self / f"{stem}.b64").write_bytes(openssl("base64", "-in", der))
        return self / f"{stem}.b64"

    def make_next_request(self, old: str = "shop", stem: str = "next") -> Path:
        """A new key and a request that names what the old certificate names."""
        certificate = x509.load_pem_x509_certificate((self / f"{old}.pem").read_bytes())
        subject = "".join(f"/{each.rfc4514_attribute_name}={each.value}" for each in certificate.subject)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = ",".join(f"URI:{each.value}" for each in names)
        return self.make_request(stem, "-addext", f"subjectAltName={uris}", subject=subject)

    # RFC 7030 4.2

    def enrol(
        self, prepared: OneTimeCode, stem: str = "shop", *options: str, code: str | None = None, label: str = "merchant"
    ) -> Answer:
        """simpleenroll with the one-time code, or another one."""
        request = self / f"{stem}.b64"
        if not request.exists():
            self.make_request(stem)
        netrc = self / "netrc"  # a code does not belong into the arguments of a process
        netrc.write_text(f"machine 127.0.0.1 login {prepared.application_id} password {code or prepared.code}\n")
        return self.curl(
            f"{PREFIX}/{label}/simpleenroll",
            "--netrc-file",
            netrc,
            *PKCS10,
            "--data-binary",
            f"@{request}",
            *options,
        )

    def reenrol(self, stem: str = "next", old: str = "shop", *options: str, label: str = "merchant") -> Answer:
        """simplereenroll with the old certificate."""
        request = self / f"{stem}.b64"
        if not request.exists():
            self.make_next_request(old, stem)
        return self.curl(
            f"{PREFIX}/{label}/simplereenroll",
            *self.as_holder(old),
            *PKCS10,
            "--data-binary",
            f"@{request}",
            *options,
            ca="ca.pem",
        )

    def as_holder(self, stem: str) -> tuple[str | Path, ...]:
        """curl's options to use a certificate in TLS, with the CAs above it as RFC 8446 4.4.2 wants them."""
        chain = self / f"{stem}-chain.pem"
        chain.write_bytes((self / f"{stem}.pem").read_bytes() + (self / "ca.pem").read_bytes())
        return "--cert", chain, "--key", self / f"{stem}.key"

    def keep(self, answer: Answer, stem: str = "shop") -> x509.Certificate:
        """The certificate of an answer, kept as `stem.pem`; it must be the only one, and of the key of the request."""
        assert (answer.status, answer.headers["content-type"]) == (
            200,
            "application/pkcs7-mime; smime-type=certs-only",
        ), answer.body
        der = openssl("base64", "-d", stdin=answer.body)
        pem = openssl("pkcs7", "-inform", "DER", "-print_certs", stdin=der)
        (self / f"{stem}.pem").write_bytes(pem)
        assert pem.count(b"-----BEGIN CERTIFICATE-----") == 1
        public = openssl("x509", "-in", self / f"{stem}.pem", "-noout", "-pubkey")
        assert public == openssl("pkey", "-in", self / f"{stem}.key", "-pubout")
        return x509.load_pem_x509_certificate(pem)

    def enrolled(self, **changes: Any) -> str:
        """Enrol from nothing to a certificate `shop.pem`; the application."""
        self.fetch_authorities()
        prepared = self.site.prepare(**changes)
        assert self.enrol(prepared).status == 202
        self.site.vet(prepared.application_id)
        self.site.approve(prepared.application_id)
        self.keep(self.enrol(prepared))
        return prepared.application_id
