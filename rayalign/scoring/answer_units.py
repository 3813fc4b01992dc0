"""What may stand beside a number without changing its value: units, currencies, words. Pure.

"7 apples" ─► "7", "apple"      "$18" ─► "18", "$"      "5 million", "5x", "7 and 8" stay what they are
"""

from __future__ import annotations

import re

_ALIKE = {
    "$": "dollar dollars usd us$ buck bucks", "€": "euro euros eur", "£": "pound_sterling gbp", "¢": "cent cents",
    "₹": "rupee rupees rs inr", "¥": "yen jpy yuan rmb", "%": "percent per_cent percentage pct",
    "deg": "degree degrees °", "km": "kilometer kilometers kilometre kilometres kms",
    "m": "meter meters metre metres", "cm": "centimeter centimeters centimetre centimetres cms",
    "mm": "millimeter millimeters millimetre millimetres", "in": "inch inches", "ft": "foot feet",
    "yd": "yard yards yds", "mi": "mile miles", "kg": "kilogram kilograms kgs kilo kilos", "g": "gram grams gm",
    "mg": "milligram milligrams", "lb": "pound pounds lbs", "oz": "ounce ounces", "l": "liter liters litre litres L",
    "ml": "milliliter milliliters millilitre millilitres mL", "h": "hour hours hr hrs",
    "min": "minute minutes mins", "s": "second seconds sec secs", "mph": "", "kmh": "km/h kph", "sq": "square",
    "cu": "cubic", "N": "newton newtons", "J": "joule joules", "W": "watt watts", "V": "volt volts",
    "K": "kelvin kelvins", "C": "celsius", "F": "fahrenheit", "am": "", "pm": "",
}  # fmt: skip
_POWERS = {"sq": "^2", "cu": "^3"}
_SPEEDS = {"mi h": "mph", "km h": "kmh"}
_ONE_FORM = {form.replace("_", " "): unit for unit, forms in _ALIKE.items() for form in [unit, *forms.split()]}
_SYMBOLS = "$€£¢₹¥"
_BASES = [
    "m",
    "g",
    "s",
    "A",
    "K",
    "mol",
    "cd",
    "Hz",
    "N",
    "Pa",
    "J",
    "W",
    "C",
    "V",
    "F",
    "ohm",
    "Ω",
    "S",
    "Wb",
    "T",
    "H",
    "lm",
    "lx",
    "Bq",
    "Gy",
    "Sv",
    "L",
    "l",
    "eV",
    "B",
    "b",
    "bit",
    "byte",
    "Wh",
    "t",
    "bar",
    "cal",
]
_SCALED = re.compile(rf"(da|[YZEPTGMKkhdcmuµμnpfazy])?({'|'.join(sorted(_BASES, key=len, reverse=True))})")
_SCALED_OF_LONG = re.compile(
    rf"(da|[YZEPTGMKkhdcmuµμnpfazy])?({'|'.join(base for base in _BASES if len(base) > 1)})", re.IGNORECASE
)
"""Symbols whose letters' case is a part of them, mW and MW; of long ones, the case of the prefix alone."""
_CHANGE = frozenset(
    """
    hundred hundreds thousand thousands million millions billion billions trillion trillions dozen dozens score half
    halves third thirds quarter quarters fourth fourths fifth fifths sixth sixths seventh sevenths eighth eighths
    ninth ninths tenth tenths hundredth hundredths thousandth thousandths pi e i sqrt root roots squared cubed
    factorial mod modulo and or to of plus minus times over divided by than more less not no about approximately
    nearly almost least most between power if when where only log ln sin cos tan exp k bn mn tn double twice triple
    approx approximate around roughly circa recurring repeating remainder choose base binary octal hex hexadecimal
    below under lakh lakhs crore crores gross negative positive one two three four five six seven eight nine ten
    zero
    """.split()  # noqa: SIM905 - a list of as many lines as words says no more
)
"""Words after a number that make another number, several or none of it."""
_LETTERS = frozenset("mgshlLNJWVKCF")
"""Units of one letter; others are variables."""
_MOST_WORDS = 5
_WORD = re.compile(r"[A-Za-zµμΩ]+(?:['-][A-Za-z]+)*\.?")
_AFTER = re.compile(r"(.*?[\d}])( ?)([A-Za-zµμΩ][A-Za-zµμΩ .'/-]*)(\^ ?\{?[23]\}?)?")
_BRACKETED = re.compile(r"(.*[\d}]) \(([A-Za-z][A-Za-z .'/-]*)\)")
_CURRENCY_BEFORE = re.compile(rf"([-+]?) ?([{_SYMBOLS}]|US\$|USD|EUR|GBP|INR|Rs\.?) ?([-+]?[\d.\\].*)")
_SYMBOL_AFTER = re.compile(rf"(.*[\d}}]) ?([{_SYMBOLS}%]|\^\\circ)(?: ?([CF]))?")


