"""The tools that a chat model may call. Importing it does nothing."""

import math
import operator
import re
from collections.abc import Iterator

# --- the calculator --------------------------------------------------------------------------------------------------
#
# A model may write anything, and Python's own parser answers some of it with a warning or a full stack. So the calculator reads what it allows by
# itself, computing on the way; a word that it does not know has no meaning here, whatever it would mean to Python.

LONGEST = 2000  # characters of an expression: room for a long sentence to count in
DEEPEST = 40  # parentheses, signs and right-hand sides inside each other
LARGEST = 10**100  # every integer stays below it, on the way as well, so no step takes long or much memory

TOKEN = re.compile(
    r"""[ \t]*(
      (?:[0-9]+(?:,[0-9]+)*\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?  # 12   1,234.5   .5   1e-3
    | '[^'\\\r\n\0]*' | "[^"\\\r\n\0]*"                             # escapes are refused, not understood
    | \*\* | // | [-+*/%()] | \.count | len
    )""",
    re.VERBOSE,
)
SUM, PRODUCT, POWER = 1, 2, 3  # how tightly operators bind; a sign binds like the base of a power: -2**2 is -(2**2)
BINDING = {"+": SUM, "-": SUM, "*": PRODUCT, "/": PRODUCT, "//": PRODUCT, "%": PRODUCT, "**": POWER}
MEANING = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv, "%": operator.mod, "**": operator.pow,
}  # fmt: skip


def use_calculator(expression: str) -> str | None:
    """The value of an expression like "1,234 * (5 + 6)" or "'strawberry'.count('r')" as Python would print it, or None if it is refused: because it
    is more than arithmetic on numbers and counts, has no value, or its value is too large. Never raises, never prints, works in any thread."""
    if len(expression) > LONGEST:
        return None
    try:
        return repr(_Calculation(expression.strip()).result())
    except (ValueError, ArithmeticError):
        return None


class _Calculation:
    """Reads the tokens of one expression from left to right and computes as it goes: precedence climbing, with Python's precedences."""

    def __init__(self, text: str):
        self.tokens = _tokens(text)
        self.ahead = next(self.tokens, "")  # the token that nobody has taken yet, "" after the last one
        self.depth = 0

    def result(self) -> int | float:
        value = self.value(SUM)
        self.expect("")
        return value

    def take(self) -> str:
        token, self.ahead = self.ahead, next(self.tokens, "")
        return token

    def expect(self, wanted: str) -> None:
        if (token := self.take()) != wanted:
            raise ValueError(f"expected {wanted!r}, found {token!r}")

    def value(self, loosest: int) -> int | float:
        """The value of what follows, up to the first operator that binds less tightly than `loosest`."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError("nested too deeply")
        left = self.operand()
        while BINDING.get(self.ahead, 0) >= loosest:
            symbol = self.take()
            right = self.value(POWER if symbol == "**" else BINDING[symbol] + 1)  # 2**3**2 is 2**(3**2); 7-3-2 is (7-3)-2
            if symbol == "**":
                _check_power(left, right)
            left = _bounded(MEANING[symbol](left, right))
        self.depth -= 1
        return left

    def operand(self) -> int | float:
        token = self.take()
        if token in ("+", "-"):
            value = self.value(POWER)
            return value if token == "+" else -value
        if token == "(":
            value = self.value(SUM)
            self.expect(")")
            return value
        if token == "len":
            return len(self.argument())
        if token.startswith(("'", '"')):  # nothing but this can be done with a text
            self.expect(".count")
            return _quoted(token).count(self.argument())
        return _bounded(_number(token))

    def argument(self) -> str:
        self.expect("(")
        text = _quoted(self.take())
        self.expect(")")
        return text


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        if not (match := TOKEN.match(text, at)):
            raise ValueError(f"the calculator has no {text[at]!r}")
        yield match[1]
        at = match.end()


def _quoted(token: str) -> str:
    if not token.startswith(("'", '"')):
        raise ValueError(f"expected a text in quotes, found {token!r}")
    return token[1:-1]


def _number(token: str) -> int | float:
    digits = token.replace(",", "")
    if not digits.isdigit():
        return float(digits)  # a ValueError if the token is no number at all but a sign out of place
    if digits[0] == "0" and digits.strip("0"):
        raise ValueError("neither Python nor a comma that was meant as a decimal point lets an integer begin with 0")
    return int(digits)


def _check_power(base: int | float, exponent: int | float) -> None:
    """Before it is computed. An integer is at least 2^(bits - 1), so only what is too large is refused, and the rest has 200 digits at most."""
    if isinstance(base, int) and isinstance(exponent, int) and (base.bit_length() - 1) * exponent >= LARGEST.bit_length():
        raise ValueError("too large")


def _bounded(value: int | float | complex) -> int | float:
    """The value, unless it is a large integer, infinite, not a number, or complex (a fractional power of a negative number)."""
    if isinstance(value, int) and -LARGEST < value < LARGEST:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError("too large, or no real number")
