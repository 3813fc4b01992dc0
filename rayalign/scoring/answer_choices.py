r"""Multiple choice: which letter an answer, or a whole response, names. Pure.

"(A) 42" ─► A, "42"      "The correct option is (D) because (A) is too small." ─► "D"      "A dog ran." ─► none
"""

# ruff: noqa: RUF001 - dashes that look like others

from __future__ import annotations

import re

from rayalign.scoring.answer_text import ascii_text, one_writing, without_text_commands

_MAX_ANSWER = 400
"""Longer texts are no answers that name a choice."""
_CHOICE = re.compile(
    r"(?:[Oo]ption |[Cc]hoice )?(?:\(([A-Ja-j])\)|([A-J])(?:[):]|\.(?![A-Za-z]\b))|([A-J]))(?(3)|(?: ?(.*))?)",
    re.DOTALL,
)
_OTHER_CHOICE = re.compile(r"\([A-Ja-j]\)|\b[A-J][).:]|^(?:or|and|,|/)|\b[A-J]$")
_MARKS = re.compile(r"\\(?:boxed|fbox)\b|\\[()\[\]]|[*_`$\"{}#>]|(?<=\W)'(?=[(A-J])|(?<=[A-J)])'(?!\w)")
_TAGS = re.compile(r"</?[A-Za-z_]+>")
_ENDS = r"(?=\s*(?:[,;)\]:]|\.(?!\w)|!|$|\s[-–—(]|—)|,?\s+(?:because|since|as|for|which|that|due|given|so)\b)"
"""What may follow a letter that stands alone; a word does not, as after the article in "the answer is A dog"."""
_LETTER = rf"(?:(?:[Oo]ption|[Cc]hoice|[Ll]etter|[Aa]nswer) )?(?:\(([A-Ja-j])\)|([A-J])(?:(?=[).]\s)|{_ENDS}))"
_SURELY = r"(?:(?:indeed|clearly|definitely|therefore|thus|hence|then|simply|most likely|probably)[,:]? |the )*"
_CALLED = r"(?:answer|option|choice|solution|response)"
_STATED = re.compile(
    "|".join(
        (
            # The answer is B. The correct option, therefore, must be (D). It is C.
            rf"(?i:\b(?:{_CALLED}\b[^.\n:?]{{0,40}}?|it|that|this) ?(?:\bis|'s|would be|must be|should be) ?:?) ?"
            rf"(?i:{_SURELY}){_LETTER}",
            # Answer: B
            rf"(?i:\b{_CALLED} ?(?::|=|-|–|—)) ?{_LETTER}",
            # Answer B
            rf"(?m:^)(?i:(?:the )?(?:final |correct )?answer) {_LETTER}(?=\.?(?m:$))",
            # I choose (B)
            rf"(?i:\b(?:would say|'d say|choose|chose|pick|select|go(?:ing)? (?:with|for))) (?:the )?{_LETTER}",
            # Therefore, B.
            rf"(?i:\b(?:so|thus|therefore|hence)[,:]?) {_LETTER}",
            # Option B is correct.
            r"(?:\(([A-Ja-j])\)|\b([A-J]))\)? (?:is|must be|would be) (?:the )?"
            r"(?:only |most )?(?:correct|right|best|appropriate)\b(?! to\b)",
        )
    )
)
_SUPPOSED = re.compile(r"\b(?:if|suppose|assum\w+|whether|unless|either|might|may|could|tempt\w*)\b", re.IGNORECASE)
_DENIED = re.compile(r"n't\b|\b(?:wrong|incorrect|not|never|false)\b", re.IGNORECASE)
_JOINED_BEFORE = re.compile(r"\b[A-J]\)?\s*(?:,|/|&|\bor|\band|\bnor)\s*\(?$")
_LONGEST_SENTENCE = 300
_SENTENCE = re.compile(r"[.!?;\n]\s|,? (?=(?:so|but|hence|thus|therefore)\b)|, (?=(?:it|that|this)(?: is|'s)\b)")
"""Where a sentence ends, or one that follows from it begins."""
_JOINED = re.compile(
    r"[).]?\s*(?:,|/|&|\bor\b|\band\b|\bnor\b)\s*(?:option |choice )?\(?[A-J](?![A-Za-z'])", re.IGNORECASE
)
_REASON = re.compile(r"\b(?:because|since|as|while|whereas)\b")
_LABEL = re.compile(r"\([A-Ja-j]\)|\b[A-J][).]\s")
_SPEAKER = re.compile(r"A:\s*(?=\S)")
"""Before the reply to a question that "Q:" stands before."""


