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
    ("1,000 men.", "1000"), ("5 pairs", "5"), ("5~cm", "5"), ("7 (apples)", "7"), ("7 (apples)", "7 apples"),
    ("25 (miles per hour)", "25 mph"), ("12 miles/hour", "12 mph"), ("60 kph", "60 kilometers per hour"),
    ("12 cubic meters", "12 m^3"), ("12 m³", "12 cubic metres"), ("12 square cm", "12 cm^2"), ("12 sq. cm", "12 cm²"),
    ("5 square feet", "5\\text{ ft}^2"), ("5 dollars per square foot", "5"),
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
    ("[1, 2] \\cup [3, 4]", "[1,2]\\cup[3,4]"), ("\\left[1, 2\\right) ∪ (3, 4)", "[1,2)\\cup(3,4)"),
    ("(-\\infty, 0) \\cup (0, \\infty)", "(-\\infty,0)\\cup(0,\\infty)"), ("f(1, 2, 3)", "f(1,2,3)"),
    ("\\begin{pmatrix} -1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix}-1\\\\2\\end{pmatrix}"),
    ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"),
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
    ("~5", "5"), ("5 approx.", "5"), ("0.3 recurring", "0.3"), ("5 below", "5"), ("5 lakh", "5"), ("5 choose 2", "5"),
    ("5 remainder 2", "5"), ("101 binary", "101"), ("101 (binary)", "101"), ("12 hex", "12"), ("7 (apples)", "7 pears"),
    ("5 (million)", "5"), ("5 (x)", "5"), ("5(ab)", "5"), ("5 (mod 7)", "5"), ("12 square cm", "12 cm"),
    ("12 cubic m", "12 m^2"), ("12 square inches", "12 cm^2"), ("12 mph", "12 km/h"),
    ("12 miles per hour", "12 miles"), ("5 roughly", "5"), ("3 + 5", "5"), ("5th", "5"),
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
    ("[5]", "{5}"), ("[1, 234]\\cup[3, 4]", "[1,234]\\cup[3,4]"), ("(1, 234)", "1234"), ("f(1, 2)", "f(12)"),
    ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 12 \\end{pmatrix}"), ("12, 34, 567", "1234567"),
    ("\\begin{pmatrix} -1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"),
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

ALONE = [
    # response, right answer: ordinary ends of solutions
    ("So she has 5 apples left.", "5"), ("She ate 5 more apples.", "5"), ("It is $1,234.50 in total.", "1234.5"),
    ("3 + 5 = 8.", "8"), ("8 (eight)", "8"), ("He ate 3/4 of the cake", "3/4"), ("so $\\frac{3}{4}$", "3/4"),
    ("= 25%", "25"), ("x = 5 and we are done", "5"), ("5 hours/day", "5"), ("It goes 5 km/h.", "5"),
    ("$5$ apples", "5"),
    ("He ran 5 times a week", "5"), ("5 times as many", "5"), ("a total of 5 people", "5"), ("at least 5 boxes", "5"),
    ("**Answer:** 5", "5"), ("Answer:5", "5"), ("Total=5", "5"), ("8 - I hope that helps", "8"), ("8\n- note", "8"),
    ("18 - 5 = 13 dollars", "13"), ("The area is 5 cm^2.", "5"), ("5 cm²", "5"), ("$5\\text{ cm}^2$", "5"),
    ("$5 \\, \\text{cm}$", "5"), ("5\\,\\mathrm{cm}", "5"), ("\\left( 5 \\right)", "5"), ("\\therefore x = 5", "5"),
    ("x \\Rightarrow 5", "5"), ("\\begin{align} x &= 5 \\end{align}", "5"), ("a 5-year plan", "5"), ("5hrs", "5"),
    ('{"answer": 5}', "5"), ("答案是5。", "5"), ("x = +5", "5"), ("y is -5", "-5"), ("| total | 5 |", "5"),
    ("The sum of 3 and 2 is 5", "5"), ("Question 3: 5", "5"), ("3 cats and 5 dogs", "5"), ("In all, 5", "5"),
    ("Answer: 42!", "42"), ("5 <br>", "5"), ("<<6*3=18>>18", "18"), ("Tom has 5 fewer than Sam", "5"), ("5 pairs", "5"),
    ("Answer\n42", "42"), ("It is 3.\n5", "5"), ("by 5 pm, 3 are left", "3"), ("_5_ apples", "5"),
    ("1. Add 2.\n2. Get 5", "5"), ("5 each", "5"), ("the answer is:\n\n5", "5"), ("-3/4", "-3/4"),
]  # fmt: skip