def split_unit(text: str) -> tuple[str, str]:
    """A number and the unit before or after it, in one form; the unit is empty where none can be told."""
    if found := _CURRENCY_BEFORE.fullmatch(text):
        sign, symbol, rest = found.groups()
        if not (sign and rest[0] in "+-"):
            number, after = split_unit(rest)
            symbol = _ONE_FORM.get(symbol.rstrip(".").lower(), symbol)
            if not after or after == symbol:
                return sign + number, symbol
        return text, ""
    if found := _SYMBOL_AFTER.fullmatch(text):
        number, symbol, scale = found.groups()
        symbol = "deg" if symbol == r"^\circ" else symbol
        return number.strip(), f"{symbol}{scale or ''}"
    if (found := _BRACKETED.fullmatch(text)) and (len(found.group(2)) > 2 or known(found.group(2))):
        return (found.group(1), unit) if (unit := unit_of(found.group(2))) else (text, "")
    if (found := _AFTER.fullmatch(text)) and (unit := unit_of(found.group(3), attached=not found.group(2))):
        return found.group(1).strip(), unit + plain_power(found.group(4))
    return text, ""


def plain_power(power: str | None) -> str:
    """`^{2}` of a unit as `^2`."""
    return re.sub(r"[{} ]", "", power or "")


def unit_of(text: str, *, attached: bool = False) -> str:
    """The unit that words are, in one form; empty where they are none.

    Args:
        attached: they follow the number without a space, as factors do: then only units that are known count.
    """
    words = [word.rstrip(".") for word in re.split(r"[ /]+", text.strip()) if word]
    if not words or len(words) > _MOST_WORDS or not all(map(_WORD.fullmatch, words)):
        return ""
    if len(words) > 1 and not attached and (whole := _ONE_FORM.get(" ".join(words).lower())):
        return whole
    if attached and (len(words) > 1 or len(words[0]) == 1 or words[0].lower() not in _ONE_FORM):
        return ""
    if any(word.lower() in _CHANGE or (len(word) == 1 and word not in _LETTERS) for word in words):
        return ""
    forms = [_one_form(word) for word in words if word.lower() != "per"]
    for place in range(len(forms) - 1, 0, -1):
        if forms[place - 1] in _POWERS and known(forms[place]):
            forms[place - 1 : place + 1] = [forms[place] + _POWERS[forms[place - 1]]]
    return _SPEEDS.get(joined := " ".join(forms), joined)


def _one_form(word: str) -> str:
    if word in _ONE_FORM:
        return _ONE_FORM[word]
    if found := _SCALED.fullmatch(word):
        prefix, base = found.groups()
        return re.sub("[µμ]", "u", (prefix or "").replace("K", "k")) + base
    if word.lower() in _ONE_FORM:
        return _ONE_FORM[word.lower()]
    if found := _SCALED_OF_LONG.fullmatch(word):
        prefix, base = found.groups()
        canonical = next(one for one in _BASES if one.lower() == base.lower())
        return re.sub("[µμ]", "u", (prefix or "").replace("K", "k")) + canonical
    return _singular(word.lower())


def known(word: str) -> bool:
    """Whether a word is a unit wherever it stands, as apples are not."""
    return word in _ONE_FORM or word.lower() in _ONE_FORM or _SCALED.fullmatch(word) is not None


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
