"""Makes the keys of the signing benchmark, as a ceremony does: keys that sign digests, for the operator's credential.

python -m scripts.benchmarks.signing_keys
"""

from __future__ import annotations

from typing import Final

from hsm_service.vault import Vault
from runtime.settings import Home

OWNER: Final = "operator"
KEYS: Final = {"rsa2048": "raw-rsa-2048", "rsa3072": "raw-rsa-3072", "p256": "raw-ec"}
"""Metric prefix and template of each."""


def key_name(prefix: str) -> str:
    """The name in the registry."""
    return f"bench-{prefix}"


def main() -> None:
    """Make them in the installation that `KWBP_HOME` names."""
    with Vault.open(Home.find()) as vault:
        for prefix, template in KEYS.items():
            vault.as_caller("ceremony").generate_key(key_name(prefix), template, owner=OWNER)


if __name__ == "__main__":
    main()
