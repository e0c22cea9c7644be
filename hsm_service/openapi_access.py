"""Who may do what, in which states of a key, with whose approval: as the OpenAPI document says it.

All of it is computed from what decides (`templates.yaml`, `dual_control.yaml`, the table of key states), but for one
table: in which states a version does what. Authorisation and state tests are generated from the document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from hsm_service.dual_control_policy import Requirement, built_in_policy
from hsm_service.kept_key import SERVES_STILL
from hsm_service.key_life import CHANGES
from hsm_service.key_states import TRANSITIONS, KeyState
from hsm_service.operation_request import KeyOperation
from hsm_service.templates import Operation, Template, built_in

CALLERS: Final = "x-kwbp-callers"
"""Extension field of a route: template → operation → caller patterns; `{owner}` is the key's owner."""
STATES: Final = "x-kwbp-states"
"""Operation → the states of a version in which it is done; in all others it is refused."""
STANDINGS: Final = "x-kwbp-standings"
"""Operation → how an enabled version must stand to the one in use."""
APPROVALS: Final = "x-kwbp-approvals"
"""Template → operation → the roles `by` whose holders approve it, and how many persons: `approvals`."""

_ASKED: Final = frozenset(KeyOperation) - {KeyOperation.USE}
_HIDDEN: Final = frozenset({"root"})  # tokens that no service opens
_MADE: Final = tuple(state.value for state in KeyState if state is not KeyState.PENDING)
_ANY_STATE: Final = frozenset({Operation.DESCRIBE, Operation.ROTATE, Operation.LIMITS})
"""What is told of a version, or done to it, whatever became of it; what is neither here nor a change is done by ENABLED
ones.
"""


def callers(operations: Sequence[Operation]) -> dict[str, dict[str, list[str]]]:
    """Template → operation → caller patterns, for the keys that a service can reach."""
    table = {
        template.name: {
            operation.value: list(_patterns(template, operation))
            for operation in operations
            if template.offers(operation) and not (operation is Operation.GENERATE and template.imported)
        }
        for template in built_in().templates.values()
        if template.token not in _HIDDEN
    }
    return {name: by_operation for name, by_operation in table.items() if by_operation}


def _patterns(template: Template, operation: Operation) -> tuple[str, ...]:
    return template.allowed(operation, "{owner}" if template.owned else None)


def states(operations: Sequence[Operation]) -> dict[str, list[str]]:
    """Operation → states, for those that need a version."""
    return {operation.value: _states(operation) for operation in operations if operation is not Operation.GENERATE}


def _states(operation: Operation) -> list[str]:
    if operation in _ANY_STATE:
        return list(_MADE)
    change = CHANGES.get(KeyOperation(operation.value)) if operation.value in _ASKED else None
    if change is not None:
        return [state.value for state, each in TRANSITIONS if each is change]
    return [KeyState.ENABLED.value]


def standings(operations: Sequence[Operation]) -> dict[str, list[str]]:
    """Operation → standings, for those that need a version."""
    return {
        operation.value: [standing.value for standing, done in SERVES_STILL.items() if operation in done]
        for operation in operations
        if operation is not Operation.GENERATE
    }


def approvals(operations: Sequence[Operation]) -> dict[str, dict[str, Any]]:
    """Template → operation → requirement, where officers must approve it."""
    policy, table = built_in_policy(), {}
    for name, by_operation in callers(operations).items():
        found = {}
        for operation in map(Operation, by_operation):
            parameters = {"template": name, "use": operation.value}
            asked = KeyOperation(operation.value) if operation.value in _ASKED else KeyOperation.USE
            requirement = policy.requirement(asked, parameters)
            if requirement is not None:
                found[operation.value] = _told(requirement)
        if found:
            table[name] = found
    return table


def _told(requirement: Requirement) -> dict[str, Any]:
    return {"by": list(requirement.by), "approvals": requirement.approvals}
