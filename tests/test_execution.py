import builtins
import random
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from nanochat.execution import DEEPEST, LARGEST, LONGEST, use_calculator

# --- what it answers -------------------------------------------------------------------------------------------------

SAME_IN_PYTHON = [
    "5", "0", "00", "  7 ", "2+2", "2 + 3 * 4", "(2 + 3) * 4", "2\t*\t3", "7-3-2", "7 - -3", "-2", "+2", "--2", "-+-2", "2--2", "- (3 + 4)", "6/2",
    "7//2", "-7//2", "7 % 3", "-7 % 3", "7 % -3", "7.5 % 2", "7.5//2", "100/8/2", "2*3%4", "2**10", "2**3**2", "(2**3)**2", "-2**2", "(-2)**2",
    "2**-1", "2**--1", "-2**-2", "2**-3**2", "-2*3", "3*-2+1", "2**0.5", "2.0**3", "0**0", "0**5", "1**10**50", "(-1)**10**50", "0.1+0.2", ".5*12",
    "5.", "5.e1", "1e3", "1E-3", "2.5e+2", "1e22", "1e300", "1e-400", "0.0", "-0.0", "007.5", "1/3", "10**99", "1e308", "2**332", "-(10**99)",
    "2**-9999", "2**-(10**99)", "99999999999999999999*3", "9**9**2", "(((1)))", "'strawberry'.count('r')", '"strawberry".count("r")',
    "'strawberry'.count(\"rr\")", "'a,b'.count(',')", "'a, b, c' .count( ', ' )", "''.count('')", "\"it's\".count(\"'\")", "'naïve Ωmega'.count('Ω')",
    "'abc'.count('a') + 1", "'abc'.count('a') + 'abba'.count('b') * 10", "-'aa'.count('a')", "('banana'.count('a'))**2", "len('hello')", "len('')",
    "len ( \"a,b\" ) / 2", "len('ab') + 'ab'.count('b')", "'2**9'.count('**')", "'__import__(\"os\")'.count('_')", "'#'.count('#')", "'+'.count('+')",
    "'len'.count('len')", "'.count'.count('.count')",
]  # fmt: skip


@pytest.mark.parametrize("expression", SAME_IN_PYTHON)
def test_python_agrees(expression):
    assert use_calculator(expression) == str(eval(expression.strip()))


COMMAS = {
    "1,234 + 1": "1235",
    "1,000,000": "1000000",
    "1,00,000 / 2": "50000.0",
    "1,234.5*2": "2469.0",
    "1,000e3": "1000000.0",
    "(1,000-1) // 1,0": "99",
    "'1,000'.count(',') + 1,000": "1001",
    "len('1,000')": "5",
}


@pytest.mark.parametrize("expression", COMMAS)
def test_commas_are_dropped_from_numbers_only(expression):
    assert use_calculator(expression) == COMMAS[expression]


def test_what_a_person_would_check_first():
    assert use_calculator("'strawberry'.count('r')") == "3"
    assert use_calculator("0.1+0.2") == "0.30000000000000004"
    assert use_calculator("6/2") == "3.0"
    assert use_calculator("12*7") == "84"


def random_expression(rng: random.Random, depth: int) -> str:
    """No power of a power and at most 8 leaves: no integer on the way gets 100 digits."""
    leaves = (
        lambda: str(rng.randrange(1000)),
        lambda: f"{rng.uniform(0, 100):.{rng.randrange(1, 4)}f}",
        lambda: f"{rng.choice(('', '-', '+'))}{rng.randrange(10)}**{rng.choice(('', '-'))}{rng.choice((0, 1, 2, 3, 0.5))}",
        lambda: f"(-{rng.randrange(1, 10)})**{rng.choice((2, 2, 3, 3, 2.0, 0.5))}",
        lambda: f"{''.join(rng.choices('abc, ', k=rng.randrange(9)))!r}.count({rng.choice('abc,')!r})",
        lambda: f"len({''.join(rng.choices('abc, ', k=rng.randrange(9)))!r})",
    )
    if depth == 0 or rng.random() < 0.15:
        return rng.choice(leaves)()
    left, right = (random_expression(rng, depth - 1) for _ in range(2))
    blank = rng.choice(("", " "))
    text = f"{left}{blank}{rng.choice(('+', '-', '*', '/', '//', '%'))}{blank}{rng.choice(('', '', '-'))}{right}"
    return rng.choice((text, text, f"({text})", f"-({text})"))


