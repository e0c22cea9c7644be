"""A whole site for the gateway's tests, of real parts: token, HSM service, repository, switch, buyers, shops.

    HSM service     a process of its own on SoftHSM2, with the gateway's keys in the token
    repository      the CA's published folder over HTTP, fed by `PkiFactory`
    switch          the simulator with its accounts
    gateway         in a thread (`gateway`), or as a process that can be killed at a step (`gateway_process`)

Shops and buyers have software keys: their signatures are judged, not made, here.
"""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca import repository
from ca.bci_publisher import FILE
from ca.crl_kinds import FULL
from cli.zone import agreed_zone, host_zones
from gateway import service
from gateway.app import create_app
from gateway_keys import zone_keys
from hsm_service.vault import Vault
from kwbp import merchant, wallet
from kwbp.codes import SaleKind
from kwbp.commitment import commitment_cn
from kwbp.messages import OrderLine
from kwbp.parties import GatewayIdentity
from kwbp.wrapper import unwrap
from pki.bci import LONGEST_LIFE, Bci, NamedCrl
from pki.names import identity_uri
from pki.oids import CT_BCI, CT_INVOICE_REQ, MT_INVOICE, MT_PREQ
from runtime import server
from runtime.client import TlsFiles, http_client, raise_problem
from runtime.settings import Home, Settings
from shetab.types import Rial
from switch.service import RunningSwitch
from switch.service import running as running_switch
from tests.support.payment_parties import Buyer, Purchase, Shop, now, signed_by, with_envelope
from tests.support.pki_factory import Credential, PkiFactory
from tests.support.ports import free_port
from tests.support.readiness import is_ready
from tests.support.ready_python import Python
from tests.support.softhsm import provisioned_home

ACQUIRER: Final = "603770"
GATEWAY_ID: Final = "GW-1"
CARD_BIN: Final = "603770"
BRAND: Final = "Shetab"
OPENING: Final = 10_000_000
ANSWER_TIMEOUT: Final = 4.0
"""Seconds that gateways of a site wait for the switch: more than a busy machine takes to answer."""

_HSM_PROGRAM: Final = """
import sys
from pathlib import Path
from cli.zone import agreed_zone, host_zones, zone_of_cards
from gateway_keys.plugin import GatewayKeys
from hsm_service.app import create_app
from hsm_service.dual_control_policy import built_in_policy
from hsm_service.operation_docket import Approving
from hsm_service.operation_request import KeyOperation
from hsm_service.vault import Vault
from kwbp.validators import VALIDATORS
from runtime import logging, server
from runtime.settings import Home, Settings

home = Home(Path(sys.argv[1]))
settings = Settings.load(home)
endpoint = settings.hsm
logging.configure("hsm", home.log)
judges = {oid.dotted_string: validate for oid, validate in VALIDATORS.items()}
# Keys of test shops are made at once; dual control has tests of its own.
policy = built_in_policy()
at_once = policy.operations[KeyOperation.GENERATE].model_copy(update={"approvals": 0})
policy = policy.model_copy(update={"operations": {**policy.operations, KeyOperation.GENERATE: at_once}})
with Vault.open(home, content_types=judges, approving=Approving(policy=policy)) as vault:
    app = create_app(vault, plugins=[
        GatewayKeys.of(
            home,
            zone=agreed_zone(home, settings),
            others=host_zones(home, settings),
            zone_of=zone_of_cards(settings),
        )
    ])
    server.serve(app, host=endpoint.host, port=endpoint.port, tls=home.tls_files("hsm"))
"""

_GATEWAY_PROGRAM: Final = """
import os, signal, sys
from pathlib import Path
from gateway import service
from runtime import logging
from runtime.settings import Home, Settings

home, steps, how = Home(Path(sys.argv[1])), [sys.argv[2]], int(sys.argv[3])


def checkpoint(step: str) -> None:
    if step in steps:
        steps.clear()
        os.kill(os.getpid(), how)


logging.configure("gateway", home.log)
service.run(home, Settings.load(home), checkpoint=checkpoint)
"""


