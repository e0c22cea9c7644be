"""An installation whose RA, CA repository and key service are up on loopback, for commands of certificates' holders.

    with holders_site(folder) as site:
        site.merchant("bookshop", "M-1", key="shop")                # certified, and configured
        said = site.run("merchant", "certificate", "show", "bookshop")
        said.code, said.out, said.err

A command runs in this process, from `kwbp`'s own entrance to its exit code; what it talks to are the real services.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partialmethod
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from ca.repository import create_app as create_repository
from cli import main as command
from hsm_service.app import create_app as create_key_service
from hsm_service.operation_docket import Approving
from hsm_service.provision import provision_tokens
from hsm_service.vault import Vault
from kwbp.validators import VALIDATORS
from pki.names import name as distinguished
from ra.states import State
from runtime.secrets import Secret, read_secret, write_secret
from runtime.server import start
from runtime.settings import Home
from storefront.merchant.files import key_files, tls_name
from storefront.wallet import container
from storefront.wallet.editor import WalletEditor
from tests.support.ca_world import tls_credential, tls_files
from tests.support.cps_cases import Office, csr
from tests.support.pki_factory import Credential, Key, PkiFactory, p256, pem
from tests.support.registration_site import GENEROUS, RegistrationSite

TOKEN: Final = "merchants"
CEREMONY: Final = "ceremony"


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What a program reads."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass
class HoldersSite:
    """The installation. The clock of its authorities is set to the machine's before each command."""

    home: Home
    site: RegistrationSite
    secret: Path
    sections: dict[str, str] = field(default_factory=dict)
    _cards: dict[str, str] = field(default_factory=dict)

    # Commands

    def run(self, *words: str, stdin: str = "", language: str = "en") -> Said:
        """`kwbp WORDS`, with what its person types."""
        self.site.world.clock.now = datetime.now(UTC).replace(microsecond=0)
        environment = {
            "KWBP_HOME": str(self.home.path),
            "KWBP_LANG": language,
            "KWBP_WALLET_PASSPHRASE_FILE": str(self.secret),
            "COLUMNS": "200",
        }
        code: Any = 0
        with (
            pytest.MonkeyPatch.context() as patch,
            CliRunner(env=environment).isolation(input=stdin) as (out, err, _both),
        ):
            patch.setattr(sys, "argv", ["kwbp", *words])
            patch.setattr(command, "_collect_garbage_from_here_on", lambda: None)  # it is not this process's to say
            try:
                command.main()
            except SystemExit as end:
                code = end.code
            said = out.getvalue().decode(), err.getvalue().decode()
        return Said(int(code or 0), *said)

    def done(self, *words: str, **how: Any) -> str:
        """What a command that succeeds says to people."""
        said = self.run(*words, **how)
        assert said.code == 0, said
        return said.out

    def write_settings(self) -> None:
        self.home.config.write_text("\n".join(self.sections.values()), "utf-8")

    # Merchants

    def merchant(self, name: str, merchant_id: str, *, key: str | None = None) -> None:
        """A merchant server of this installation that is certified: for a key in the token, or one of its own."""
        if key is None:
            own = p256()
            request = csr(own)
        else:
            with self.vault() as vault:
                keys = vault.as_caller(CEREMONY)
                keys.generate_key(key, "merchant-signing-ec", owner=merchant_id)
                request = keys.certification_request(key, distinguished(cn=merchant_id).public_bytes())
        world = self.site.world
        application = world.certified_merchant(merchant_id=merchant_id, name=name, csrs={"signing": request})
        issued = world.store.certificates(application.id)[0]
        chain = [issued.der, *issued.chain]
        if key is None:
            place, certificates = key_files(self.home, name)
            place.parent.mkdir(mode=0o700, exist_ok=True)
            write_secret(place, private_pem(own))
            certificates.write_bytes(pem(*map(x509.load_der_x509_certificate, chain)))
        else:
            with self.vault() as vault:
                vault.attach_certificate(CEREMONY, key, chain)
            self._write(tls_credential(self.site.office.pki, "merchant", merchant_id), tls_name(name))
        held = "" if key is None else f'key = "{key}"\n'
        self.sections[name] = (
            f'[merchants.{name}]\nmerchant_id = "{merchant_id}"\nname = "{name}"\nterminal_id = "T1"\n{held}'
        )
        self.write_settings()

    def renewals(self) -> list[str]:
        """The applications for next certificates of merchants, the oldest first."""
        every = reversed(self.site.world.store.applications())
        return [each.id for each in every if each.replaces is not None]

    def state(self, application: str) -> State:
        return self.site.world.store.application(application).state

    def approve(self, application: str) -> None:
        """The officer's decision on a renewal."""
        self.site.world.decide(application, "approve", self.site.office.approver)

    @contextlib.contextmanager
    def key_service(self) -> Iterator[Vault]:
        """The key service, up."""
        with (
            self.vault() as vault,
            start(create_key_service(vault), tls=tls_files(self.pki, "service", "hsm", self.home.tls)) as url,
        ):
            self.sections["hsm"] = endpoint("hsm", url)
            self.write_settings()
            yield vault

    def vault(self) -> Vault:
        return Vault.open(
            self.home,
            [TOKEN],
            content_types={oid.dotted_string: judge for oid, judge in VALIDATORS.items()},
            approving=Approving(self.pki.trust),
        )

    @property
    def passphrase(self) -> Secret:
        """That of every wallet."""
        return read_secret(self.secret)

    @property
    def pki(self) -> PkiFactory:
        return self.site.office.pki

    # Cards

    def new_card(self, label: str) -> str:
        """A card of somebody who calls it `label`: its number and secrets as they type them (JSON)."""
        issued = self.site.new_card().issued
        typed = {each: getattr(issued, each).reveal() for each in ("pan", "expiry", "cvv2", "pin2")}
        self._cards[label] = json.dumps(typed)
        return self._cards[label]

    def card_of(self, label: str) -> str:
        """What is typed of the card that was made last under this name."""
        return self._cards[label]

    def _write(self, credential: Credential, name: str) -> None:
        credential.write(self.home.tls, name)