def python_says(expression: str) -> str | None:
    try:
        value = eval(expression)
    except (ZeroDivisionError, TypeError):  # a TypeError comes of complex numbers, which have no // and no %
        return None
    return None if isinstance(value, complex) else str(value)


def test_python_agrees_about_random_expressions():
    rng = random.Random(7)
    expressions = [random_expression(rng, 3) for _ in range(1000)]
    answers = [use_calculator(expression) for expression in expressions]
    for expression, answer in zip(expressions, answers, strict=True):
        assert answer == python_says(expression), expression
    assert sum(answer is not None for answer in answers) > 500
    assert len(set(answers)) > 400


# --- what it refuses -------------------------------------------------------------------------------------------------

NOT_ARITHMETIC = [
    "", " ", "\t", "\n", "x", "pi", "two + 2", "e", "1e", "1.e+", "abc.count('a')", "__import__('os')", "__import__('os').system('id')",
    "open('/etc/passwd')", "print(1)", "eval('1')", "exec('1')", "abs(-1)", "round(1.5)", "max(1, 2)", "sum('1')", "int('1')", "str(1)", "Len('a')",
    "LEN('a')", "lens('a')", "len", "len()", "len(5)", "len('a', 'b')", "len('a',)", "len('a'", "len'a'", "len(len('a'))", "len(['a'])",
    "len('a' 'b')", "len('a').real", "lenlen('a')", "'a'", "'a' + 'b'", "'a'*3", "3*'a'", "'a'*10**9", "'%d' % 3", "'a' 'b'", "'a'.count('b' 'c')",
    "'a' 'b'.count('a')", "'a''b'.count('a')", "('a').count('a')", "('a'+'b').count('a')", "'a'.count(('a'))", "-'a'", "+'a'.count", "'a'.count",
    "'a'.count('a'", "'a'.count()", "'a'.count(1)", "'a'.count('a', 0)", "'a'.count('a',)", "'a'.count('a').count('a')", "'a'.count('a').real",
    "'a'.upper()", "'a'.upper().count('A')", "'a'.replace('a', 'b')", "'a'.__class__", "'a'.counts('a')", "'a'.Count('a')",
    "'{0.__class__}'.format(1)", "'a'.join('b')", "'a'.encode()", "'a'(1)", "'a'[0]", "'a'.count('a')[0]", "''.join.__self__", "count('a')",
    ".count('a')", "5.count('a')", "5..count('a')", "(5).bit_length()", "1.real", "(1).real", "1 .real", "f'a'.count('a')", "f'{1}'",
    "b'a'.count(b'a')", "r'a'.count('a')", "u'a'.count('a')", "'''a'''.count('a')", '"""a""".count("a")', "'a'.count('''a''')", r"'\d'.count('d')",
    r"'a\n'.count('a')", r"'it\'s'.count('s')", r"'\x41'.count('A')", "'a\nb'.count('a')", "'a\rb'.count('a')", "'a\0b'.count('a')", "'a", "a'", "'",
    '"', "'a\"", "'a\".count('a')", "''''", "1 == 1", "1 < 2", "1 != 2", "1 = 1", "x = 1", "(x := 1)", "1 and 2", "not 1", "1 or 2", "1 is 1",
    "1 in '1'", "1 if 1 else 2", "True", "False", "None", "...", "True + 1", "lambda: 1", "(lambda: 1)()", "[1]", "[1][0]", "{1}", "{}", "(1, 2)",
    "1, 2", "()", "1,", ",1", "1,,0", "1 ,000", "1, 000", "0,5", "1.5,3", "(1,)", "[i for i in '1']", "(i for i in '1')", "await 1", "yield 1", "*1",
    "**1", "/1", "1j", "1J + 1", "2+3j", "0x10", "0b1", "0o7", "1_000", "007", "1 2", "1(2)", "(1)(2)", "2(3)", "1.2.3", "1..2", "1 . 5", "1 e5",
    "1e 5", "1+", "1-", "*", "+", "-", "(", ")", "(1", "1)", "1+(2", ")1(", "(1))", "1+*2", "1***2", "1 * * 2", "1///2", "1 / / 2", "1%%2", "5%",
    "50% * 2", "1 @ 2", "1 & 2", "1 | 2", "1 ^ 2", "~1", "1 << 2", "1 >> 2", "1 +\n2", "1\n2", "(1\n+2)", "1; 2", "1 # one", "1 \\\n+ 1", "$5", "5€",
    "2×3", "6÷2", "5−3", "½", "²", "2²", "٣", "5+٣", "１", "nan", "inf", "-inf", "NaN", "infinity", "1+nan", "\0", "1\0", "\ud800", "1\u00a0+ 1",
    "1\x0c+1", "\N{BYTE ORDER MARK}1",
]  # fmt: skip

