"""The tokens that the suite runs on: where the module is, how its token is made, and what it must at least be able to.

`at_least` keeps a probe that has gone blind from being taken for a token that can do little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hsm_service.capabilities import Ability

LIBRARY = Path(__file__).resolve().parents[2] / "scripts" / "lib"
SOFTHSM_CONFIGURATION = Path(__file__).resolve().parents[2] / "softhsm_config" / "softhsm2.conf"
_RSA = {Ability.RSA_PKCS1V15, Ability.RSA_PSS_SHA256}
_ALL = set(Ability)


@dataclass(frozen=True)
class Subject:
    """A kind of token; `folder` in the callables is a temporary one of its own."""

    name: str
    modules: tuple[str, ...]
    """Patterns of the module's path."""
    at_least: frozenset[Ability]
    environment: Callable[[Path], dict[str, str]] = field(default=lambda folder: {})
    initialisation: Callable[[Path], str | None] = field(default=lambda folder: None)
    start: Callable[[Path], list[str]] = field(default=lambda folder: [])
    """What is put before the command of the process that loads the module."""
    so_pin: str = "87654321"
    pin: str = "123456"
    fixed_slot: int | None = None
    """The slot of a token that its module calls initialised although it has no PIN yet."""
    initialises: bool = True
    """Whether C_InitToken makes the token; otherwise it is there, and only the PIN has to be set."""
    switch: str = ""
    """An environment variable without which the subject is left out."""

    @property
    def module(self) -> Path | None:
        """Path of the module, if it is installed."""
        found = (path for pattern in self.modules for path in sorted(Path("/").glob(pattern.removeprefix("/"))))
        return next(found, None)


def _softhsm(folder: Path) -> dict[str, str]:
    store, configuration = folder / "store", folder / "softhsm2.conf"
    store.mkdir()
    configuration.write_text(SOFTHSM_CONFIGURATION.read_text().replace("{tokendir}", str(store), 2))
    return {"SOFTHSM2_CONF": str(configuration)}


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject(
            "softhsm",
            (
                "/usr/lib/softhsm/libsofthsm2.so",
                "/usr/lib/*/softhsm/libsofthsm2.so",
                "/usr/lib64/pkcs11/libsofthsm2.so",
            ),
            frozenset(_ALL - {Ability.OAEP_SHA256}),
            environment=_softhsm,
        ),
        Subject(
            "opencryptoki",
            ("/usr/lib/*/libopencryptoki.so.0", "/usr/lib*/opencryptoki/libopencryptoki.so.0"),
            frozenset(
                _RSA
                | {Ability.LOCKED_IN, Ability.USAGES_FIXED, Ability.RANDOM, Ability.IMPORT, Ability.DES2_BLOCK}
                | {Ability.DES3_BLOCK, Ability.AES_BLOCK, Ability.RETAIL_MAC}
                | {Ability.RSA_KEYS, Ability.RSA_3072, Ability.AES_KEYS, Ability.OAEP_SHA1, Ability.OAEP_SHA256}
            ),
            start=lambda folder: [str(LIBRARY / "opencryptoki"), str(folder / "opencryptoki")],
            fixed_slot=3,
        ),
        Subject(
            "nss",
            ("/usr/lib/*/libsoftokn3.so", "/usr/lib/*/nss/libsoftokn3.so", "/usr/lib64/libsoftokn3.so"),
            frozenset(
                _RSA
                | {Ability.USAGES_FIXED, Ability.RANDOM, Ability.IMPORT, Ability.DES2_BLOCK, Ability.AES_CMAC}
                | {Ability.DES3_BLOCK, Ability.AES_BLOCK, Ability.RETAIL_MAC}
                | {Ability.OAEP_SHA1, Ability.OAEP_SHA256}
            ),
            initialisation=lambda folder: (
                f"configDir='sql:{folder}' certPrefix='' keyPrefix='' secmod='secmod.db' flags= "
                "dbTokenDescription='conformance'"
            ),
            so_pin="",
            initialises=False,
        ),
        Subject(
            "tpm",
            ("/usr/lib/*/pkcs11/libtpm2_pkcs11.so", "/usr/lib/*/libtpm2_pkcs11.so.1"),
            frozenset({Ability.RANDOM}),
            start=lambda folder: [str(LIBRARY / "swtpm"), str(folder)],
            switch="KWBP_TEST_TPM",
        ),
    )
}