def wait_for(condition: Callable[[], object], *, within: float = 120.0, every: float = 0.02) -> None:
    """Poll until `condition()` holds; times in seconds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("what was waited for did not come")
        time.sleep(every)


@dataclass
class GatewayProcess:
    """A gateway as a process of its own."""

    url: str
    home: Home
    process: subprocess.Popen[bytes]

    def wait_killed(self, within: float = 60.0) -> None:
        """It kills itself at the step it was told; nothing else may end it."""
        assert self.process.wait(within) == -signal.SIGKILL

    def wait_stopped(self, within: float = 60.0) -> None:
        """It stops itself (SIGSTOP) at the step it was told, and nothing of it moves until `go_on`."""
        status = Path(f"/proc/{self.process.pid}/stat")
        wait_for(lambda: status.read_text("ascii").rpartition(")")[2].split()[0] == "T", within=within)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.go_on()
            self.process.terminate()
            self.process.wait(30)


@dataclass
class Site:
    """See the module."""

    folder: Path
    home: Home
    pki: PkiFactory
    signing: Credential
    encryption: Credential
    settings: dict[str, Any]
    switch: RunningSwitch
    _shops: dict[str, Shop] = field(default_factory=dict)

    # --- who takes part ---------------------------------------------------------------------------------------------

    def tls(self, name: str, uri: str | None = None) -> TlsFiles:
        """TLS files of an identity, made at the first call; without `uri` that of the service `name`."""
        return tls_files(self.home, self.pki, name, uri or identity_uri("service", name))

    def shop(self, merchant_id: str, *, online: bool = True) -> Shop:
        """A merchant with a certificate, not yet registered at any gateway."""
        if merchant_id not in self._shops:
            number = len(self._shops) + 1
            self._shops[merchant_id] = Shop(
                self,
                merchant_id,
                f"T{number:07d}",
                self.pki.merchant(merchant_id, acquirer_bin=ACQUIRER, online=online),
                self.tls(f"merchant-{merchant_id}", identity_uri("merchant", merchant_id)),
            )
        return self._shops[merchant_id]

    def new_shop(self) -> Shop:
        """A merchant that nobody knows yet."""
        return self.shop(f"SHOP-{len(self._shops) + 1}")

    def register(self, url: str, shop: Shop, **changes: Any) -> None:
        """Tell a gateway of a merchant, as its operator."""
        document = {
            "merchant_id": shop.merchant_id,
            "terminal_id": shop.terminal_id,
            "name": "Bookshop Tehran",
            "mcc": "5942",
            **changes,
        }
        with http_client(self.tls("operator"), url) as client:
            raise_problem(client.post("/v1/merchants", json=document))

    def buyer(
        self, *, balance: int = OPENING, with_pin: bool = True, years: int = 3, issuer: str = CARD_BIN, **wrong: Any
    ) -> Buyer:
        """A customer with a card; `wrong` replaces what the card's holder types (cvv2, pin2, expiry)."""
        account = self.switch.admin.open_account(issuer, holder="Member One", balance=Rial(balance))
        issued = self.switch.admin.issue_card(account.iban, years=years)
        secret = os.urandom(32)
        typed: dict[str, Any] = {
            "pan": issued.pan,
            "expiry": issued.expiry,
            "pin2": issued.pin2 if with_pin else None,
            "cvv2": issued.cvv2,
            **wrong,
        }
        card = wallet.Card(card_secret=os.urandom(32), pan_secret=secret, **typed)
        credential = self.pki.cardholder(commitment_cn(secret, card.pan, card.expiry))
        return Buyer(self, account, issued, card, credential)

    # --- what they do -----------------------------------------------------------------------------------------------

    def purchase(self, shop: Shop, buyer: Buyer, amount: int = 150_000, **changes: Any) -> Purchase:
        """Everything up to the AuthReq, with every party's checks. `changes` go to the parts named below."""
        trust, moment = self.pki.trust(now()), now()
        request = wallet.build_invoice_request(
            rrpid=os.urandom(20),
            chall_c=os.urandom(32),
            brand_id=BRAND,
            bin_=buyer.card.pan.bin,
            basket=[("book-1", 1)],
            now=moment,
        )
        asked = merchant.check_invoice_request(
            unwrap(request.message(signed_by(buyer.credential, request)), expected=(CT_INVOICE_REQ,)),
            brands={BRAND},
            accepts_bin=lambda prefix: True,
            trust=trust,
            now=moment,
        )
        identity = GatewayIdentity.of(self.encryption.certificate)
        line = OrderLine(sku="book-1", name="کتاب", quantity=1, unit_price=amount, amount=amount)
        offer = merchant.build_invoice(
            asked,
            merchant=shop.identity,
            gateway=identity,
            lines=[line],
            terms="Delivery within three days.",
            lid_m="order-1",
            lifetime=changes.pop("lifetime", timedelta(minutes=10)),
            now=moment,
            rng=os.urandom,
            deliver_by=moment + timedelta(days=3),
        )
        invoice = signed_by(shop.credential, offer.invoice)
        checked_invoice = wallet.check_invoice(
            unwrap(offer.message(invoice, self.encryption.chain), expected=(MT_INVOICE,)),
            request=request.body,
            origin=None,
            trust=trust,
            now=moment,
        )
        card = changes.pop("card", buyer.card)
        order = wallet.build_purchase(
            checked_invoice,
            card(checked_invoice) if callable(card) else card,  # what is typed may depend on the invoice
            rrpid=os.urandom(20),
            now=moment,
            rng=os.urandom,
            sale_kind=changes.pop("sale_kind", SaleKind.SALE),
        )
        if (envelope := changes.pop("envelope", None)) is not None:
            order = with_envelope(order, envelope)
        dual = signed_by(buyer.credential, order.dual_signature)
        received = merchant.receive_purchase(unwrap(order.message(dual), expected=(MT_PREQ,)))
        checked = merchant.check_purchase(received, issued=offer.issued(invoice), trust=trust, now=moment)
        terminal = changes.pop("terminal_id", shop.terminal_id)
        draft = merchant.build_auth_req(checked, terminal_id=terminal, rrpid=os.urandom(20), now=moment)
        signed = signed_by(shop.credential, draft)
        assert not changes
        return Purchase(shop, buyer, amount, offer.invoice.body.xid, draft.message(signed), signed, checked)

    def publish(self) -> None:
        """Put the CRLs of every authority into the repository's folder."""
        publish(self.home, self.pki)

    def key_uses(self, name: str) -> int:
        """How often a key of the gateway was used, as the HSM service tells it."""
        url = f"https://127.0.0.1:{self.settings['hsm']['port']}"
        with http_client(self.tls("gateway"), url) as client:
            return int(raise_problem(client.get(f"/v1/keys/{name}")).json()["uses"])

    # --- gateways ---------------------------------------------------------------------------------------------------

    def gateway_home(self, folder: Path, *, hsm: dict[str, Any] | None = None, **changes: Any) -> Home:
        """A home of a gateway's own below `folder`, with the site's PKI and TLS files; `changes` are settings."""
        home = Home(folder)
        if not home.path.exists():
            home.path.mkdir(parents=True)
            home.pki.symlink_to(self.home.pki)
            home.tls.symlink_to(self.home.tls)
            home.create()
            self.tls("gateway")
        port = free_port()
        own = {"gateway": {**self.settings["gateway"], "port": port, "public_port": free_port(), **changes}}
        write_settings(home, {**self.settings, **own, "hsm": hsm or self.settings["hsm"]})
        return home

    @contextmanager
    def gateway(self, home: Home, *, ready: bool = True) -> Iterator[str]:
        """A gateway in a thread of this process; yields its URL."""
        settings = Settings.load(home)
        app = create_app(partial(service.opened, home, settings, durable=False))
        with server.start(app, tls=home.tls_files("gateway")) as url:
            if ready:
                wait_for(lambda: self._is_ready(url))
            yield url

    @contextmanager
    def gateway_process(
        self, home: Home, *, fatal: str = "", how: signal.Signals = signal.SIGKILL, ready: bool = True
    ) -> Iterator[GatewayProcess]:
        """A gateway as a process; it sends itself the signal `how` right after the step `fatal`."""
        process = Python(["-c", _GATEWAY_PROGRAM, home.path, fatal, str(int(how))])
        started = GatewayProcess(Settings.load(home).gateway.url, home, process)
        try:
            if ready:
                wait_for(lambda: process.poll() is not None or self._is_ready(started.url))
                assert process.poll() is None
            yield started
        finally:
            started.stop()

    def _is_ready(self, url: str) -> bool:
        return is_ready(self.tls("operator"), url)

    # --- building it ------------------------------------------------------------------------------------------------

    @classmethod
    @contextmanager
    def running(
        cls,
        folder: Path,
        dialect: str = "shetab87_ascii",
        zone: dict[str, Any] | None = None,
        hosts: dict[str, Any] | None = None,
        prefixes: dict[str, str] | None = None,
    ) -> Iterator[Self]:
        """Build and run a site below `folder`; `dialect` and `[switch.zone]` are those of both ends of the line.

        `hosts` are further connectors, to which the cards of `prefixes` go; who is at their end is not run here.
        """
        home = provisioned_home(folder)
        home.create()
        pki = PkiFactory(now=now().replace(microsecond=0))
        settings: dict[str, Any] = {
            "hsm": {"port": free_port()},
            "repository": {"port": free_port(), "tls": False},
            "switch": {
                "port": free_port(),
                "admin_port": free_port(),
                "authoriser_port": free_port(),
                "authoriser_mac": True,
                "dialect": dialect,
                "zone": zone or {},
            },
            "gateway": {
                "gateway_id": GATEWAY_ID,
                "dialect": dialect,
                "acquirer_bin": ACQUIRER,
                "answer_timeout": ANSWER_TIMEOUT,
                "reversal_interval": 0.1,
                "key_change_at_sign_on": False,  # many gateways come and go on one line
                **({"connectors": hosts} if hosts else {}),
                **({"routes": {"prefixes": prefixes}} if prefixes else {}),
            },
        }
        write_settings(home, settings)
        zone_keys.make_components(home.secrets, agreed_zone(home, Settings.load(home)))
        for name, each in host_zones(home, Settings.load(home)).items():
            zone_keys.make_components(home.secrets, each.agreed, of=name)
        publish(home, pki)
        for service_name in ("hsm", "switch"):
            tls_files(home, pki, service_name, identity_uri("service", service_name))
        signing, encryption = _make_gateway_keys(home, pki)
        with ExitStack() as stack:
            stack.enter_context(_hsm_process(home, pki, settings["hsm"]["port"]))
            stack.enter_context(
                server.start(
                    repository.create_app(home.pki),
                    tls=None,
                    client_certificate="none",
                    port=settings["repository"]["port"],
                )
            )
            line = Settings.load(home).switch
            switch = stack.enter_context(running_switch(home, line, acquirers=(ACQUIRER,)))
            yield cls(folder, home, pki, signing, encryption, settings, switch)