def private_pem(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def endpoint(service: str, url: str) -> str:
    """The section of a service in the settings."""
    parts = urlsplit(url)
    return f'[{service}]\nhost = "localhost"\nport = {parts.port}\ntls = {str(parts.scheme == "https").lower()}\n'


@contextlib.contextmanager
def holders_site(folder: Path) -> Iterator[HoldersSite]:
    """Make the installation in `folder`, and start its RA and the repository of its CA."""
    office = Office(PkiFactory(now=datetime.now(UTC).replace(microsecond=0)))
    home = Home(folder / "home")
    every = [each.model_copy(update={"burst": 10_000}) for each in GENEROUS.addresses]  # all come from one address
    limits = GENEROUS.model_copy(update={"addresses": every, "cards": GENEROUS.cards.model_copy(update={"burst": 9})})
    site = RegistrationSite(home.path, office, limits=limits)  # the CA's folder is the installation's `pki`
    home.create()
    provision_tokens(home)
    made = HoldersSite(home, site, folder / "passphrase")
    write_secret(made.secret, b"a long passphrase of a test")
    made._write(tls_credential(office.pki, "service", "operator"), "operator")
    one_time = partialmethod(WalletEditor.begin_registration, one_time_key=site.next_one_time_key)
    with (
        pytest.MonkeyPatch.context() as patch,
        start(
            site.app, tls=tls_files(office.pki, "service", "ra", folder / "tls"), client_certificate="optional"
        ) as ra,
        start(create_repository(home.pki), tls=None) as repository,
    ):
        patch.setattr(container, "_MEMORY_KIB", 8 * 1024)  # wallets that are sealed in milliseconds
        patch.setattr(container, "_PASSES", 1)
        patch.setattr(WalletEditor, "begin_registration", one_time)  # keys that tests share
        made.sections |= {"ra": endpoint("ra", ra), "repository": endpoint("repository", repository)}
        made.write_settings()
        yield made
    site.close()
