"""The `when:` of a step: one comparison of a known variable with a whole number. Nothing is evaluated as code.

condition = variable operator integer
variable  = "risk"
operator  = "<" | "<=" | ">" | ">=" | "==" | "!="
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_OPERATORS: Final[dict[str, Callable[[int, int], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_GRAMMAR: Final = re.compile(r"risk (<|<=|>|>=|==|!=) (0|[1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition."""

    operator: str
    bound: int

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Parse `risk < 40`; raises ValueError if `text` is not in the grammar."""
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            raise ValueError("a condition reads 'risk <operator> <integer>'")
        return cls(match[1], int(match[2]))

    def holds(self, *, risk: int) -> bool:
        """Whether the condition is true of a case with this risk."""
        return _OPERATORS[self.operator](risk, self.bound)

    def __str__(self) -> str:
        return f"risk {self.operator} {self.bound}"