def _make_gateway_keys(home: Home, pki: PkiFactory) -> tuple[Credential, Credential]:
    """The ceremony: keys in the token, their certificates, the zone keys."""
    with Vault.open(home) as vault:
        ceremony = vault.as_caller("ceremony")
        for own in ("gateway-vault", "gateway-card-ids"):
            ceremony.generate_key(own, own)
        zone_keys.load(vault, home.secrets, agreed_zone(home, Settings.load(home)))
        for zone, each in host_zones(home, Settings.load(home)).items():
            zone_keys.load(vault, home.secrets, each.agreed, of=zone)
        made = []
        for name, issue in (
            ("gateway-signing", pki.gateway_signing),
            ("gateway-encryption", partial(pki.gateway_encryption, suites=("oaep-sha1",))),
        ):
            key: Any = _PublicOnly(ceremony.generate_key(name, name).public_key)
            credential = issue(GATEWAY_ID, acquirer_bin=ACQUIRER, key=key)
            chain = [certificate.public_bytes(Encoding.DER) for certificate in credential.chain]
            ceremony.attach_certificate(name, [credential.der, *chain])
            made.append(credential)
    return made[0], made[1]


class _PublicOnly:
    """Stands for a key whose private half is in the token."""

    def __init__(self, spki: bytes) -> None:
        self._public = load_der_public_key(spki)

    def public_key(self) -> Any:
        return self._public


