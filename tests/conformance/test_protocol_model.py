"""The Promela model of a payment and its reversal (`docs/protocol/model`): it holds, it bites, and it is of this code.

`spin` searches every interleaving of the model. That proves nothing about Python; what ties the two together is that
the states and moves of the model are those of the code's tables, but for the differences that `model.yaml` gives a
reason for. That the properties bite is shown by faults built into the model on purpose: each is found.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import gateway.states
import storefront.merchant.states
import storefront.wallet.records

FOLDER: Final = Path(__file__).parents[2] / "docs" / "protocol" / "model"
MODEL: Final = FOLDER / "payment.pml"
SOURCE: Final = MODEL.read_text()
DATA: Final[dict[str, Any]] = yaml.safe_load((FOLDER / "model.yaml").read_text())
PROPERTIES: Final = re.findall(r"^ltl (\w+)", SOURCE, re.MULTILINE)
LIVENESS: Final = [name for name in PROPERTIES if name.startswith("eventually_")]

Move = tuple[str, str]


class Search:
    """The verifier that `spin` and `cc` make of the model."""

    def __init__(self, folder: Path, *switches: str, optimise: str = "-O0") -> None:
        self._folder = folder
        options = [f"-D{switch}" for switch in switches]
        _run(folder, "spin", *options, "-a", str(MODEL))
        _run(folder, "cc", optimise, "-w", "-DNOFAIR", "-DMEMLIM=1000", "-o", "pan", "pan.c")

    def of(self, name: str) -> str:
        """What the search for a run that breaks the property says; it has seen all of them, or found one that does."""
        acceptance = ["-a"] if name in LIVENESS else []
        said = _run(self._folder, "./pan", *acceptance, "-N", name, "-m20000", "-w21")
        assert f"({name})" in said
        assert "max search depth too small" not in said
        assert "Search not completed" not in said or not _holds(said)
        return said


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def _holds(said: str) -> bool:
    errors = re.search(r"errors: (\d+)", said)
    assert errors is not None, said
    return errors[1] == "0"


def test_every_property_holds_and_no_move_stands_there_in_vain(tmp_path: Path) -> None:
    search = Search(tmp_path, optimise="-O1")
    for name in PROPERTIES:
        said = search.of(name)
        assert _holds(said), f"{name}: {said}"
    for party in ("gateway", "merchant", "wallet"):
        names = _mtype(party)
        # spin numbers the names of an mtype backwards, from 1
        numbers = re.findall(rf"^moved {party[0]} (\d+) (\d+)$", said, re.MULTILINE)
        reached = {(names[-int(before)], names[-int(after)]) for before, after in numbers}
        assert reached == _moves_of_model(party) - _listed(party, "unreached"), party


@pytest.mark.parametrize("fault", DATA["faults"])
def test_a_fault_breaks_its_properties(fault: str, tmp_path: Path) -> None:
    search = Search(tmp_path, fault)
    for name in DATA["faults"][fault]["breaks"]:
        assert not _holds(search.of(name)), name


def test_switches_of_the_model_are_all_named() -> None:
    assert set(re.findall(r"^#ifn?def (\w+)", SOURCE, re.MULTILINE)) == set(DATA["faults"])


def test_no_property_is_without_a_fault_that_breaks_it() -> None:
    assert {name for fault in DATA["faults"].values() for name in fault["breaks"]} == set(PROPERTIES)


# --- the model and the code ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("party", "states"),
    [
        ("gateway", gateway.states.OrderState),
        ("merchant", storefront.merchant.states.OrderState),
        ("wallet", storefront.wallet.records.PurchaseState),
    ],
)
def test_the_states_are_those_of_the_code(party: str, states: type[StrEnum]) -> None:
    differences = DATA["differences"][party]
    of_code = {state.value for state in states} - set(differences.get("states_of_code", {}))
    assert set(_mtype(party)) - set(differences.get("states", {})) == of_code


@pytest.mark.parametrize(
    ("party", "moves"),
    [("gateway", gateway.states.MOVES), ("merchant", storefront.merchant.states.MOVES)],
)
def test_the_moves_are_those_of_the_code(party: str, moves: Mapping[StrEnum, frozenset[StrEnum]]) -> None:
    of_code = {(before.value, after.value) for before, each in moves.items() for after in each}
    of_model = _moves_of_model(party)
    assert of_model - of_code == _listed(party, "moves")
    assert of_code - of_model == _listed(party, "moves_of_code")


def test_the_wallet_leaves_no_final_state() -> None:
    final = {state.value for state in storefront.wallet.records.FINAL}
    assert not {before for before, _ in _moves_of_model("wallet")} & final


def _mtype(party: str) -> list[str]:
    """The states of a party, in the order in which the model declares them, without the party's letter."""
    declared = re.search(rf"^mtype:{party} = \{{([^}}]*)\}}", SOURCE, re.MULTILINE)
    assert declared is not None
    return [name.strip().removeprefix(f"{party[0].upper()}_") for name in declared[1].split(",")]


def _moves_of_model(party: str) -> set[Move]:
    state = rf"{party[0].upper()}_(\w+)"
    source = _without_faults()
    found = set(re.findall(rf"{state}, {state}\)", source))
    # The inlines that also take out what is under way name only where they lead; where from stands in their bodies.
    for name, before in re.findall(rf"^inline (\w+)\(after\) \{{\s*\w+_moves\({state}, after\)", source, re.MULTILINE):
        found |= {(before, after) for after in re.findall(rf"{name}\({state}\)", source)}
    return found


@cache
def _without_faults() -> str:
    """The model as spin reads it when no fault is switched on."""
    return subprocess.run(
        ["cc", "-E", "-P", "-w", "-x", "c", str(MODEL)], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def _listed(party: str, kind: str) -> set[Move]:
    listed = DATA["differences"][party].get(kind, {})
    return {(before, after) for before, _, after in (move.partition(" -> ") for move in listed)}