def read_choice(answer: str) -> tuple[str, str] | None:
    r"""The letter of `A`, `(A)`, `A)`, `A.`, `\textbf{(A)}`, `option A`, `(A) 42`, and what follows it."""
    if len(answer) > _MAX_ANSWER:
        return None
    found = _CHOICE.fullmatch(without_text_commands(one_writing(answer)))
    if found is None:
        return None
    bracketed, closed, bare, rest = found.groups()
    rest = (rest or "").strip()
    letter = (bracketed or closed or bare).upper()
    return None if _OTHER_CHOICE.search(rest) else (letter, rest)


def same_choice(found: str, gold: str) -> bool:
    """Whether both name the same choice; beside its letter one of them may also have what it says."""
    one, other = read_choice(found), read_choice(gold)
    return one is not None and other is not None and one[0] == other[0] and not (one[1] and other[1])


def choice_in(response: str) -> str | None:
    """The letter that a response in prose decides for: by the last sentence that says so, or by a line that is a
    choice and nothing else. None where there is none, or where these differ."""
    text = _MARKS.sub("", without_text_commands(_TAGS.sub("\n", ascii_text(response, dashes=False))))
    lines = [re.sub(r"[ \t]+", " ", line).strip() for line in text.split("\n") if line.strip()]
    stated = _stated("\n".join(lines))
    alone = {choice[0] for line in lines if (choice := read_choice(_SPEAKER.sub("", line, count=1)))}
    if stated is not None:
        # Lines that repeat the choices beside what they say decide nothing; a letter at the end does.
        last = read_choice(lines[-1])
        return stated if last is None or last[1] or last[0] == stated else None
    edges = {choice[0] for line in (lines[:1] + lines[-1:]) if (choice := read_choice(_SPEAKER.sub("", line, count=1)))}
    return alone.pop() if len(alone) == 1 and alone == edges else None


def _stated(text: str) -> str | None:
    """The letter of the last sentence that says which choice is right; none if that sentence names a second one."""
    for found in reversed(list(_STATED.finditer(text))):
        near = max(0, found.start() - _LONGEST_SENTENCE)
        ends = (end.end() for end in _SENTENCE.finditer(text, near, found.end()))
        begin = max((end for end in ends if end <= found.start()), default=near)
        if _SUPPOSED.search(text, begin, found.end()) or _DENIED.search(text, _claim(text, begin, found), found.end()):
            continue
        end = _SENTENCE.search(text, found.end() + 1)
        rest = text[found.end() : end.start() if end else len(text)]
        claim = _REASON.split(rest, maxsplit=1)[0]
        joined = _JOINED_BEFORE.search(text, begin, found.start()) or _JOINED.match(rest)
        several = joined or _LABEL.search(claim) or rest.lstrip(" ").startswith("?")
        return None if several else next(group for group in found.groups() if group).upper()
    return None


def _claim(text: str, begin: int, found: re.Match[str]) -> int:
    """Where what says the choice begins: behind "Option A is wrong, so" and "It is not A," of the same sentence."""
    cuts = [end.end() for end in _SENTENCE.finditer(text, found.start(), found.end())]
    again = ((cut, _STATED.search(text, cut)) for cut in reversed(cuts))
    return next((cut for cut, one in again if one is not None and one.end() == found.end()), begin)