NO_SUCH_NUMBER = [
    "1/0", "1//0", "1%0", "1/0.0", "1//0.0", "1%0.0", "0**-1", "0.0**-1", "1/(2-2)", "'a'.count('b')**-1", "1/len('')", "(-1)**0.5", "(-8)**(1/3)",
    "((-1)**0.5)**2", "1e308*10", "1e309", "-1e309", "1e308+1e308", "1e309-1e309", "1e309*0", "1e309/1e309", "2.0**5000", "1e200**2", "1e-308**-2",
    "1e308//1e-308", "10**100", "-10**100", "10**99*10", "10**99+9*10**99", "2**333", "2**9999999", "9**9**9", "9**9**9**9", "-9**9**9",
    "(9**9)**(9**9)", "10**(10**50)", "(-2)**(10**90)", "10**400", "*".join(["10**400"] * 100), "*".join(["10**99"] * 300), "**".join(["9"] * 300),
    "10**99 - 10**100", "0*10**100", "1" + "0" * 100, "1" * 101, "1" * 1900, "1e" + "9" * 1900, "7" * 400 + ".5", "*".join(["999"] * 100),
]  # fmt: skip

HUGE = [
    "1" * 5000, "1" * 10**6, "1," * 10**6 + "1", "1e" + "9" * 10**6, "0." + "0" * 10**6 + "1", "-" * 100_000, "-" * 100_000 + "1", "-" * 1999 + "1",
    "+-" * 900 + "1", "(" * 100_000, "(" * 100_000 + "1" + ")" * 100_000, "(" * 999 + "1" + ")" * 999, "(" * 1999, ")" * 1999, "2**" * 600 + "1",
    "2**-" * 400 + "1", "(1+" * 400 + "1" + ")" * 400, "1+(" * 400 + "1" + ")" * 400, "1" + "+1" * 10**6, "'" + "a" * 10**7 + "'.count('a')",
    "'a'.count('" + "a" * 10**7 + "')", "len('" + "a" * 10**7 + "')", " " * 10**7 + "1", " " * 1999 + "x", "'" * 1999, '"' * 1999, "''" * 999,
    "." * 1999, "1." * 999, ".1" * 999, "1,1," * 499, "1e1" * 600, "len(" * 499, "len('" * 399, ".count" * 300, "'a'.count('a')" * 140, "\0" * 1999,
    "[" * 1999, "9" * 10**7, "𝟙" * 1999, "é" * 10**6, "\n" * 10**6,
]  # fmt: skip

REFUSED = [*NOT_ARITHMETIC, *NO_SUCH_NUMBER, *HUGE]


@pytest.mark.parametrize("expression", REFUSED, ids=lambda text: ascii(text[:30]))
def test_refused_at_once(expression):
    begun = time.perf_counter()
    assert use_calculator(expression) is None
    assert time.perf_counter() - begun < 2  # milliseconds on a quiet machine; what this guards against would take minutes


