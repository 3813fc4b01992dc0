r"""Pairs of answers, and responses with their right answer. What is not the same must never be accepted;
what is the same may be written in a way that nobody has thought of.
"""

# ruff: noqa: RUF001 - minus signs and dashes of all kinds

from __future__ import annotations

SAME = [
    # signs
    ("−5", "-5"), ("–5", "-5"), ("—5", "-5"), ("－5", "-5"), ("- 5", "-5"), ("$-5$", "-5"), ("(-5)", "-5"),
    ("+5", "5"),
    ("−\\frac{1}{2}", "-0.5"), ("-\\$5", "-5"), ("−½", "-1/2"), ("{-5}", "-5"),
    # digits, separators
    ("５", "5"), ("٣", "3"), ("1{,}000", "1000"), ("1\\,000", "1000"), ("1,\\!000", "1000"), ("1 000", "1000"),
    ("1\u2009000", "1000"), ("1\u202f234\u202f567", "1234567"), ("1\u00a0000.5", "1000.5"),
    ("12,345,678", "12345678"),
    ("1,00,000", "100000"), ("1'000", "1000"), ("1’000", "1000"), ("\\$1,200.50", "1200.5"), ("\u200b42\ufeff", "42"),
    # fractions, roots, powers
    ("\\frac12", "1/2"), ("\\dfrac{1}{2}", "\\frac{1}{2}"), ("\\tfrac12", "0.5"), ("\\frac{ 3 }{ 4 }", "0.75"),
    ("½", "0.5"), ("3½", "3.5"), ("2 1/2", "2.5"), ("2\\frac{1}{2}", "5/2"), ("-1 1/2", "-1.5"), ("\\frac1{2}", ".5"),
    ("\\frac{1}2", "1/2"), ("\\sqrt2", "\\sqrt{2}"), ("\\sqrt 2", "\\sqrt{2}"), ("√2", "\\sqrt{2}"),
    ("√(10)", "\\sqrt{10}"), ("sqrt(2)", "\\sqrt{2}"), ("2\\sqrt3", "2\\sqrt{3}"), ("\\sqrt[3]2", "\\sqrt[3]{2}"),
    ("5²", "5^{2}"), ("2π", "2\\pi"), ("1.5e3", "1500"), ("1.5\\times10^{3}", "1500"), ("1.5 × 10^3", "1500"),
    ("3 \\cdot 10^{-2}", "0.03"), ("10^{6}", "1000000"), ("2 x 10^5", "200000"), ("6.02×10²³", "6.02e23"),
    ("\\left(\\frac{1}{2}\\right)", "\\frac12"), ("2 \\times 3", "2\\cdot3"),
    # units, currencies, words
    ("7 apples", "7"), ("7 km", "7"), ("5\\text{ cm}", "5"), ("5\\,\\mathrm{cm}^2", "5"), ("5 cm²", "5\\text{ cm}^2"),
    ("5km", "5"), ("90^\\circ", "90"), ("90°", "90"), ("90 degrees", "90^{\\circ}"), ("$18", "18"),
    ("18 dollars", "\\$18"),
    ("€5", "5"), ("5 €", "5"), ("Rs. 500", "500"), ("USD 500", "$500"), ("50\\%", "50"), ("50 percent", "50%"),
    ("5 square feet", "5"), ("60 km/h", "60 km per hour"), ("7 kilometers", "7 km"), ("20°C", "20"),
    ("1,000 men.", "1000"),
    # what stands around
    ("x=5", "5"), ("x = -5", "-5"), ("\\theta = 30", "30"), ("5.", "5"), ("**5**", "5"), ("`5`", "5"),
    ("\\(5\\)", "5"),
    ("\\[5\\]", "5"), ("\\text{5}", "5"), ("\\boxed{5}", "5"), ("The answer is 5.", "5"), ("Answer: $5$", "5"),
    ("y = 2x + 3", "2x+3"), ("\\text{Evelyn}", "Evelyn"), ("yes", "Yes"), ("\\text{ Monday }.", "monday"),
    ("\\mathbf{7}", "7"), ("New  York", "New York"), ("$\\text{No}$", "no"),
    # choices
    ("\\text{(A)}", "A"), ("(A)", "A"), ("A.", "A"), ("A)", "A"), ("\\textbf{(B)}", "B"), ("\\textbf{(B) }5", "B"),
    ("\\text{B}", "(B)"), ("(c)", "C"), ("C. 42", "C"), ("option D", "D"), ("\\mathrm{(E)}\\ 12", "E"),
    ("**(D)**", "D"),
    # tuples, intervals, sets, lists
    ("\\left( 1, 2 \\right)", "(1,2)"), ("(1/2, 3)", "(0.5,3)"), ("[1, 2)", "[1,2)"), ("\\{2, 1\\}", "\\{1,2\\}"),
    ("{1, 2}", "\\{2,1\\}"), ("1, 2", "1,2"), ("(−∞, 5]", "(-\\infty,5]"), ("(0, +\\infty)", "(0,\\infty)"),
    ("\\{\\frac12\\}", "\\{0.5\\}"), ("((1,2),(3,4))", "((1, 2), (3, 4))"), ("x \\leq 5", "x\\le5"),
]  # fmt: skip

