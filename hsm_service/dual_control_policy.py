"""The policy of dual control (`dual_control.yaml`) as frozen models that refuse unknown keys and dangling names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cps.model import Pack
from cps.packs import published
from hsm_service.operation_request import KeyOperation, OperationRequest
from hsm_service.templates import Operation, Templates, TemplatesError, built_in

_SIGNATURES: Final = frozenset({Operation.CERTIFICATE, Operation.CRL, Operation.CMS})
"""Uses that can be approved one by one: what is signed has a digest that officers can compare."""


class Rule(StrEnum):
    """Ids of the rules that `hsm_service.dual_control` enforces; `Policy.clause` gives the CPS section of each."""

    APR_FORM = "APR-FORM"
    APR_CREDENTIAL = "APR-CREDENTIAL"
    APR_REQUEST = "APR-REQUEST"
    APR_OPERATION = "APR-OPERATION"
    APR_TIME = "APR-TIME"
    APR_EXPIRED = "APR-EXPIRED"
    APR_ROLE = "APR-ROLE"
    APR_EXCLUSIVE = "APR-EXCLUSIVE"
    APR_REQUESTER = "APR-REQUESTER"
    APR_PERSON = "APR-PERSON"
    REQ_REJECTED = "REQ-REJECTED"
    REQ_EXPIRED = "REQ-EXPIRED"
    REQ_POLICY = "REQ-POLICY"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Requirement(_Model):
    """`approvals` different persons who hold one of the roles `by`; none if 0."""

    by: tuple[str, ...] = Field(min_length=1)
    approvals: int = Field(ge=0, le=9)
    templates: tuple[str, ...] = Field(default=("*",), min_length=1)


class Lasts(_Model):
    """How long a request can be approved, and how long an approval counts at most."""

    request: timedelta = Field(gt=timedelta(0))
    approval: timedelta = Field(gt=timedelta(0))


class RuleText(_Model):
    """Section of the CPS and the sentence of a rule."""

    section: str
    text: str


class Policy(_Model):
    """The whole policy. `digest` (SHA-256, hex) covers the file and the key templates it speaks of."""

    version: Literal[1]
    lasts: Lasts
    exempt: tuple[Literal["ceremony"], ...]
    operations: Mapping[KeyOperation, Requirement]
    use: Mapping[str, Mapping[Operation, Requirement]] = Field(default_factory=dict)
    rules: Mapping[Rule, RuleText]
    digest: str

    @model_validator(mode="after")
    def _complete(self) -> Self:
        # An operation that is not listed would be one that needs nobody.
        if set(self.operations) != set(KeyOperation) - {KeyOperation.USE}:
            raise ValueError("the policy lists every operation, and use by itself")
        if set(self.rules) != set(Rule):
            raise ValueError("the policy gives the text of every rule")
        return self

    @classmethod
    def parse(cls, text: bytes, templates: Templates, pack: Pack) -> Policy:
        """The policy in a YAML file, for these templates and trusted roles; raises TemplatesError."""
        digest = hashlib.sha256(hashlib.sha256(text).digest() + bytes.fromhex(templates.digest)).hexdigest()
        try:
            policy = cls.model_validate({**yaml.safe_load(text), "digest": digest})
        except (yaml.YAMLError, ValidationError, TypeError) as error:
            raise TemplatesError(f"the policy of dual control is not as expected: {error}") from error
        policy.check_roles(pack)
        for name, uses in policy.use.items():
            template = templates.get(name)
            if template is None or not all(template.offers(each) and each in _SIGNATURES for each in uses):
                raise TemplatesError(f"the policy of dual control: {name} does not sign {sorted(uses)}")
        return policy

    def check_roles(self, pack: Pack) -> None:
        """Raises TemplatesError if it names roles that this version of the CPS does not have: nobody could approve."""
        everything = (*self.operations.values(), *(each for uses in self.use.values() for each in uses.values()))
        if unknown := {role for each in everything for role in each.by} - set(pack.roles):
            raise TemplatesError(
                f"the policy of dual control names roles that {pack.cps.id} {pack.cps.version} does not have: "
                f"{', '.join(sorted(unknown))} (CPS 5.2.1)"
            )

    def is_exempt(self, caller: str) -> bool:
        """Whether what `caller` asks needs no approval."""
        return any(caller == exempt for exempt in self.exempt)

    def requirement(self, operation: KeyOperation, parameters: Mapping[str, object]) -> Requirement | None:
        """Who must approve `operation`; None if nobody. `parameters` names the key's template, and the use."""
        template = str(parameters.get("template"))
        if operation is KeyOperation.USE:
            found = {str(use): each for use, each in self.use.get(template, {}).items()}.get(str(parameters.get("use")))
        else:
            found = self.operations[operation]
        if found is None or found.approvals == 0:
            return None
        return found if any(fnmatchcase(template, pattern) for pattern in found.templates) else None

    def required_for(self, request: OperationRequest) -> Requirement | None:
        """Who must approve this request."""
        return self.requirement(request.operation, request.parameters)

    def clause(self, rule: Rule) -> str:
        """The rule as refusals name it, for example `CPS 5.2.4 APR-REQUESTER`."""
        return f"CPS {self.rules[rule].section} {rule}"


@cache
def built_in_policy() -> Policy:
    """The policy of this product, `dual_control.yaml` beside this file."""
    return Policy.parse(files(__package__).joinpath("dual_control.yaml").read_bytes(), built_in(), published())
