"""Whether two answers mean the same number or formula: "0.5", "1/2" and "50 %"; "2(x+1)" and "2x + 2"; "3 cm", "30 mm".

An answer is read by a small grammar of its own and worked out at once: exactly, as fractions, wherever it is rational,
else in complex floating point. Formulas are equal when they agree at fixed random points (Schwartz, 1980), which
decides identities without rewriting them, so no answer can make the check slow: length, depth, digits and
exponents are bounded, and nothing is ever evaluated as Python. What the grammar does not know equals nothing.
"""

import cmath
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

Value = Fraction | complex

LONGEST: Final = 200  # characters of an answer; longer ones are not read
DEEPEST: Final = 16  # levels of brackets, roots, fractions and exponents
BITS: Final = 2048  # of a numerator or denominator
EXPONENT: Final = 64  # of a power, and of ten in 1e6
POINTS: Final = 4  # at which formulas are compared
TOLERANCE: Final = 1e-9  # relative, where roots or functions leave the fractions
NOISE: Final = 1e-12  # absolute: what rounding leaves of a sum that is zero

_WORDS: Final = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty"""
NUMBER_WORDS: Final = {word: number for number, word in enumerate(_WORDS.split())}
CONSTANTS: Final[dict[str, complex]] = {"pi": math.pi, "\\pi": math.pi, "π": math.pi, "e": math.e}
FUNCTIONS: Final[dict[str, Callable[[complex], complex]]] = {
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "ln": cmath.log,
    "exp": cmath.exp,
}
TIMES: Final = ("*", "×", "·", "⋅", "\\cdot", "\\times")
OVER: Final = ("/", "÷", "\\div", ":")
RAISED: Final = {"²": 2, "³": 3}


def _units() -> dict[str, tuple[str, Fraction | float]]:
    """Dimension and size of each unit, by its spelling without spaces."""
    lengths = {"mm": Fraction(1, 1000), "cm": Fraction(1, 100), "dm": Fraction(1, 10), "m": Fraction(1)}
    lengths |= {"km": Fraction(1000), "metre": Fraction(1), "meter": Fraction(1), "metres": Fraction(1)}
    lengths |= {"meters": Fraction(1), "centimetres": Fraction(1, 100), "centimeters": Fraction(1, 100)}
    units: dict[str, tuple[str, Fraction | float]] = {name: ("length", size) for name, size in lengths.items()}
    for name, size in lengths.items():
        units |= {name + ending: ("area", size**2) for ending in ("^2", "^{2}", "²")} | {
            f"square{name}": ("area", size**2)
        }
        units |= {name + ending: ("volume", size**3) for ending in ("^3", "^{3}", "³")}
        units |= {f"cubic{name}": ("volume", size**3)}
    units |= dict.fromkeys(("°", "degree", "degrees", "deg"), ("angle", Fraction(1)))
    units |= dict.fromkeys(("rad", "radian", "radians"), ("angle", 180 / math.pi))
    units |= {"s": ("time", Fraction(1)), "seconds": ("time", Fraction(1)), "min": ("time", Fraction(60))}
    units |= {"minutes": ("time", Fraction(60)), "h": ("time", Fraction(3600)), "hours": ("time", Fraction(3600))}
    units |= {"g": ("mass", Fraction(1)), "kg": ("mass", Fraction(1000))}
    return units | {"m/s": ("speed", Fraction(1)), "km/h": ("speed", Fraction(5, 18))}


UNITS: Final = _units()

_NUMBER: Final = r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+"
_TOKEN: Final = re.compile(rf"(?:{_NUMBER})(?:e[+-]?[0-9]{{1,2}}(?![0-9a-z]))?|\\[a-z]+|\\%|[a-z]+|\*\*|\S")
_IS_NUMBER: Final = re.compile(r"\.?[0-9]")
_IS_NAME: Final = re.compile(r"[a-z]")
_WORDING: Final = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")
_MARKUP: Final = re.compile(r"\\(?:left|right)(?![a-z])|\\[,;! ()\[\]]|\$|~")
_CIRCLE: Final = re.compile(r"\^\s*(?:\\circ(?![a-z])|\{\s*\\circ\s*\})")
_NAMED: Final = re.compile(r"\s*[a-z]\s*=(?!=)")  # "x = 3"


class _Unreadable(ValueError):
    """The text is outside the grammar or its bounds."""


@dataclass(frozen=True)
class _Statement:
    """One answer cut into what is worked out and its unit."""

    tokens: tuple[str, ...]
    unit: str  # a key of UNITS; empty: none
    names: frozenset[str]  # variables in it


def equal_answers(answer: str, truth: str) -> bool:
    """Whether two answers have the same value.

    Lists "(1, 2)" are equal item by item, in order, and a list never equals one value. "x = 3" means 3. A unit that
    only one side names is taken for both; two units must be of one dimension. A percentage is so many hundredths: 50 %
    is 0.5, not 50. Decimals are exact: 0.33 is not 1/3. Case does not matter. What cannot be read equals nothing.
    """
    left, right = _items(answer), _items(truth)
    return bool(left) and len(left) == len(right) and all(_same(a, b) for a, b in zip(left, right))


def _items(text: str) -> list[_Statement]:
    """The values an answer lists, usually one; none when it cannot be read."""
    if len(text) > LONGEST:
        return []
    text = _MARKUP.sub(" ", _CIRCLE.sub("°", _WORDING.sub(r" \1 ", text.lower().replace("−", "-"))))
    text = _NAMED.sub("", text, count=1)
    tokens = _TOKEN.findall(text)
    if tokens and tokens[-1] == "." and len(tokens) > 1:
        tokens.pop()
    return [_statement(part) for part in _parts(tokens)]


def _parts(tokens: list[str]) -> list[list[str]]:
    """Tokens between the commas of a list, with or without one pair of round brackets around all of it."""
    cuts, level, closed_early = [-1], 0, False
    bracketed = len(tokens) > 2 and (tokens[0], tokens[-1]) == ("(", ")")
    for place, token in enumerate(tokens):
        level += (token in ("(", "{")) - (token in (")", "}"))
        closed_early |= level == 0 and place < len(tokens) - 1
    bracketed = bracketed and not closed_early and "," in tokens
    inner = tokens[1:-1] if bracketed else tokens
    level = 0
    for place, token in enumerate(inner):
        level += (token in ("(", "{")) - (token in (")", "}"))
        if token == "," and level == 0:
            cuts.append(place)
    cuts.append(len(inner))
    return [inner[start + 1 : end] for start, end in zip(cuts, cuts[1:])]


def _statement(tokens: list[str]) -> _Statement:
    """Tells the unit at the end from what it measures."""
    if len(tokens) == 1 and tokens[0] in NUMBER_WORDS:
        tokens = [str(NUMBER_WORDS[tokens[0]])]
    for length in range(min(5, len(tokens) - 1), 0, -1):
        ending, value = "".join(tokens[-length:]), tokens[:-length]
        # after a formula with letters, "m" is one letter more
        if ending in UNITS and not _names(value) and (_IS_NUMBER.match(value[-1]) or value[-1] in ")}π%²³"):
            return _Statement(tuple(value), ending, frozenset())
    return _Statement(tuple(tokens), "", _names(tokens))


def _names(tokens: list[str]) -> frozenset[str]:
    """Letters that stand for unknown numbers."""
    words = [token for token in tokens if _IS_NAME.match(token) and token not in CONSTANTS and token not in FUNCTIONS]
    return frozenset("".join(word for word in words if word not in ("sqrt", "abs")))


def _same(left: _Statement, right: _Statement) -> bool:
    size_left: Fraction | float = Fraction(1)
    size_right: Fraction | float = Fraction(1)
    if left.unit and right.unit:
        (kind_left, size_left), (kind_right, size_right) = UNITS[left.unit], UNITS[right.unit]
        if kind_left != kind_right:
            return False
    compared = 0
    names = left.names | right.names
    for turn in range(POINTS if names else 1):
        point = {name: _number_for(name, turn) for name in names}
        try:
            a, b = _value(left.tokens, point), _value(right.tokens, point)
            if a is None and b is None:  # both divide by zero at this point
                continue
            if a is None or b is None or not _close(a * size_left, b * size_right):
                return False
        except (_Unreadable, OverflowError):
            return False
        compared += 1
    return compared > 0


def _number_for(name: str, turn: int) -> Fraction:
    """A random number for a variable, the same in every process."""
    draw = random.Random(f"{name} {turn}")
    return Fraction(draw.choice((-1, 1)) * draw.randint(10**5, 10**6), draw.randint(10**5, 10**6))


def _close(a: Value, b: Value) -> bool:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    return abs(complex(a) - complex(b)) <= TOLERANCE * max(abs(complex(a)), abs(complex(b))) + NOISE


def _value(tokens: tuple[str, ...], point: dict[str, Fraction]) -> Value | None:
    """What an expression comes to at a point; None where it divides by zero.

    Raises:
        _Unreadable: it is outside the grammar or leaves the bounds.
    """
    reader = _Reader(tokens, point)
    try:
        value = reader.sum()
    except ZeroDivisionError:
        return None
    except (OverflowError, ValueError) as error:  # of cmath; _Unreadable is a ValueError too
        raise _Unreadable(str(error)) from None
    if reader.next is not None:
        raise _Unreadable(f"{reader.next!r} was not expected")
    return value


class _Reader:
    """Works an expression out while reading it. One method for each level of the grammar:

    sum = product (+|- product)*; product = signed ((*|/) signed | power)*; signed = (+|-)* power;
    power = unit (^ signed)?; unit = a number, letter, bracket, root, fraction or function.
    """

    def __init__(self, tokens: tuple[str, ...], point: dict[str, Fraction]) -> None:
        self.tokens, self.point, self.place, self.depth = tokens, point, 0, 0

    @property
    def next(self) -> str | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def take(self, *wanted: str) -> str | None:
        """The next token, if it is one of those wanted (or whatever it is, when none are named)."""
        token = self.next
        if token is None or (wanted and token not in wanted):
            return None
        self.place += 1
        return token

    def expect(self, wanted: str) -> None:
        if self.take(wanted) is None:
            raise _Unreadable(f"{wanted!r} is missing")

    def sum(self) -> Value:
        value = self.product()
        while sign := self.take("+", "-"):
            term = self.product()
            value = _bounded(value + term if sign == "+" else value - term)
        return value

    def product(self) -> Value:
        value = self.signed()
        while True:
            if self.take(*TIMES):
                value = _bounded(value * self.signed())
            elif self.take(*OVER):
                value = _bounded(_divided(value, self.signed()))
            elif self._starts_factor():
                value = _bounded(value * self.power())
            else:
                return value

    def _starts_factor(self) -> bool:
        """A factor without a sign of multiplication: a letter, a bracket or a root, never a number ("1 2" is none)."""
        token = self.next
        return token is not None and (token in ("(", "√", "\\sqrt", "\\frac", "\\dfrac") or self._is_word(token))

    def _is_word(self, token: str) -> bool:
        return _IS_NAME.match(token) is not None or token in CONSTANTS or token.lstrip("\\") in FUNCTIONS

    def signed(self) -> Value:
        negative = False
        while sign := self.take("+", "-"):
            negative ^= sign == "-"
        value = self.power()
        return -value if negative else value

    def power(self) -> Value:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _Unreadable("nested too deeply")
        value = self.unit()
        while mark := self.take("²", "³", "%", "\\%"):
            value = _raised(value, Fraction(RAISED[mark])) if mark in RAISED else value / 100
        if self.take("^", "**"):
            value = _raised(value, self.signed())
        self.depth -= 1
        return value

    def unit(self) -> Value:
        token = self.take()
        if token is None:
            raise _Unreadable("ends too early")
        if _IS_NUMBER.match(token):
            return self._mixed(_number(token))
        if token in ("(", "{"):
            value = self.sum()
            self.expect(")" if token == "(" else "}")
            return value
        if token == "|":
            value = self.sum()
            self.expect("|")
            return _size(value)
        if token in ("\\frac", "\\dfrac"):
            return _divided(self._braced(), self._braced())
        if token in ("√", "sqrt", "\\sqrt"):
            return self._root()
        if token == "abs":
            return _size(self._bracketed())
        if token in CONSTANTS:
            return CONSTANTS[token]
        if token.lstrip("\\") in FUNCTIONS:
            exponent = self.signed() if self.take("^") else Fraction(1)
            return _raised(_finite(FUNCTIONS[token.lstrip("\\")](complex(self.power()))), exponent)
        if all(letter in self.point for letter in token) and (len(token) == 1 or set(token) <= set("xyz")):
            return _bounded(math.prod((self.point[letter] for letter in token), start=Fraction(1)))
        raise _Unreadable(f"{token!r} is not known")

    def _mixed(self, whole: Fraction) -> Value:
        """2\\frac{1}{2}: a whole number with a fraction of numbers after it is their sum, as on paper."""
        if self.next not in ("\\frac", "\\dfrac") or whole.denominator != 1:
            return whole
        self.take()
        return _bounded(whole + _divided(self._braced(), self._braced()))

    def _braced(self) -> Value:
        self.expect("{")
        value = self.sum()
        self.expect("}")
        return value

    def _bracketed(self) -> Value:
        self.expect("(")
        value = self.sum()
        self.expect(")")
        return value

    def _root(self) -> Value:
        degree: Value = Fraction(2)
        if self.take("["):
            degree = self.sum()
            self.expect("]")
        value = self.power() if self.next != "{" else self._braced()
        if not isinstance(degree, Fraction) or degree.denominator != 1 or not 2 <= degree <= EXPONENT:
            raise _Unreadable("a root has a whole degree from 2 on")
        if isinstance(value, Fraction) and value < 0 and degree % 2:
            return -_raised(-value, 1 / degree)  # the real root
        return _raised(value, 1 / degree)


def _number(token: str) -> Fraction:
    digits, _, exponent = token.replace(",", "").partition("e")
    if abs(int(exponent or 0)) > EXPONENT:
        raise _Unreadable("the exponent of ten is too large")
    return _exact(Fraction(digits) * Fraction(10) ** int(exponent or 0))


def _divided(value: Value, by: Value) -> Value:
    if not isinstance(by, Fraction) and abs(by) < NOISE:
        raise ZeroDivisionError
    return value / by


def _size(value: Value) -> Value:
    return abs(value) if isinstance(value, Fraction) else complex(abs(value))


def _raised(base: Value, exponent: Value) -> Value:
    """A power with bounded exponent: exact for whole exponents and for roots that are fractions."""
    if _size(exponent).real > EXPONENT:
        raise _Unreadable("the exponent is too large")
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if exponent.denominator == 1:
            return _exact(base**exponent.numerator)
        if exponent == Fraction(1, 2) and base >= 0:
            top, bottom = math.isqrt(base.numerator), math.isqrt(base.denominator)
            if Fraction(top**2, bottom**2) == base:
                return Fraction(top, bottom)
    if base == 0:
        if complex(exponent).real <= 0:
            raise ZeroDivisionError
        return Fraction(0)
    return _finite(complex(base) ** complex(exponent))


def _bounded(value: Value) -> Value:
    return _exact(value) if isinstance(value, Fraction) else _finite(value)


def _exact(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS:
        raise _Unreadable("the number is too large")
    return value


def _finite(value: complex) -> complex:
    if not cmath.isfinite(value):
        raise _Unreadable("the number is not finite")
    return value