@contextmanager
def _hsm_process(home: Home, pki: PkiFactory, port: int) -> Iterator[None]:
    process = Python(["-c", _HSM_PROGRAM, home.path])
    operator = tls_files(home, pki, "operator", identity_uri("service", "operator"))

    def ready() -> bool:
        assert process.poll() is None, "the HSM service ended"
        return is_ready(operator, f"https://127.0.0.1:{port}")

    try:
        wait_for(ready)
        yield
    finally:
        process.terminate()
        process.wait(30)


def tls_files(home: Home, pki: PkiFactory, name: str, uri: str) -> TlsFiles:
    """A TLS identity below the operations CA, in the home's folder; made once."""
    files = home.tls_files(name)
    if not files.certificate.exists():
        names: list[x509.GeneralName] = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.UniformResourceIdentifier(uri),
        ]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        if uri == identity_uri("officer", name):
            login = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
            officer = pki.officer(name, roles=("security_officer",), replace={"extended_key_usage": login})
            officer.write(home.tls, name)
            return files
        credential = pki.service(
            name,
            replace={
                "subject_alternative_name": (x509.SubjectAlternativeName(names), False),
                "extended_key_usage": (x509.ExtendedKeyUsage(usages), False),
            },
        )
        credential.write(home.tls, name)
    return files


