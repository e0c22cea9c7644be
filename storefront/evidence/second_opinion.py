"""`verify.sh` asked beside our own judge: OpenSSL's opinion of the same statements, and whether the two agree.

The script that runs is our own, over a private copy of the bytes that were judged, in an environment of its own:
nothing in a bundle is ever executed, and nothing can be changed between the two opinions.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path
from typing import Final

from storefront.evidence.folder import SCRIPT
from storefront.evidence.judgement import Conclusion, Judgement
from storefront.evidence.statements import About

_CODES: Final = {0: Conclusion.HOLDS, 3: Conclusion.INCOMPLETE, 1: Conclusion.BROKEN}
_SECONDS: Final = 300


def own_script() -> bytes:
    """`verify.sh` of this release."""
    return (resources("storefront.evidence") / SCRIPT).read_bytes()


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """What verify.sh said: `conclusion` None if it refused the folder, `states` by statement, and its report."""

    conclusion: Conclusion | None
    states: Mapping[str, str]
    report: tuple[str, ...]

    def disagreements(self, judgement: Judgement) -> tuple[str, ...]:
        """Where it differs from our own judgement: `whole` and names of statements; empty if the two agree."""
        found = [] if self.conclusion is judgement.conclusion else ["whole"]
        for about in About:
            if self.states.get(about.value) != judgement.statements[about].state.value:
                found.append(about.value)
        return tuple(found)


def ask_openssl(files: Mapping[str, bytes]) -> SecondOpinion:
    """Run our verify.sh over the files of a bundle."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / SCRIPT
        script.write_bytes(own_script())
        bundle = Path(folder) / "bundle"
        for name, content in files.items():
            if name != SCRIPT:
                place = bundle / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        result = subprocess.run(
            ["sh", str(script), str(bundle)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env=environment,
            timeout=_SECONDS,
        )
    report = tuple(result.stdout.splitlines())
    try:
        last = len(report) - report[::-1].index("Statements")
    except ValueError:
        last = len(report)
    pairs = [line.split() for line in report[last:]]
    states = {pair[1]: pair[0] for pair in pairs if len(pair) == 2}
    return SecondOpinion(_CODES.get(result.returncode), states, report)