PARTS = [
    # factorials, powers, bases, subscripts, functions, brackets
    "5!", "$5!$", "n = 5!", "(5!)", "5^n", "5**2", "5 ** 2", "5_2", "a_{5}", "log2 5", "\\{5\\}", "10^{-5}",
    "\\log_2 5", "\\log_{2} 5", "log_2(5)", "\\sin 5", "sin 5°", "\\max(3,5)", "f(5)", "|5|", "|-5|",
    "sqrt 5", "\\sqrt[3]{5}", "\\binom{7}{5}", "7 choose 5", "7C5", "\\sum_{i=1}^{5}", "\\lfloor 5 \\rfloor",
    # sums, differences, products, quotients, remainders
    "3 + 5", "1+2+3", "x + 5", "x^{2}+5", "5n+1", "5 + x", "5 - x", "5 - \\pi", "10-5", "10 - 5", "x - 5", "x = y+5",
    "5y + 5", "3+5i", "-(-5)", "5ab", "5x", "5 x", "2(5)", "(2)(5)", "5(x+1)", "5 (x+1)", "(x)5", "5*x", "5 * x",
    "2 · 5",
    "3 x 5", "5\\sqrt{2}", "5 \\cdot 2", "x/5", "5/x", "2x = 5", "5 R 2", "5 remainder 2", "7 mod 5", "5 \\pmod{7}",
    "10 plus 5", "10 divided by 5", "20% of 5", "1/3 of 5", "half of 5", "twice 5", "square root of 5", "5 and a half",
    # several numbers, ranges, dates, times, measures of two parts, labels
    "5 or -5", "5 or 6", "$5$ or $6$", "5\\text{ or }-5", "5 (or 6)", "x = 3 or x = 5", "x = 3, x = 5", "3, 5",
    "(3, 5)",
    "1, 2, ..., 5", "3;5", "3 .. 5", "3-5", "3 to 5", "between 3 and 5", "3 out of 5", "3 : 5", "3 by 5", "3-by-5",
    "2024-05", "2024-05-01", "2024/05/05", "12 May 5", "May 5, 2024", "555-555-5555", "1.2.5", "5 feet 6 inches", "5'6",
    "2 hours and 5 minutes", "5 dollars and 5 cents", "1. Add.\n2. Subtract.\n3. Done.", "Step 5", "5th",
    # approximations, digits that go on, inequalities, other values
    "~5", "~ 5", "≈ 5", "\\approx 5", "\\sim 5", "about 5", "roughly $5", "around 5", "±5", "+/-5", "+/- 5", "\\pm 5",
    "5 \\pm 1", "0.333...", "0.1666…", "0.(3)", "0.1(6)", "0.\\bar{3}", "0.\\dot 3", "0.5 repeating", "5+",
    "5 or more", "5 < x", "5 ≤ x", "more than 5", "less than 5", "not 5", "isn't 5", "5 million", "**5** million",
    "$5M",
    "$5k", "5 squared",
]  # fmt: skip
"""Texts whose last number is a part of what they say."""

