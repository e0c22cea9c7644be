"""Messages as an acquirer and a switch exchange them. All card data are synthetic."""

from __future__ import annotations

from typing import Final

PAN: Final = "6037991234567893"


def request_fields() -> dict[int, str]:
    """A complete sale with PIN, CVV2 and expiry."""
    return {
        2: PAN,
        3: "000000",
        4: "000000150000",
        7: "1122103045",
        11: "000042",
        12: "140045",
        13: "1122",
        14: "0712",
        17: "1122",
        18: "5942",
        19: "364",
        22: "010",
        25: "59",
        26: "12",
        32: "581672",
        37: "000000000042",
        41: "T0000001",
        42: "M1".ljust(15),
        43: "Bookshop Tehran".ljust(40),
        48: "  012300",
        49: "364",
        52: "F92D1CFCC2103E10",
        53: "0301010000000000",
        62: "SALE",
        100: "581672000",
    }


def response_fields() -> dict[int, str]:
    """The answer to `request_fields`, approved."""
    echoed = {field: request_fields()[field] for field in (2, 3, 4, 11, 12, 13, 32, 37, 41, 42, 43, 49)}
    return echoed | {
        6: "000000150000",
        7: "1122103046",
        10: "00000001",
        15: "1122",
        33: "581672000",
        38: "A12345",
        39: "00",
        51: "364",
        62: "SALE",
    }
