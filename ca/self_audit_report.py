"""What a self-audit says (`ca.self_audit`): the report as JSON, on record, over the wire and under its digest."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

SHARE: Final = 0.03
"""Of the certificates of a period, unless told otherwise."""
LEAST: Final = 20
"""How many are looked at even if that is more than the share."""
MOST_FINDINGS: Final = 1000
"""In one report; how many more there were stands in it."""

Seed = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AuditFinding(_Model):
    """A certificate that does not keep a check, and where the check stands."""

    issuer: str
    serial: str
    check: str
    clause: str
    message: str


class CheckCount(_Model):
    """How many of the sample kept a check, broke it, or left it open; `open_because` says why, and how often."""

    kept: int = 0
    broken: int = 0
    open: int = 0
    open_because: dict[str, int] = {}


class SelfAuditReport(_Model):
    """What a self-audit found: of `issued` certificates stored in [`since`, `until`) it looked at `sampled`.

    `sample_sha256` is over the lines `issuer/serial` of the sample, sorted; `statement` the digest of the CPS pack.
    """

    made_at: datetime
    since: datetime
    until: datetime
    seed: Seed
    share: float
    least: int
    issued: int
    sampled: int
    sample_sha256: str
    statement: str
    checks: dict[str, CheckCount]
    findings: tuple[AuditFinding, ...]
    more_findings: int = 0

    @property
    def broken(self) -> int:
        """How many findings there were, also those that are not listed."""
        return len(self.findings) + self.more_findings

    def to_json(self) -> bytes:
        """The report as its digest is taken."""
        return self.model_dump_json().encode()