OTHER = [
    # signs
    ("−5", "5"), ("–5", "5"), ("-5", "5"), ("3–5", "-5"), ("3-5", "-5"), ("3–5", "5"), ("3-5", "3"), ("±5", "5"),
    ("\\pm 5", "-5"), ("--5", "5"), ("10-5", "5"), ("-(-5)", "-5"), ("5-", "5"), ("-½", "1/2"), ("1-1/2", "1.5"),
    # separators that may be decimal ones, or between numbers
    ("3,5", "3.5"), ("3,5", "35"), ("1.000", "1000"), ("1.234,56", "1234.56"), ("1.000.000", "1000000"),
    ("0,500", "500"),
    ("0,500", "0.5"), ("1, 234", "1234"), ("1 2", "12"), ("12 34", "1234"), ("1 0000", "10000"), ("1,0000", "10000"),
    ("1;000", "1000"), ("(1,000)", "(1,0)"), ("1,2", "12"), ("1,234,5", "12345"), ("2020 300", "2020300"),
    ("5 000,5", "5000.5"), ("1,234", "1.234"),
    # fractions, roots, powers
    ("2 1/2", "21/2"), ("2 1/2", "1"), ("1 3/2", "2.5"), ("0.333", "1/3"), ("1/0", "0"), ("\\frac{1}{2}", "2"),
    ("½", "2"),
    ("3½", "31/2"), ("\\frac123", "123"), ("\\sqrt{2}", "2"), ("√2", "2"), ("\\sqrt{23}", "\\sqrt{2}3"),
    ("√23", "\\sqrt{2}3"),
    ("\\sqrt2", "1.414"), ("5²", "52"), ("5^2", "52"), ("2^{10}", "210"), ("x_1", "1"), ("10^{3}", "103"),
    ("10^12", "1012"),
    ("1.5e3", "1.53"), ("2\\pi", "2"), ("2π", "6.28"), ("3!", "3"), ("2i", "2"), ("\\frac{1}{2}x", "1/2"),
    ("H₂O", "H2O"),
    ("1e999999999", "1"), ("2 \\times 3", "23"), ("2\\times3", "6x"), ("\\overline{5}", "5"), ("0.3...", "0.3"),
    # units, currencies, words
    ("7 km", "7 m"), ("7 apples", "7 pears"), ("5 million", "5"), ("5 thousand dollars", "5"), ("2 dozen", "2"),
    ("5x", "5"),
    ("5 x", "5"), ("7 or 8", "7"), ("7 and 8", "78"), ("7 apples and 3 pears", "7"), ("50 cents", "$50"),
    ("50%", "50 dollars"),
    ("5 cm²", "5 cm"), ("5 cm^2", "52"), ("5 more than x", "5"), ("5m", "5"), ("6 of 8", "6"), ("10 to 12", "10"),
    ("20°C", "20°F"), ("5 pm", "5 am"), ("2 pi", "2"), ("5k", "5"), ("7 apples", "7 apples 3"), ("less than 5", "5"),
    ("not 5", "5"), ("3 halves", "3"), ("5 hundredths", "5"), ("€5", "$5"), ("5 squared", "5"), ("about 5", "5"),
    # what stands around
    ("x=5", "y=5"), ("x = 5 or x = -5", "5"), ("x=5", "x=-5"), ("x=y", "y"), ("x>5", "5"), ("5=5", "5"),
    ("3+4=7", "8"),
    ("", "0"), ("", ""), ("AB", "ab"), ("a", "A"), ("Evelyn", "Evelyne"),
    ("not yes", "yes"),
    ("5, 6", "5"), ("five", "5"), ("f(5)", "5"), ("|5|", "5"), ("{5", "5"), ("5 (or 6)", "5"), ("x", "5x"),
    # choices
    ("(A)", "B"), ("A or B", "A"), ("(A) or (B)", "A"), ("(A), (B)", "A"), ("AB", "A"), ("A, B", "B"), ("A. B.", "A"),
    ("(A) 5", "(A) 6"), ("not A", "A"), ("A5", "A"), ("(K)", "K."), ("A B", "A"), ("(A)(B)", "A"), ("(A) and B", "A"),
    # tuples, intervals, sets, lists
    ("(1,2)", "(2,1)"), ("[1,2]", "(1,2)"), ("[1,2)", "[1,2]"), ("(1,2)", "{1,2}"), ("\\{1,2\\}", "\\{1,3\\}"),
    ("\\{1,1\\}", "\\{1,2\\}"), ("(1,2,3)", "(1,2)"), ("(1,2)", "12"), ("(1,2)", "1.2"), ("1,2", "2,1"),
    ("(12)", "(1,2)"),
    ("(-\\infty,5]", "(\\infty,5]"), ("(1,2)\\cup(3,4)", "(1,2)"), ("(-5,3)", "(5,3)"), ("(1,234)", "1234"),
    ("[5]", "{5}"),
    ("x \\le 5", "x \\ge 5"), ("x<5", "x\\le5"),
]  # fmt: skip

