"""What a token was seen to do, and which purposes of the key templates it can therefore serve.

The findings come from `probe`, which tries each ability with throw-away keys; nothing here knows a vendor's name. What
a purpose needs stands in the tables below, so a new purpose of a known usage is served without a change here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hsm_service.keys import Usage
from hsm_service.purposes import ALGORITHMS, USAGES, Purpose


class Ability(StrEnum):
    """What is tried, one by one. The value is the name that people read."""

    LOCKED_IN = "locked-in"
    """A key that is not extractable cannot be wrapped out, and a sensitive value cannot be read."""
    USAGES_FIXED = "usages-fixed"
    """The usages and the protection of a stored key cannot be changed afterwards."""
    RSA_KEYS = "rsa-keys"
    """RSA-2048 pairs whose private half says of itself that it is as protected as asked for."""
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    RSA_PKCS1V15 = "rsa-pkcs1v15"
    RSA_PSS_SHA256 = "rsa-pss-sha256"
    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    OAEP_SHA1 = "oaep-sha1"
    """RSAES-OAEP with SHA-1 of an AES key that then opens AES-GCM inside the token."""
    OAEP_SHA256 = "oaep-sha256"
    AES_KEYS = "aes-keys"
    AES_GCM = "aes-gcm"
    IMPORT = "import"
    """A secret key given by value is afterwards sensitive and not extractable."""
    AES_CMAC = "aes-cmac"
    DES2_BLOCK = "des2-block"
    DES3_BLOCK = "des3-block"
    AES_BLOCK = "aes-block"
    """PIN blocks of format 4: two single blocks under an AES key that can do nothing else."""
    RETAIL_MAC = "retail-mac"
    """The MAC of ANSI X9.19, from a key and from its first half as a triple DES key of three equal parts."""
    COPIES_TRUSTED = "copies-trusted"
    """A key that may be backed up is wrapped out by keys that the security officer marked as trusted, by no other."""
    RESTORE = "restore"
    """A private key that comes in wrapped by AES-KWP is afterwards sensitive and not extractable."""
    ZONE_UNWRAP = "zone-unwrap"
    """Zone keys that come in wrapped by AES key wrap (RFC 3394) keep in, and do what the same keys do outside."""
    ZONE_UNWRAP_LONG = "zone-unwrap-long"
    """The same of keys of 24 and 32 bytes: 3-key TDES, AES-256, and the second part of an X9.19 key."""
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Finding:
    """One ability as it was found."""

    ability: Ability
    ok: bool
    reason: str = ""
    """Why not: the CKR_ code that was answered, or what was wrong with the result. Empty if `ok`."""
    variant: str = ""
    """Which of several ways the token takes, for example "CKM_AES_CMAC_GENERAL". Empty if there is one way only."""

    @property
    def refusal(self) -> str:
        """As a clause: "no aes-gcm (CKR_MECHANISM_INVALID)"."""
        return f"no {self.ability.value} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Service:
    """Whether a token can serve a purpose."""

    purpose: str
    """A value of `purposes.Purpose`."""
    algorithms: tuple[str, ...]
    """Key algorithms of `templates` that it can serve the purpose with; empty if it cannot serve it at all."""
    suites: tuple[str, ...]
    """Sealing suites, strongest first; of open-order only."""
    reason: str
    """What stands against the algorithms that are not in the list, those named where it is not all of them:
    "ec-p256, ec-p384: no … (CKR_…)". Empty if nothing."""

    @property
    def ok(self) -> bool:
        """Whether it serves the purpose with at least one algorithm."""
        return bool(self.algorithms)


_ALWAYS: Final = (Ability.LOCKED_IN, Ability.USAGES_FIXED, Ability.RANDOM)
_KEYS: Final[Mapping[str, tuple[Ability, ...]]] = {
    "rsa-2048": (Ability.RSA_KEYS,),
    "rsa-3072": (Ability.RSA_KEYS, Ability.RSA_3072),
    "rsa-4096": (Ability.RSA_KEYS, Ability.RSA_4096),
    "ec-p256": (Ability.ECDSA_P256,),
    "ec-p384": (Ability.ECDSA_P384,),
    "aes-128": (Ability.AES_KEYS,),
    "aes-256": (Ability.AES_KEYS,),
    "des2": (),
    "des3": (),
}
"""What making, or loading, a key of each algorithm needs."""
_RSA_SIGNATURES: Final = (Ability.RSA_PKCS1V15, Ability.RSA_PSS_SHA256)
_WORK: Final[Mapping[tuple[Usage, str], tuple[Ability, ...]]] = {
    (Usage.SIGN, "rsa"): _RSA_SIGNATURES,
    (Usage.SIGN, "ec"): (),
    (Usage.OPEN, "rsa"): (Ability.RSA_PKCS1V15,),  # the signature in the key's own request
    (Usage.RESTORE, "rsa"): (Ability.RESTORE,),
    (Usage.SEAL, "aes"): (Ability.AES_GCM,),
    (Usage.DIGEST, "aes"): (Ability.AES_CMAC,),
    (Usage.MAC, "aes"): (Ability.IMPORT, Ability.AES_CMAC),
    (Usage.RECEIVE, "aes"): (Ability.IMPORT, Ability.AES_CMAC, Ability.DES2_BLOCK, Ability.ZONE_UNWRAP),
    (Usage.RETAIL_MAC, "des2"): (Ability.IMPORT, Ability.RETAIL_MAC),
    (Usage.PIN_BLOCK, "des2"): (Ability.IMPORT, Ability.DES2_BLOCK),
    (Usage.PIN_BLOCK, "des3"): (Ability.IMPORT, Ability.DES3_BLOCK),
    (Usage.PIN_BLOCK, "aes"): (Ability.IMPORT, Ability.AES_BLOCK),
}
"""What using it needs, by usage and family."""
_SUITES: Final = (Ability.OAEP_SHA256, Ability.OAEP_SHA1)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The outcome of a probe: plain values only, so that it can cross a process boundary."""

    findings: tuple[Finding, ...]
    """One for each ability, in the order of `Ability`."""

    def __getitem__(self, ability: Ability) -> Finding:
        return next(each for each in self.findings if each.ability is ability)

    def can(self, ability: Ability) -> bool:
        """Whether it was done and its result verified."""
        return self[ability].ok

    def supports(self, suite: str) -> bool:
        """Whether content sealed with "oaep-sha1" or "oaep-sha256" can be opened."""
        return suite in self.sealing_suites

    @property
    def sealing_suites(self) -> tuple[str, ...]:
        """The sealing suites, strongest first, as an encryption certificate names them."""
        return tuple(each.value for each in _SUITES if self.can(each))

    def missing(self) -> tuple[str, ...]:
        """Names of the abilities that the token lacks."""
        return tuple(each.ability.value for each in self.findings if not each.ok)

    def rows(self) -> tuple[Finding, ...]:
        """All findings, for a table: `ability`, `ok`, `variant`, `reason`."""
        return self.findings

    def purposes(self) -> tuple[Service, ...]:
        """For each purpose of the key templates whether and how the token can serve it, for a table."""
        return tuple(self.service(purpose) for purpose in Purpose)

    def service(self, purpose: Purpose) -> Service:
        """Whether and how the token can serve `purpose`."""
        lacks = {each: self.lacks(purpose, each) for each in sorted(ALGORITHMS[purpose])}
        affected: dict[Finding, list[str]] = {}
        for algorithm, findings in lacks.items():
            for each in findings:
                affected.setdefault(each, []).append(algorithm)
        algorithms = tuple(each for each, findings in lacks.items() if not findings)
        return Service(
            purpose=purpose.value,
            algorithms=algorithms,
            suites=self.sealing_suites if algorithms and USAGES[purpose] is Usage.OPEN else (),
            reason="; ".join(
                ("" if len(names) == len(lacks) else f"{', '.join(names)}: ") + each.refusal
                for each, names in affected.items()
            ),
        )

    def lacks(self, purpose: Purpose, algorithm: str) -> tuple[Finding, ...]:
        """What stands against making a key of `algorithm` for `purpose` in this token; empty if nothing does."""
        usage = USAGES[purpose]
        needed = (*_ALWAYS, *_KEYS[algorithm], *_WORK[usage, algorithm.partition("-")[0]])
        lacking = tuple(self[each] for each in needed if not self.can(each))
        if usage in {Usage.OPEN, Usage.RESTORE} and not self.sealing_suites:
            lacking += tuple(self[each] for each in _SUITES)
        return lacking
