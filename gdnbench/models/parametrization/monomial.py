"""A monomial in the multiplicities m, m_in and m_out: the content of a table's cell."""

import re
from dataclasses import dataclass
from fractions import Fraction

from gdnbench.errors import GdnbenchError

SYMBOLS = ("m", "m_in", "m_out")
_FACTOR = re.compile(r"(m|m_in|m_out)(?:\^(-?\d+(?:/\d+)?))?")


@dataclass(frozen=True)
class Monomial:
    """``m^a m_in^b m_out^c`` with rational exponents, or zero."""

    exponents: tuple[Fraction, Fraction, Fraction] = (Fraction(0), Fraction(0), Fraction(0))
    zero: bool = False

    @staticmethod
    def parse(text: object) -> "Monomial":
        """Read ``1``, ``0`` or factors such as ``m_in^-1/2 m_out``, separated by spaces."""
        cell = str(text).strip()
        if cell in ("0", "1"):
            return Monomial(zero=cell == "0")
        exponents = dict.fromkeys(SYMBOLS, Fraction(0))
        for factor in cell.split() or [""]:
            match = _FACTOR.fullmatch(factor)
            if match is None or re.search(r"/0+$", factor):
                raise GdnbenchError(f"table cell {cell!r}: {factor!r} is not 1, 0 or a power of m, m_in or m_out")
            exponents[match[1]] += Fraction(match[2] or 1)
        return Monomial((exponents["m"], exponents["m_in"], exponents["m_out"]))

    def __call__(self, m: float, m_in: float, m_out: float) -> float:
        """Evaluate; exactly 1 where all multiplicities are 1."""
        value = 0.0 if self.zero else 1.0
        for base, exponent in zip((m, m_in, m_out), self.exponents, strict=True):
            value *= base ** float(exponent)
        return value

    def __mul__(self, other: "Monomial") -> "Monomial":
        a, b = self.exponents, other.exponents
        return Monomial((a[0] + b[0], a[1] + b[1], a[2] + b[2]), self.zero or other.zero)

    def __pow__(self, power: int) -> "Monomial":
        a = self.exponents
        return Monomial((a[0] * power, a[1] * power, a[2] * power), self.zero)

    def __str__(self) -> str:
        factors = [
            symbol if exponent == 1 else f"{symbol}^{exponent}"
            for symbol, exponent in zip(SYMBOLS, self.exponents, strict=True)
            if exponent
        ]
        return "0" if self.zero else " ".join(factors) or "1"


ONE = Monomial()
