"""Key templates (`templates.yaml`): what a key is for, what it may sign, who makes it and who uses it.

Who may do what is decided here and nowhere else: `Template.permits` is asked by the vault, the one choke point, for
every operation of every caller, whichever way they came.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Annotated, Final, Literal

import yaml
from cryptography.x509 import ObjectIdentifier
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hsm_service.keys import IMPORTED_USAGES, Usage
from hsm_service.limits import Limits
from hsm_service.purposes import ALGORITHMS, USAGES, Purpose
from pki import oids
from pki.roles import Role

OWNER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Key owners and key names: what can stand in an identity URI, a path and a pattern without meaning anything else."""

_PLACEHOLDER: Final = "{owner}"
_PATTERN: Final = re.compile(r"ceremony|(service|merchant|officer|gateway):([A-Za-z0-9._-]+|\*|\{owner\})")
_CONTENT_TYPES: Final = {name: oid for oid, name in oids.NAMES.items() if name.startswith("id-kwbp-ct-")}


class TemplatesError(Exception):
    """The templates file is not as expected; raised at start-up, before any token is opened."""


class Operation(StrEnum):
    """What can be asked of a key. `generate` and `attach` are its creators', `describe` anyone's who may touch it."""

    GENERATE = "generate"
    ATTACH = "attach"
    ROTATE = "rotate"
    ENABLE = "enable"
    DISABLE = "disable"
    DESTROY = "destroy"
    KEEP = "keep"
    LIMITS = "limits"
    BACKUP = "backup"
    RESTORE = "restore"
    REQUEST = "request"
    DESCRIBE = "describe"
    ATTEST = "attest"
    CERTIFICATE = "certificate"
    CRL = "crl"
    CMS = "cms"
    OCSP = "ocsp"
    TIMESTAMP = "timestamp"
    CHECKPOINT = "checkpoint"
    RAW = "raw"
    OPEN = "open"
    SEAL = "seal"
    UNSEAL = "unseal"
    CARD_DIGEST = "card-digest"
    PIN_BLOCK = "pin-block"
    MAC = "mac"
    VERIFY_MAC = "verify-mac"
    RECEIVE = "receive-zone-key"


Algorithm = Literal["rsa-2048", "rsa-3072", "rsa-4096", "ec-p256", "ec-p384", "aes-256", "aes-128", "des2", "des3"]
KEY_PAIRS: Final = frozenset({"rsa-2048", "rsa-3072", "rsa-4096", "ec-p256", "ec-p384"})

_OPERATIONS: Final[Mapping[Purpose, frozenset[Operation]]] = {
    Purpose.CA: frozenset({Operation.CERTIFICATE, Operation.CRL}),
    Purpose.CMS: frozenset({Operation.CMS}),
    Purpose.OCSP: frozenset({Operation.OCSP}),
    Purpose.TIMESTAMP: frozenset({Operation.TIMESTAMP}),
    Purpose.CHECKPOINT: frozenset({Operation.CHECKPOINT}),
    Purpose.RAW: frozenset({Operation.RAW}),
    Purpose.OPEN_ORDER: frozenset({Operation.OPEN}),
    Purpose.SEAL_PAN: frozenset({Operation.SEAL, Operation.UNSEAL}),
    Purpose.CARD_DIGEST: frozenset({Operation.CARD_DIGEST}),
    Purpose.PIN_BLOCK: frozenset({Operation.PIN_BLOCK}),
    Purpose.MAC: frozenset({Operation.MAC, Operation.VERIFY_MAC}),
    Purpose.RETAIL_MAC: frozenset({Operation.MAC, Operation.VERIFY_MAC}),
    Purpose.ZONE_MASTER: frozenset({Operation.RECEIVE}),
    Purpose.RESTORE: frozenset(),
    Purpose.PROBE: frozenset(),
}
_BARE: Final = frozenset({Purpose.RESTORE, Purpose.RAW, Purpose.PROBE})
"""Purposes of key pairs without certificate: who wraps for one believes its attestation, the others prove nothing."""
_CREATORS: Final = frozenset(
    {
        Operation.GENERATE,
        Operation.ATTACH,
        Operation.ROTATE,
        Operation.ENABLE,
        Operation.DISABLE,
        Operation.DESTROY,
        Operation.KEEP,
        Operation.LIMITS,
        Operation.BACKUP,
        Operation.RESTORE,
    }
)
_EITHER: Final = frozenset({Operation.REQUEST, Operation.DESCRIBE, Operation.ATTEST})


def _check_pattern(pattern: str) -> str:
    if _PATTERN.fullmatch(pattern) is None:
        raise ValueError(f"{pattern!r} names no caller; expected ceremony or <kind>:<name>, *, {{owner}}")
    return pattern


Pattern = Annotated[str, AfterValidator(_check_pattern)]


