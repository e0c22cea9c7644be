"""Golden artefacts: one certificate of every profile, made as the CA makes them, under golden authorities.

    golden = Golden(now)                                  # software keys: P-256, and RSA where the profile wants it
    golden["merchant-signing"].certificate, golden.chain("merchant-signing"), golden.crls()

Made with `ca.prepare` and `ca.crl` alone, so whatever a foreign judge says of them it says of what we issue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ca.crl import FULL_SCOPE, CrlScope, entry_der, prepare_crl
from ca.lints import require_clean
from ca.prepare import Issuer, new_serial, prepare
from ca.profile import Profile, profiles
from ca.publication import Publication
from cps.entitlement import Holder
from pki.builder import assemble_certificate, assemble_crl
from pki.crl import CrlSet
from pki.extensions import AccountBinding, GatewayData, MerchantData, OfficerData, SealingSuites
from pki.names import name
from pki.path import Trust
from tests.support.pki_factory import IBAN, Key, p256, pem, rsa_key
from tests.support.software_signing import raw_signature

PUBLICATION: Final = Publication("http://repository.example", "https://repository.example/cps/1.0.0")
SIGNING_PROFILES: Final = (
    "root",
    "brand",
    "geopolitical",
    "cardholder-ca",
    "merchant-ca",
    "gateway-ca",
    "operations-ca",
)
_COMMITMENT: Final = "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg"


@dataclass(frozen=True)
class GoldenCertificate:
    """A certificate with its key and profile."""

    profile: Profile
    certificate: x509.Certificate
    key: Key


def _holder(profile: Profile, key: Any) -> Holder:
    own: dict[str, dict[str, Any]] = {
        "root": {"subject": name(cn="KWBP Root CA", o="KWBP")},
        "cardholder": {"subject": name(cn=_COMMITMENT, c=None)},
        "merchant-signing": {
            "subject": name(cn="فروشگاه کتاب", o="Bookshop Co"),
            "identity": "urn:kwbp:merchant:M-1",
            "origins": ("https://bookshop.example",),
            "extensions": (
                MerchantData("M-1", "603799", "کتاب", 364, True),
                AccountBinding.of(IBAN, bytes(range(16))),
            ),
        },
        "gateway-signing": {
            "subject": name(cn="Gateway One", o="Acquirer"),
            "identity": "urn:kwbp:gateway:GW-1",
            "extensions": (GatewayData("GW-1", "603799"),),
        },
        "gateway-encryption": {
            "subject": name(cn="Gateway One", o="Acquirer"),
            "identity": "urn:kwbp:gateway:GW-1",
            "extensions": (GatewayData("GW-1", "603799"), SealingSuites(("oaep-sha1",))),
        },
        "officer": {
            "subject": name(cn="Vetting Officer One", o="RA"),
            "identity": "urn:kwbp:officer:officer-1",
            "extensions": (OfficerData("officer-1", "RA", ("vetting_officer",)),),
        },
        "service-tls": {
            "subject": name(cn="KWBP ca", o="KWBP"),
            "identity": "urn:kwbp:service:ca",
            "hosts": ("ca.kwbp.example", "127.0.0.1", "::1"),
        },
        "service-signing": {"subject": name(cn="KWBP RA", o="KWBP"), "identity": "urn:kwbp:service:ra"},
    }
    fields = own.get(profile.name, {"subject": name(cn=f"KWBP {profile.name}", o="KWBP")})
    return Holder(public_key=key.public_key(), **fields)


def _key(profile: Profile) -> Key:
    if profile.name == "root":
        return ec.generate_private_key(ec.SECP384R1())
    if "P-256" in profile.key.curves:
        return p256()
    return rsa_key(0)


class Golden:
    """The hierarchy of `now` (aware UTC)."""

    def __init__(self, now: datetime) -> None:
        self.now = now.replace(microsecond=0)
        self._made: dict[str, GoldenCertificate] = {}
        below = [each for each in profiles() if each not in SIGNING_PROFILES]
        for profile_name in (*SIGNING_PROFILES, *below):
            self._made[profile_name] = self._issue(profiles()[profile_name])

    def __getitem__(self, profile_name: str) -> GoldenCertificate:
        return self._made[profile_name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def _issue(self, profile: Profile) -> GoldenCertificate:
        key = _key(profile)
        issuer = None if profile.issuer == "self" else self.issuer(profile.issuer)
        signer = key if profile.issuer == "self" else self[profile.issuer].key
        # Issued a day ago, so that judges whose clock is set back a little accept them.
        made_at = self.now - timedelta(days=1) + timedelta(minutes=len(self._made))
        holder = _holder(profile, key)
        tbs = prepare(
            profile, holder, issuer=issuer, serial=new_serial(lambda n: key_bytes(key, n)), now=made_at,
            publication=PUBLICATION,
        )  # fmt: skip
        issuer_key = signer.public_key()
        require_clean(tbs, profile, issuer=issuer, issuer_key=issuer_key, publication=PUBLICATION, now=made_at)
        der = assemble_certificate(tbs, raw_signature(signer, tbs), issuer_key)
        return GoldenCertificate(profile, x509.load_der_x509_certificate(der), key)

    def issuer(self, profile_name: str) -> Issuer:
        """The authority of this name."""
        return Issuer(profile_name, self[profile_name].certificate)

    def chain(self, profile_name: str) -> list[x509.Certificate]:
        """The authorities above a certificate, nearest first, the root last."""
        above = []
        issuer = self[profile_name].profile.issuer
        while issuer != "self":
            above.append(self[issuer].certificate)
            issuer = self[issuer].profile.issuer
        return above

    def crl(
        self, profile_name: str, *, revoked: Sequence[x509.Certificate] = (), scope: CrlScope = FULL_SCOPE
    ) -> x509.CertificateRevocationList:
        """A CRL of an authority, by default the full one, listing `revoked` as superseded an hour ago."""
        found = self[profile_name]
        assert found.profile.ca is not None
        since = self.now - timedelta(hours=1)
        entries = [entry_der(format(each.serial_number, "x"), since, "superseded") for each in revoked]
        tbs = prepare_crl(
            self.issuer(profile_name),
            number=7 + len(revoked),
            entries=entries,
            rule=found.profile.ca.crl,
            scope=scope,
            now=self.now + timedelta(seconds=len(revoked)),  # later than the empty one, for judges that compare
        )
        der = assemble_crl(tbs, raw_signature(found.key, tbs), found.key.public_key())
        return x509.load_der_x509_crl(der)

    def crls(self) -> list[x509.CertificateRevocationList]:
        """The empty full CRL of every authority."""
        return [self.crl(each) for each in SIGNING_PROFILES]

    def trust(self) -> Trust:
        """What a party believes that pins the golden root."""
        authorities = tuple(self[each].certificate for each in SIGNING_PROFILES)
        return Trust(authorities[:1], authorities[1:], CrlSet(self.crls()))

    def write(self, folder: Path) -> None:
        """root.pem, authorities.pem, crls.pem and <profile>.pem and .der."""
        (folder / "root.pem").write_bytes(pem(self["root"].certificate))
        (folder / "authorities.pem").write_bytes(pem(*(self[each].certificate for each in SIGNING_PROFILES[1:])))
        (folder / "crls.pem").write_bytes(pem(*self.crls()))
        for profile_name, made in self._made.items():
            (folder / f"{profile_name}.pem").write_bytes(pem(made.certificate))
            (folder / f"{profile_name}.der").write_bytes(made.certificate.public_bytes(Encoding.DER))


def key_bytes(key: Key, count: int) -> bytes:
    """`count` bytes that differ from key to key: serial numbers of golden certificates."""
    numbers = key.public_key().public_numbers()
    value = numbers.n if isinstance(numbers, rsa.RSAPublicNumbers) else numbers.x
    return b"\x5a" + value.to_bytes(1024, "big")[-count + 1 :]
