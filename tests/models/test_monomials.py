"""Monomials: text and value."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdnbench.errors import GdnbenchError
from gdnbench.models.parametrization.monomial import Monomial

exponents = st.fractions(min_value=-3, max_value=3, max_denominator=6)
monomials = st.builds(Monomial, st.tuples(exponents, exponents, exponents))
multiplicities = st.tuples(*[st.floats(0.25, 16)] * 3)
quick = settings(deadline=None, derandomize=True)


@quick
@given(monomials)
def test_text_round_trip(monomial):
    assert Monomial.parse(str(monomial)) == monomial


@quick
@given(monomials, monomials, multiplicities)
def test_arithmetic(a, b, at):
    assert (a * b)(*at) == pytest.approx(a(*at) * b(*at), rel=1e-12)
    assert (a**-2)(*at) == pytest.approx(a(*at) ** -2, rel=1e-12)


@quick
@given(monomials)
def test_one_at_the_base_width(monomial):
    # Exactly: a rate times 1.0000000000000002 would already train otherwise.
    assert monomial(1.0, 1.0, 1.0) == 1.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        (0, 0),
        (1, 1),
        ("m", 4),
        ("m_in^-1/2", 1 / 3),
        ("m_in^-1/2 m_out", 5 / 3),
        ("m^2 m_out^-1", 16 / 5),
        ("m m", 16),
        (" m ", 4),
    ],
)
def test_cells(text, value):
    assert Monomial.parse(text)(4, 9, 5) == pytest.approx(value, rel=1e-15)


def test_canonical_text():
    assert str(Monomial.parse("m_out m^1/2 m_in^-2/2")) == "m^1/2 m_in^-1 m_out"
    assert (str(Monomial.parse("0")), str(Monomial.parse("1"))) == ("0", "1")
    assert Monomial.parse("0") * Monomial.parse("m") == Monomial((Fraction(1), Fraction(0), Fraction(0)), zero=True)


@pytest.mark.parametrize(
    "cell",
    [
        "2",
        "d",
        "m^",
        "m^x",
        "m_in^-1/2*m",
        "m^1.5",
        "M",
        "m_inn",
        None,
        True,
        "m 1",
        "m^1/0",
        "",
    ],
)
def test_cells_that_are_no_monomial(cell):
    with pytest.raises(GdnbenchError, match="table cell"):
        Monomial.parse(cell)