CHOSEN = [
    # response, the choice that it decides for
    ("The answer is A.", "A"), ("**B**", "B"), ("Answer: B", "B"), ("(C)", "C"), ("(a)", "A"), ("B) Paris", "B"),
    ("The correct option is (D) because (A) is wrong.", "D"), ("Q: what?\nA: B", "B"), ("I choose B.", "B"),
    ("I'd go with (b).", "B"), ("Option C is correct.", "C"), ("A) London\nB) Paris\nThe answer is B.", "B"),
    ("The answer is **B) Paris**.", "B"), ("So the answer is $\\textbf{(B)}$.", "B"), ("<answer>B</answer>", "B"),
    ('{"answer": "B"}', "B"), ("Therefore, B.", "B"), ("It is B.", "B"), ("It is A. No.\nThe answer is C.", "C"),
    ("B\n\nParis is the capital.", "B"), ("The answer is A, because it is big.", "A"), ("Correct answer - B", "B"),
    ("The correct choice is therefore E.", "E"), ("### Answer\nB", "B"), ("**Answer:** B", "B"), ("Answer B", "B"),
    ("The answer is\n\n**C**", "C"), ("The answer must be A or B. The answer is B.", "B"), ("A is correct.", "A"),
    ("My choice is B, as 5 is too small.", "B"), ("The answer is B, not C.", "B"), ("so \\boxed{B}, not (A)", "B"),
    ("A is wrong, so the answer is B.", "B"), ("A is not prime. Therefore, C.", "C"), ("Not A so C is correct.", "C"),
    ("I'm not sure, but the answer is D.", "D"), ("ANSWER: B", "B"), ("**Answer: (D) 42**", "D"), ("B: Paris", "B"),
    ("#### (C)", "C"), ("#### Final answer\nB", "B"), ("#### B\nAs I said.", "B"), ("#### B) 5", "B"),
    ("The answer is B. Option A is correct for primes, but 9 is not prime.", "B"), ("Ans: D", "D"), ("ans. = (D)", "D"),
    ("Answer: B\n\nExplanation: A is correct only for even n.", "B"), ("Answer: 'B'", "B"), ("It is \"B\".", "B"),
    ("The answer is B. C is right about the date but wrong about the place.", "B"),
    ("The answer is B. Many students think the answer is C.", "B"), ("The answer is B. Tom says it is C.", "B"),
    ("The answer is B. At first sight the answer is C.", "B"), ("At first glance, it is A. The answer is B.", "B"),
    ("The answer is B.\nA would be the answer if x were 3.", "B"), ("B\n\nExplanation: A is correct for even n.", "B"),
    ("The answer is B. The answer is A, if n is even.", "B"), ("Some say the answer is C. It is B.", "B"),
    ("The student claims the answer is C, but this is wrong. The answer is B.", "B"),
    ("**B**\nA is best when wet.", "B"),
    ("The answer is B. It is a common mistake to say that the answer is C.", "B"), ("B is the best answer here.", "B"),
    ("The answer is A. Wait, no: the answer is B.", "B"), ("The correct answer is A. Wait, no: it's B.", "B"),
    ("The correct answer is A... Actually the correct answer is C.", "C"), ("A\n\nWait, no. The answer is B.", "B"),
    ("The answer is A. That is wrong. The answer is B.", "B"), ("A is correct. No, the answer is B.", "B"),
    ("So the answer is A. Let me double-check. 3 is odd, so the answer is B.", "B"),
    ("B is correct, but A is not.", "B"),
    ("The answer is A. Final answer: B", "B"), ("The text says that he left, so the answer is B.", "B"),
    ("Eliminating A, B and D leaves C.", "C"), ("Most likely, I'd go with B.", "B"),
    ("The answer is B.\nWhy? A is 4.", "B"),
    ("The answer is B, if I am not mistaken.", "B"), ("A is correct.\nB is wrong.\nThe answer is A.", "A"),
    ("Thus, (B) is the answer.", "B"), ("B is the answer to the question.", "B"),
    ("#### The answer is C", "C"), ("\\boxed{\\text{(D) } 5}", "D"), ("I would say C.", "C"),
]  # fmt: skip

