"""Whether an RSA key shares a prime with another one that was ever certified here (CPS 6.1.6).

Generators without enough entropy make primes twice. Whoever has two moduli with a common prime has both private keys,
by one greatest common divisor (Heninger et al., Mining Your Ps and Qs, USENIX Security 2012). So each new modulus is
held against all that are on record.

All moduli are kept multiplied together, some hundreds at a time: a product modulo the new number leaves what they have
in common. Several new ones are first multiplied, too, so that each product is divided once for all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import gmpy2
from gmpy2 import mpz

_BUCKET: Final = 512  # moduli a product: large enough to divide fast, small enough to divide often


class SharedFactors:
    """The moduli that are known. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._products: list[mpz] = []
        self._rest: list[mpz] = []
        self._known: set[int] = set()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, moduli: Iterable[int]) -> None:
        """Take in moduli; one that is known already changes nothing."""
        with self._lock:
            for modulus in moduli:
                if modulus in self._known:
                    continue
                self._known.add(modulus)
                self._rest.append(mpz(modulus))
                if len(self._rest) == _BUCKET:
                    self._products.append(_product(self._rest))
                    self._rest = []

    def find(self, modulus: int) -> int | None:
        """A factor that `modulus` has in common with another known modulus, or None. It may be known itself."""
        return self.find_many([modulus])[0]

    def find_many(self, moduli: Sequence[int]) -> list[int | None]:
        """As `find`, for each of `moduli`, which are held against each other, too."""
        with self._lock:
            products = [*self._products, *([_product(self._rest)] if self._rest else [])]
        if not moduli:
            return []
        new = [mpz(modulus) for modulus in moduli]
        together = _product(new)
        rest = mpz(1)
        for product in products:
            rest = rest * (product % together) % together
        found = [self._common(modulus, remainder, products) for modulus, remainder in _remainders(rest, new)]
        for place, modulus in enumerate(new if len(new) > 1 else ()):
            common = gmpy2.gcd(modulus, together // modulus)
            if found[place] is None and common not in (1, modulus):
                found[place] = int(common)
        return found

    @staticmethod
    def _common(modulus: mpz, remainder: mpz, products: Sequence[mpz]) -> int | None:
        """What `modulus` has in common with others, given what all of them leave modulo it."""
        common = gmpy2.gcd(remainder, modulus)
        if common == modulus:
            # It is known itself, and hides what else there is. Where n divides a product, (product mod n^2) / n is what
            # the others leave modulo n.
            others = mpz(1)
            for product in products:
                own = product % (modulus * modulus)
                others = others * (own // modulus if own % modulus == 0 else own) % modulus
            common = gmpy2.gcd(others, modulus)
        return None if common in (1, modulus) else int(common)


def _remainders(number: mpz, moduli: Sequence[mpz]) -> Iterator[tuple[mpz, mpz]]:
    """Each modulus with `number` modulo it, by halves."""
    if len(moduli) == 1:
        yield moduli[0], number % moduli[0]
        return
    middle = len(moduli) // 2
    for half in (moduli[:middle], moduli[middle:]):
        yield from _remainders(number % _product(half), half)


def _product(factors: Sequence[mpz]) -> mpz:
    """Their product, by pairs, so that the numbers that are multiplied are of one size."""
    level = list(factors)
    while len(level) > 1:
        level = [level[i] * level[i + 1] if i + 1 < len(level) else level[i] for i in range(0, len(level), 2)]
    return level[0]