class Template(BaseModel):
    """One kind of key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    description: str
    token: Literal["root", "ca", "gateway", "merchants", "standby", "each"]
    algorithm: Algorithm
    purpose: Purpose
    holds: frozenset[Role] = frozenset()
    issues: frozenset[Role] = frozenset()
    backup: bool = Field(default=False, description="whether such a key can be wrapped for a backup token")
    limits: Limits = Limits()
    content_types: tuple[str, ...] = Field(default=(), description="names of `pki.oids`, such as id-kwbp-ct-invoice")
    creators: tuple[Pattern, ...] = Field(min_length=1)
    callers: tuple[Pattern, ...] = Field(min_length=1)
    only: Mapping[Operation, tuple[Pattern, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Template:
        if self.algorithm not in ALGORITHMS[self.purpose]:
            raise ValueError(f"a key for {self.purpose} is one of {sorted(ALGORITHMS[self.purpose])}")
        if bool(self.holds) != (self.is_pair and self.purpose not in _BARE):
            raise ValueError("a key pair, and no secret key, names the roles of its certificates")
        if self.backup and USAGES[self.purpose] is not Usage.SIGN:
            raise ValueError("only keys that sign are backed up: what was sealed to a key must have one place to open")
        if bool(self.issues) != (self.purpose is Purpose.CA):
            raise ValueError("a CA key, and no other, names the roles it issues")
        if bool(self.content_types) != (self.purpose is Purpose.CMS):
            raise ValueError("a message key, and no other, names its content types")
        if unknown := set(self.content_types) - _CONTENT_TYPES.keys():
            raise ValueError(f"no content types {sorted(unknown)}")
        done = _OPERATIONS[self.purpose] | ({Operation.BACKUP} if self.backup else set())
        done |= {Operation.ATTACH} if self.holds else set()
        if not self.only.keys() <= done:
            raise ValueError(f"a key for {self.purpose} does only {sorted(done)}")
        return self

    @property
    def is_pair(self) -> bool:
        """Whether it has a public key, and with it requests, certificates and attestations."""
        return self.algorithm in KEY_PAIRS

    @property
    def imported(self) -> bool:
        """Whether its value comes from components instead of being made in the token."""
        return USAGES[self.purpose] in IMPORTED_USAGES

    def limits_of(self, own: Limits) -> Limits:
        """The limits of a key that has `own` ones."""
        return own.over(self.limits)

    @property
    def owned(self) -> bool:
        """Whether a key of this kind belongs to somebody, who must be named when it is made."""
        patterns = (*self.creators, *self.callers, *(each for group in self.only.values() for each in group))
        return any(_PLACEHOLDER in pattern for pattern in patterns)

    @property
    def content_type_oids(self) -> tuple[str, ...]:
        """The content types as dotted OIDs."""
        return tuple(_CONTENT_TYPES[name].dotted_string for name in self.content_types)

    def offers(self, operation: Operation) -> bool:
        """Whether a key of this kind can do `operation` at all, whoever asks."""
        if operation in {Operation.ATTACH, Operation.REQUEST}:
            return bool(self.holds)
        if operation is Operation.ATTEST:
            return self.is_pair
        if operation in {Operation.BACKUP, Operation.RESTORE}:
            return self.backup
        return operation in _OPERATIONS[self.purpose] | _CREATORS or operation is Operation.DESCRIBE

    def allowed(self, operation: Operation, owner: str | None) -> tuple[str, ...]:
        """The caller patterns that may ask `operation` of a key that belongs to `owner`."""
        if operation in _CREATORS:
            patterns = self.only.get(operation, self.creators)
        elif operation in _EITHER:
            more = self.only.get(Operation.BACKUP, ()) if operation is Operation.DESCRIBE else ()
            patterns = tuple(dict.fromkeys((*self.creators, *self.callers, *more)))
        else:
            patterns = self.only.get(operation, self.callers)
        if owner is None:
            return tuple(pattern for pattern in patterns if _PLACEHOLDER not in pattern)
        return tuple(pattern.replace(_PLACEHOLDER, owner) for pattern in patterns)

    def users(self, owner: str | None) -> tuple[str, ...]:
        """The caller patterns of those who use a key that belongs to `owner`, for whatever it does."""
        return tuple(dict.fromkeys(each for kind in _OPERATIONS[self.purpose] for each in self.allowed(kind, owner)))

    def permits(self, caller: str, operation: Operation, owner: str | None) -> bool:
        """Whether `caller` (`kind:name`, or `ceremony`) may ask `operation` of a key that belongs to `owner`."""
        return any(
            pattern == caller or ("*" in pattern and fnmatchcase(caller, pattern))
            for pattern in self.allowed(operation, owner)
        )


class Templates(BaseModel):
    """All templates, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    templates: Mapping[str, Template]
    digest: str = Field(description="SHA-256 of the file, hex: the policy version in the audit journal")

    def __getitem__(self, name: str) -> Template:
        return self.templates[name]

    def get(self, name: str) -> Template | None:
        return self.templates.get(name)

    @classmethod
    def parse(cls, text: bytes) -> Templates:
        """Templates from the bytes of a YAML file; raises TemplatesError."""
        try:
            document = yaml.safe_load(text)
            named = {name: {"name": name, **fields} for name, fields in document.pop("templates").items()}
            return cls.model_validate({**document, "templates": named, "digest": hashlib.sha256(text).hexdigest()})
        except (yaml.YAMLError, ValidationError, AttributeError, KeyError, TypeError) as error:
            raise TemplatesError(f"the key templates are not as expected: {error}") from error


@cache
def built_in() -> Templates:
    """The templates of this product, `templates.yaml` beside this file."""
    return Templates.parse(files(__package__).joinpath("templates.yaml").read_bytes())


def content_type_name(dotted: str) -> str:
    """Name of a content type for people and records; the OID itself if it has none."""
    try:
        return oids.NAMES.get(ObjectIdentifier(dotted), dotted)
    except ValueError:
        return dotted