UNDECIDED = [
    "A dog ran", "The answer is A dog.", "Answer: A dog", "A: Paris", "The answer is A or B.",
    "The answer is (A), (B).",
    "Both A and B are right.", "A and B are correct.", "B or C is correct", "The answer is not A.", "A is not correct.",
    "If the answer is A, we fail.", "The wrong answer is A.", "The answer could be A.", "Is it A? No.",
    "A) London\nB) Paris", "Answer choices: A) London B) Paris", "The answer is A-", "The answer is A.I. research",
    "The answer is I think B", "Vitamin A.", "I got an A.", "A cat. A dog.", "The answer is E.g. this",
    "The answer is B.\nC", "it is (a) x and (b) y", "A is the first letter.", "The answer is A major.", "5",
    "The answer is B. The answer is C.", "Answer: B\n\nExplanation: The answer is C.", "B) 5\n\nIt is (A), then.",
    "The answer is B. For odd n, the answer is A.", "Answer: B\nA is correct.", "It is A. It is B.",
    "The student claims the answer is C, but this is wrong.", "A is correct only for even n.", "Many would pick C.",
    "At first sight the answer is C.", "C is right about the date.", "A is correct, but only for even n.",
    "The answer is C, which is wrong.", "Answer: A' ", "Answer: (A)'", "The answer is A''.", "So (A) fails.",
    "A is the answer, but only for even n.", "Eliminating A and B leaves C or D.", "The answer is (B').",
    "So the answer is A. So it is B.", "Is B correct? A is correct?", "Answer: A′",
    "\\boxed{5} or A", "The answer is 5. A dog ran.", "",
]  # fmt: skip
"""Responses that decide for no choice, or for several."""

BESIDE = [
    # response, right answer, whether it is given: units in prose, case, thoughts, fractions, choices
    ('The answer is 5 km.', '5 m', False), ('The answer is **5 km**.', '5 m', False),
    ('I need 5 minutes', '5 hours', False), ('So she needs 5 gallons', '5 liters', False),
    ('Answer: 5 cm^2', '5 cm', False), ('10 apples', '10%', False), ('$\\boxed{5}$ km', '5 m', False),
    ('\\boxed{5}\\text{ km}', '5 m', False), ('$5$ km', '5 m', False), ('$5$ km', '5 km', True),
    ('It costs $5.', '5 euros', False), ('It costs €5.', '5 euros', True), ('The answer is 5 km/h.', '5 km', False),
    ('The answer is 5 km/h.', '5 km/h', True), ('The answer is 5 km.', '5 km', True),
    ('The answer is 5 kilometers.', '5 km', True), ('The answer is 5.', '5 km', True),
    ('It is 5 in total.', '5 km', True), ('5 red apples', '5 apples', True), ('5 apple pies', '5 apples', False),
    ('5 mg', '5 kg', False), ('\\boxed{5 mW}', '5 MW', False), ('\\boxed{5 Gb}', '5 GB', False),
    ('\\boxed{5 mm}', '5 Mm', False), ('\\boxed{5 mg}', '5 Mg', False), ('\\boxed{5 KM}', '5 km', True),
    ('\\boxed{5 mhz}', '5 mHz', True), ('5 cm^2 it is', '5 cm^2', True), ('50% of them', '50 dollars', False),
    ('<think>\\boxed{5}</think> I do not know', '5', False), ('<think>\\boxed{5}', '5', False),
    ('<think>5</think>\nThe answer is 6.', '6', True), ('[THINK]5[/THINK] none', '5', False), ('at 5pm', '5', False),
    ('at 5 pm', '5 pm', True), ('\\boxed{\\frac{\\pi}{2}}', '\\pi/2', True),
    ('\\boxed{\\frac{x+1}{2}}', '(x+1)/2', True), ('\\boxed{\\frac{x+1}{2}}', 'x+1/2', False),
    ('Option A is wrong, so the answer is B', 'B', True), ('The correct answer is not B, it is C', 'C', True),
    ('If the answer is not B, it is C', 'C', False), ('\\boxed{1010_{2}}', '1010_2', True),
]  # fmt: skip