RESPONSES = [
    # response, right answer, whether it is given
    ("The answer is −5.", "-5", True), ("The answer is −5.", "5", False), ("The answer is –5.", "-5", True),
    ("The answer is –5.", "5", False), ("The answer is —5.", "5", False), ("The answer — 5", "-5", False),
    ("The answer is -5", "-5", True), ("It is $-5$.", "-5", True), ("It is -$5.", "-5", True),
    ("It is −$5.", "5", False),
    ("x = − 5", "-5", True), ("x = − 5", "5", False), ("x = - 5", "-5", True), ("It is 3–5.", "-5", False),
    ("It is 3–5.", "5", False), ("It is 3 – 5.", "5", False), ("It is 3-5.", "-5", False), ("so 10 - 5", "-5", False),
    ("- 5 apples", "-5", False), ("(−5)", "-5", True), ("(3,-5)", "5", False), ("It is ±5", "5", False),
    ("It is **-5**.", "-5", True), ("10 - 15 = -5", "-5", True), ("10 − 15 = −5", "5", False),
    ("#### 7 apples", "7", True), ("#### 7 apples and 2 pears", "7", False), ("#### -7", "7", False),
    ("#### −7", "-7", True), ("#### 1,234", "1234", True), ("#### $7.50", "7.5", True), ("#### 7.", "7", True),
    ("#### 7 hours", "7 days", False), ("#### **7**", "7", True), ("#### 7\n\nI am sure.", "7", True),
    ("\\boxed{\\text{(A)}}", "A", True), ("\\boxed{\\textbf{(B)}}", "B", True),
    ("\\boxed{\\textbf{(B)}\\ 5}", "B", True),
    ("\\boxed{B}", "A", False), ("\\boxed{\\boxed{5}}", "5", True), ("\\boxed{x=5}", "5", True),
    ("\\boxed{}", "5", False),
    ("\\boxed{5} or \\boxed{6}", "6", True), ("\\boxed{-5}", "5", False), ("\\boxed{–5}", "-5", True),
    ("\\boxed{1{,}000}", "1000", True), ("\\boxed{\\sqrt2}", "\\sqrt{2}", True), ("\\boxed{\\sqrt{2}}", "2", False),
    ("\\boxed{3,5}", "3.5", False), ("\\boxed{5\\text{ million}}", "5", False), ("\\boxed{50\\%}", "50", True),
    ("It costs $1{,}000.", "1000", True), ("That makes 12\u202f500.", "12500", True),
    ("That makes 12 500.", "500", False),
    ("It is 1.5e3.", "1500", True), ("It is 1.5e3.", "3", False), ("It is 2 \\times 10^{3}.", "2000", True),
    ("It is 2 \\times 10^{3}.", "3", False), ("It is 5^2.", "2", False), ("It is 5^2.", "5", False),
    ("It is \\sqrt{5}.", "5", False), ("It is √5.", "5", False), ("It is 2π.", "2", False), ("It is 5x.", "5", False),
    ("The ratio is 2:3.", "3", False), ("It is 5:30.", "30", False), ("It is 3,5.", "5", False),
    ("It is 1.000,50", "50", False),
    ("It is 2 1/2.", "2.5", True), ("It is 2 1/2.", "0.5", False), ("It is 2½.", "2.5", True),
    ("It is 7 for x1.", "7", True),
    ("It is x_1.", "1", False), ("It is 3/4.", "0.75", True), ("on 3/4/2020", "2020", False), ("1.2.3", "3", False),
    ("It takes 5km.", "5", True), ("It is ５.", "5", True), ("It is 42!", "42", True), ("It is Rs500.", "500", True),
    ("It is f(5).", "5", False), ("That is 50%.", "50", True), ("So 7 apples.", "7", True), ("no number", "5", False),
    # words that change a number, inequalities
    ("It is minus 5.", "5", False), ("It is negative 5.", "5", False), ("It is negative $5.", "5", False),
    ("It is -(5).", "5", False), ("It is (5).", "5", True), ("It is 5 million.", "5", False),
    ("It is $5 billion.", "5", False), ("It is 5\\text{ thousand}.", "5", False), ("It is 2 dozen eggs.", "2", False),
    ("It is 5 squared.", "5", False), ("It is 3 quarters.", "3", False), ("It is 5 thirdparty.", "5", True),
    ("x > 5", "5", False), ("$x>5$", "5", False), ("$x \\geq -5$", "-5", False), ("x ≤ 5", "5", False),
    ("x < 5", "5", False), ("x != 5", "5", False), ("<answer>5</answer>", "5", True), ("<b> -5</b>", "-5", True),
    ("</think>\n\n5", "5", True), ("so -> 5", "5", True), ("so => 5", "5", True), ("so:\n> 5", "5", True),
    ("Great! 5", "5", True), ("\\lambda = 5", "5", True),
    # factors, denominators, functions, exponents
    ("It is 2 × 5.", "5", False), ("It is 2 \\times 5.", "5", False), ("It is 2*5.", "5", False),
    ("It is 2 * 5.", "5", False), ("It is 2 x 5.", "5", False), ("It is 10 \\div 5.", "5", False),
    ("It is \\log 5.", "5", False), ("It is log 5.", "5", False), ("It is \\overline{5}.", "5", False),
    ("It is π/5.", "5", False), ("It is \\sqrt{3}/5.", "5", False), ("It is \\dfrac{\\sqrt{3}}{5}.", "5", False),
    ("It is x/5.", "5", False), ("It is 5/x.", "5", False), ("It is 2^{-5}.", "-5", False), ("It is 5 x.", "5", False),
    ("It is *5*.", "5", True), ("It is **5**.", "5", True), ("* 5", "5", True), ("It is $5/hour.", "5", True),
    ("2 * 5 = 10", "10", True), ("It is \\text{5}.", "5", True), ("It is $\\textbf{5}$.", "5", True),
    ("x = 5", "5", True), ("It is 10/5.", "2", True), ("A box: 5", "5", True),
]  # fmt: skip
