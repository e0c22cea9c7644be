"""Both judges of a bundle asked, and held to agree: our own, and verify.sh with OpenSSL alone."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from storefront.errors import BundleRefused
from storefront.evidence.claims import Claim, Decision, decide
from storefront.evidence.folder import read_folder
from storefront.evidence.judgement import Conclusion, Judgement, judge

_CODES = {Conclusion.HOLDS: 0, Conclusion.INCOMPLETE: 3, Conclusion.BROKEN: 1}


@dataclass(frozen=True)
class Opinions:
    """`ours` is None if the folder was refused, for `refusal`; `script` is what verify.sh in the folder did."""

    ours: Judgement | None
    refusal: str | None
    script: subprocess.CompletedProcess[str]

    def decide(self, claim: Claim) -> Decision:
        assert self.ours is not None, self.refusal
        return decide(claim, self.ours.case)


def states_said(report: str) -> dict[str, str]:
    """The statements of verify.sh's report."""
    lines = report.partition("\nStatements\n")[2].splitlines()
    return {words[1]: words[0] for words in map(str.split, lines) if len(words) == 2}


def ask_both(folder: Path, *, other: Judgement | None = None, environment: Mapping[str, str] | None = None) -> Opinions:
    """Judge a bundle twice; AssertionError if the two disagree about the whole or about any statement."""
    command = ["sh", str(folder / "verify.sh")]
    script = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    ours, refusal = _ours(folder, other)
    if ours is None:
        assert script.returncode != 0, f"we refuse ({refusal}), verify.sh does not:\n{script.stdout}"
        return Opinions(None, refusal, script)
    states = {about.value: each.state.value for about, each in ours.statements.items()}
    assert states_said(script.stdout) == states, script.stdout + script.stderr
    assert script.returncode == _CODES[ours.conclusion], script.stdout
    return Opinions(ours, None, script)


def _ours(folder: Path, other: Judgement | None) -> tuple[Judgement | None, str | None]:
    try:
        return judge(read_folder(folder), other=other), None
    except BundleRefused as refused:
        return None, str(refused)