def publish(home: Home, pki: PkiFactory) -> None:
    """Root, CA certificates, CRLs and the list of these where the services look for them."""
    names = ("root", "brand", "cardholder-ca", "merchant-ca", "gateway-ca", "operations-ca")
    for folder in (home.pki / "cas", home.pki / "crls"):
        folder.mkdir(parents=True, exist_ok=True)
    for name, authority in zip(names, pki.authorities, strict=True):
        path = home.trust_anchors if name == "root" else home.pki / "cas" / f"{name}.pem"
        if not path.exists():
            path.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
        crl = home.pki / "crls" / f"{name}.crl"
        if not crl.exists() or _number(crl) != authority.crl_number:
            staged = crl.with_suffix(".new")
            staged.write_bytes(authority.crl(now()).public_bytes(Encoding.DER))
            staged.replace(crl)
    staged = home.pki / "bci.new"
    staged.write_bytes(_bci(home.pki / "crls", pki))
    staged.replace(home.pki / FILE)


def _bci(crls: Path, pki: PkiFactory) -> bytes:
    """The signed list of these lists."""
    paths = sorted(crls.glob("*.crl"), key=lambda path: path.stem)
    lists = tuple(NamedCrl(each.stem, FULL, _number(each), sha256(each.read_bytes()).digest()) for each in paths)
    moment = now().replace(microsecond=0)
    content = Bci(int(moment.timestamp()), moment, moment + LONGEST_LIFE, lists).to_der()
    return pki.service("bci").sign(CT_BCI, content, signing_time=moment)


def _number(crl: Path) -> int:
    loaded = x509.load_der_x509_crl(crl.read_bytes())
    return loaded.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def write_settings(home: Home, settings: dict[str, Any]) -> None:
    """`kwbp.toml` of a home."""
    lines = []
    for section, values in settings.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {_toml(value)}" for name, value in values.items()]
    home.config.write_text("\n".join(lines) + "\n", "utf-8")


def _toml(value: Any) -> str:
    """All but tables is TOML as it is JSON."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + "}"
    return json.dumps(value)
