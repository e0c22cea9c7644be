"""How certificate status is answered, as data (`ocsp_policy.yaml`, CPS 4.9.9)."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ca.errors import ProfileError


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lifetime(_Model):
    """From thisUpdate to nextUpdate."""

    lifetime: timedelta = Field(gt=timedelta(minutes=1), le=timedelta(days=7))


class Presigned(Lifetime):
    """Answers without a nonce, made ahead; `renew_before` nextUpdate the next one is made."""

    renew_before: timedelta = Field(gt=timedelta(0))

    @model_validator(mode="after")
    def _renewed_in_time(self) -> Presigned:
        if self.renew_before >= self.lifetime:
            raise ValueError("an answer is renewed after it was made")
        return self


class OcspPolicy(_Model):
    """What the responder keeps to."""

    presigned: Presigned
    live: Lifetime
    unknown: Lifetime
    backdate: timedelta = Field(ge=timedelta(0), le=timedelta(minutes=10))
    max_age: timedelta = Field(ge=timedelta(0))
    request_octets: int = Field(ge=256, le=65_536)
    request_certificates: int = Field(ge=1, le=100)
    waiting: int = Field(ge=1)
    together: int = Field(ge=1, le=250)
    poll: timedelta = Field(gt=timedelta(0), le=timedelta(seconds=1))
    remembered: int = Field(ge=1)


def load_policy(text: str) -> OcspPolicy:
    """A policy from YAML; raises ProfileError naming the field that is not as expected."""
    try:
        return OcspPolicy.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        raise ProfileError(f"the OCSP policy is not as expected: {error}", clause="CPS 4.9.9") from None


@cache
def ocsp_policy() -> OcspPolicy:
    """The policy that comes with the product."""
    return load_policy(files("ca").joinpath("ocsp_policy.yaml").read_text(encoding="utf-8"))
