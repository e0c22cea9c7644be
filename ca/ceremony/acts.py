"""What is done to a hierarchy that was founded, as data: one YAML file a ceremony (`ca/ceremonies/*.yaml`).

| kind | what it does | room |
| --- | --- | --- |
| founding, root | the hierarchy, or a root alone, from nothing (`ca.ceremony.model`) | service, root |
| sub-ca | a further authority below one in force | both |
| key | keys of the services, certified or bare; new certificates for keys that are there | service |
| crl | a root's next CRL, with or without revocations | root |
| rollover | the next root, whose key the one in force names (RFC 8649), and the key of the one after it | root |
| restore | a key out of its backup, onto another token | service |
| destroy | keys taken out of use and scheduled; later, in a ceremony of its own, attested gone | either |
"""

from __future__ import annotations

from datetime import timedelta
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from ca.ceremony.model import (
    AuthorityEntry,
    BareKeyEntry,
    Ceremony,
    Country,
    Header,
    Model,
    Name,
    SystemKeyEntry,
    not_as_expected,
)
from ca.errors import CeremonyError
from ca.prepare import ROOT
from cps import strict_yaml
from cps.dossier import Text
from cps.model import RevocationReason

Subject = Annotated[str, StringConstraints(pattern=r"^[a-z]+/[a-z0-9][a-z0-9-]{0,39}$")]
"""A certificate as the transcript calls it, such as `cas/brand`."""
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""A file in the folder of the ceremony file; never a path."""


class SubCaCeremony(Model):
    """Further authorities, each below one that is in force or stands above it in the list."""

    ceremony: Header
    organisation: Text
    country: Country
    authorities: tuple[AuthorityEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        _check_kind(self.ceremony, "sub-ca")
        _check_once([entry.name for entry in self.authorities])
        return self


class KeyCeremony(Model):
    """Keys of services: `make` with certificates, `renew` certificates of keys that are there, `bare` ones without."""

    ceremony: Header
    organisation: Text
    country: Country
    make: tuple[SystemKeyEntry, ...] = ()
    renew: tuple[SystemKeyEntry, ...] = ()
    bare: tuple[BareKeyEntry, ...] = ()

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        _check_kind(self.ceremony, "key")
        names = [*(entry.name for entry in (*self.make, *self.renew)), *(entry.name for entry in self.bare)]
        if not names:
            raise ValueError("it names no key")
        _check_once(names)
        return self


class Revocation(Model):
    """A certificate that the root takes back, and why (RFC 5280 5.3.1)."""

    certificate: Subject
    reason: RevocationReason


class CrlCeremony(Model):
    """A root's next CRL: every entry of the last one, and those named here; `root` is the name of its key."""

    ceremony: Header
    root: Name = ROOT
    revoke: tuple[Revocation, ...] = ()

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        _check_kind(self.ceremony, "crl")
        _check_once([entry.certificate for entry in self.revoke])
        return self


class RolloverCeremony(Model):
    """The next root: `root` is the key that the root in force names, `next_root` the one after it, made now."""

    ceremony: Header
    organisation: Text
    country: Country
    root: AuthorityEntry
    next_root: BareKeyEntry

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        _check_kind(self.ceremony, "rollover")
        _check_once([self.root.name, self.next_root.name])
        return self


class RestoreCeremony(Model):
    """A key out of its backup: `backup` lies beside the ceremony file, `recipient` is the key that it is wrapped to."""

    ceremony: Header
    key: Name
    backup: FileName
    recipient: Name
    token_is_lost: bool = Field(default=False, strict=True)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        _check_kind(self.ceremony, "restore")
        return self


class KeyVersion(Model):
    """One version of a key."""

    name: Name
    template: Name
    version: int = Field(default=1, ge=1, strict=True)


class DestroyCeremony(Model):
    """Keys that end. `schedule`: disabled, destroyed once `wait` is over; `attest`: a look whether they are gone."""

    ceremony: Header
    act: Literal["schedule", "attest"]
    wait: timedelta = Field(default=timedelta(days=30), ge=timedelta(days=1), le=timedelta(days=366))
    keys: tuple[KeyVersion, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        _check_kind(self.ceremony, "destroy")
        _check_once([f"{entry.name}/{entry.version}" for entry in self.keys])
        return self


Act = Ceremony | SubCaCeremony | KeyCeremony | CrlCeremony | RolloverCeremony | RestoreCeremony | DestroyCeremony
ACTS: Final[dict[str, type[Act]]] = {
    "founding": Ceremony,
    "root": Ceremony,
    "sub-ca": SubCaCeremony,
    "key": KeyCeremony,
    "crl": CrlCeremony,
    "rollover": RolloverCeremony,
    "restore": RestoreCeremony,
    "destroy": DestroyCeremony,
}


def load_act(text: str | bytes) -> Act:
    """A ceremony of any kind from YAML (UTF-8); raises CeremonyError naming the field that is not as expected."""
    try:
        document = strict_yaml.load(text)
    except ValueError as error:
        raise CeremonyError(f"the ceremony file is {error}") from None
    return act_of(document)


def act_of(document: Any) -> Act:
    """A ceremony from its fields; raises CeremonyError."""
    header = document.get("ceremony") if isinstance(document, dict) else None
    kind = header.get("kind") if isinstance(header, dict) else None
    if not isinstance(kind, str) or kind not in ACTS:
        raise CeremonyError(f"the ceremony file is not as expected: ceremony.kind: one of {', '.join(ACTS)}")
    try:
        return ACTS[kind].model_validate(document)
    except ValidationError as error:
        raise not_as_expected(error) from None


def load_ceremony(text: str | bytes) -> Ceremony:
    """A founding from YAML; raises CeremonyError, also for a ceremony of another kind."""
    act = load_act(text)
    if not isinstance(act, Ceremony):
        raise CeremonyError(f"a ceremony of kind {act.ceremony.kind} founds nothing")
    return act


def ready_made() -> dict[str, Traversable]:
    """The ceremony files that come with the product, by name."""
    found = [entry for entry in files("ca").joinpath("ceremonies").iterdir() if entry.name.endswith(".yaml")]
    return {entry.name.removesuffix(".yaml"): entry for entry in sorted(found, key=lambda entry: entry.name)}


def founding_ceremony() -> Ceremony:
    """The founding ceremony that comes with the product."""
    return load_ceremony(ready_made()["kwbp"].read_text(encoding="utf-8"))


def _check_kind(header: Header, kind: str) -> None:
    if header.kind != kind:
        raise ValueError(f"the kind is {header.kind}, and this is a ceremony of kind {kind}")


def _check_once(names: list[str]) -> None:
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"named twice: {', '.join(sorted(twice))}")