def test_the_longest_work_it_accepts_is_short():
    word, part = "a" * (LONGEST // 2), "a" * (LONGEST // 4) + "b"
    long = [f"'{word}'.count('{part}')", "1" + "+1" * 999, "*".join(["1" * 90, *["1"] * 900]), "%".join(["7" * 99] * 20), "1.1" + "**1.1" * 30]
    begun = time.perf_counter()
    assert None not in [use_calculator(expression) for expression in long]
    assert time.perf_counter() - begun < 2


def test_the_limits_are_where_they_are_said_to_be():
    assert use_calculator("1+" * (LONGEST // 2 - 1) + "11") == str(LONGEST // 2 + 10)
    assert use_calculator("1+" * (LONGEST // 2 - 1) + "111") is None
    for opening, closing in (("(", ")"), ("-", ""), ("1**", ""), ("(-", ")")):
        deepest = (DEEPEST - 1) // (2 if opening == "(-" else 1)  # the expression itself is one level, a sign and a parenthesis are two
        assert use_calculator(opening * deepest + "1" + closing * deepest) is not None
        assert use_calculator(opening * (deepest + 1) + "1" + closing * (deepest + 1)) is None
    assert use_calculator("9" * 100) == str(LARGEST - 1)
    assert use_calculator(f"{LARGEST - 1} + 1") is None
    assert use_calculator(f"-{LARGEST - 1} - 1") is None


# --- in every circumstance -------------------------------------------------------------------------------------------


def test_eight_threads_get_the_same_answers():
    expressions = [text for text in [*SAME_IN_PYTHON, *COMMAS, *REFUSED] if len(text) < 10_000]
    alone = [use_calculator(text) for text in expressions]
    orders = [random.Random(seed).sample(range(len(expressions)), len(expressions)) for seed in range(8)]

    def answers(order: list[int]) -> dict[int, str | None]:
        return {i: use_calculator(expressions[i]) for i in order}

    with ThreadPoolExecutor(8) as pool:
        for together in pool.map(answers, orders):
            assert [together[i] for i in range(len(expressions))] == alone


def garbage(rng: random.Random) -> str:
    pieces = (
        "1", "23", "0", "4,5", ".5", "6.", "e", "1e9", "9", "'", '"', "'ab'", '"a,b"', ".count", ".count('a')", "count", "len", "len('b')", "(", ")",
        "(", ")", "+", "-", "*", "/", "//", "%", "**", ",", ".", " ", " ", "\t", "\n", "\\", "_", "x", "#", "=", "[", "]",
    )  # fmt: skip
    if rng.random() < 0.2:
        return "".join(chr(rng.randrange(rng.choice((128, 0x3000, 0x110000)))) for _ in range(rng.randrange(60)))
    return "".join(rng.choice(pieces) for _ in range(rng.randrange(1, rng.choice((4, 8, 60)))))


def test_garbage_neither_raises_nor_prints_nor_means_anything_else_than_in_python(capfd):
    rng = random.Random(11)
    texts = [garbage(rng) for _ in range(20_000)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers = [use_calculator(text) for text in [*texts, *REFUSED]]
    assert capfd.readouterr() == ("", "")
    meant = [(text, answer) for text, answer in zip(texts, answers, strict=False) if answer is not None and "," not in text]
    assert len(meant) > 500
    for text, answer in meant:
        assert answer == str(eval(text.strip())), text


def test_python_reads_none_of_it(monkeypatch):
    """Neither as a program nor as a syntax tree."""

    def forbidden(*args, **kwargs):
        raise AssertionError("the calculator asked Python")

    with monkeypatch.context() as patch:
        for name in ("eval", "exec", "compile", "open", "__import__"):
            patch.setattr(builtins, name, forbidden)
        answers = [use_calculator(text) for text in [*SAME_IN_PYTHON, *REFUSED]]
    assert answers == [str(eval(text.strip())) for text in SAME_IN_PYTHON] + [None] * len(REFUSED)
