"""NIST's Public Key Interoperability Test Suite: its certificates and lists, and a directory that has them all.

The data come with the vectors of `cryptography`; the settings and the expected results stand in `pkits.csv`.
"""

from __future__ import annotations

import csv
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cryptography_vectors
from cryptography import x509

from pki.crl import CrlSet, IndexedCrl
from pki.errors import CertificateError, PathError
from pki.policy_tree import ANY_POLICY, PolicySettings
from pki.validator import Validator

DATA = Path(cryptography_vectors.__file__).parent / "x509" / "PKITS_data"
CASES = Path(__file__).parent / "pkits.csv"
NOT_PASSED = Path(__file__).parent / "pkits_not_passed.csv"
MOMENT = datetime(2020, 1, 1, tzinfo=UTC)  # within the years of the suite, 2010 to 2030
_POLICY = "2.16.840.1.101.3.2.1.48."


@dataclass(frozen=True)
class Case:
    """A line of `pkits.csv`: the target, whether it is valid, the settings, and what an invalid one is refused for."""

    number: str
    certificate: str
    valid: bool
    settings: PolicySettings
    refusal: str


def cases() -> list[Case]:
    return [_case(**row) for row in csv.DictReader(CASES.read_text().splitlines())]


def _case(case: str, certificate: str, valid: str, policies: str, flags: str, refusal: str) -> Case:
    initial = frozenset(x509.ObjectIdentifier(_POLICY + policy) for policy in policies.split())
    settings = PolicySettings(initial or frozenset({ANY_POLICY}), **dict.fromkeys(flags.split(), True))
    return Case(case, certificate, valid == "yes", settings, refusal)


def not_passed() -> dict[str, str]:
    """Cases that are valid and refused all the same, with the refusal; the reason stands beside it in the file."""
    rows = csv.DictReader(NOT_PASSED.read_text().splitlines())
    return {row["case"]: row["refusal"] for row in rows if row["reason"]}


class Directory:
    """Everything of the suite in one place, as an LDAP directory would have it."""

    def __init__(self) -> None:
        self.unreadable: set[str] = set()
        self._by_name: dict[str, x509.Certificate] = {}
        crls = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # negative serial numbers
            for path in sorted((DATA / "certs").glob("*.crt")):
                try:
                    self._by_name[path.stem] = x509.load_der_x509_certificate(path.read_bytes())
                except ValueError:
                    self.unreadable.add(path.stem)
            for path in sorted((DATA / "crls").glob("*.crl")):
                try:
                    crls.append(IndexedCrl.from_der(path.read_bytes()))
                except CertificateError:
                    self.unreadable.add(path.stem)
        authorities = [found for stem, found in self._by_name.items() if not stem.endswith("EE")]
        self._validator = Validator(self._by_name["TrustAnchorRootCertificate"], authorities, CrlSet(crls))

    def verdict(self, case: Case) -> str:
        """`valid`, or the reason of the refusal."""
        if case.certificate in self.unreadable:
            return "unreadable"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                self._validator.validate(self._by_name[case.certificate], MOMENT, case.settings)
            except PathError as error:
                return error.reason
        return "valid"
