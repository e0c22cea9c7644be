"""What keys are for, how a token restricts a key of each purpose, and the algorithms that serve it.

Apart from the templates, which are read with pydantic and YAML: a token's process needs these alone, and there is one
for each token.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from hsm_service.keys import Usage


class Purpose(StrEnum):
    """The one thing a key is for."""

    CA = "ca"
    CMS = "cms"
    OCSP = "ocsp"
    TIMESTAMP = "timestamp"
    CHECKPOINT = "checkpoint"
    RAW = "raw"
    OPEN_ORDER = "open-order"
    SEAL_PAN = "seal-pan"
    CARD_DIGEST = "card-digest"
    PIN_BLOCK = "pin-block"
    MAC = "mac"
    RETAIL_MAC = "retail-mac"
    ZONE_MASTER = "zone-master"
    RESTORE = "restore"
    PROBE = "probe"
    """Signs what the service's own self-test makes up (`hsm_service.self_test`), and nothing that anybody sends."""


USAGES: Final[Mapping[Purpose, Usage]] = {
    Purpose.CA: Usage.SIGN,
    Purpose.CMS: Usage.SIGN,
    Purpose.OCSP: Usage.SIGN,
    Purpose.TIMESTAMP: Usage.SIGN,
    Purpose.CHECKPOINT: Usage.SIGN,
    Purpose.RAW: Usage.SIGN,
    Purpose.OPEN_ORDER: Usage.OPEN,
    Purpose.SEAL_PAN: Usage.SEAL,
    Purpose.CARD_DIGEST: Usage.DIGEST,
    Purpose.PIN_BLOCK: Usage.PIN_BLOCK,
    Purpose.MAC: Usage.MAC,
    Purpose.RETAIL_MAC: Usage.RETAIL_MAC,
    Purpose.ZONE_MASTER: Usage.RECEIVE,
    Purpose.RESTORE: Usage.RESTORE,
    Purpose.PROBE: Usage.SIGN,
}
"""How the token is told to restrict a key of each purpose."""

ALGORITHMS: Final[Mapping[Purpose, frozenset[str]]] = {
    Purpose.CA: frozenset({"rsa-3072", "rsa-4096", "ec-p256", "ec-p384"}),
    Purpose.CMS: frozenset({"rsa-3072", "rsa-4096", "ec-p256"}),  # pki.algorithms.SignatureSuite
    Purpose.OCSP: frozenset({"rsa-3072", "ec-p256"}),
    Purpose.TIMESTAMP: frozenset({"ec-p256"}),  # `openssl ts` reads no RSASSA-PSS
    Purpose.CHECKPOINT: frozenset({"ec-p256"}),  # audit.note
    Purpose.RAW: frozenset({"rsa-2048", "rsa-3072", "ec-p256"}),  # foreign systems may still want RSA-2048
    Purpose.OPEN_ORDER: frozenset({"rsa-3072", "rsa-4096"}),
    Purpose.SEAL_PAN: frozenset({"aes-256"}),
    Purpose.CARD_DIGEST: frozenset({"aes-256"}),
    Purpose.PIN_BLOCK: frozenset({"des2", "des3", "aes-128", "aes-256"}),  # ISO 9564-1: formats 0 and 3; format 4
    Purpose.MAC: frozenset({"aes-128", "aes-256"}),
    Purpose.RETAIL_MAC: frozenset({"des2"}),
    Purpose.ZONE_MASTER: frozenset({"aes-128", "aes-256"}),
    Purpose.RESTORE: frozenset({"rsa-3072", "rsa-4096"}),
    Purpose.PROBE: frozenset({"ec-p256", "rsa-3072"}),
}
