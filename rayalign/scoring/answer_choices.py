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
    r"(?:[Oo]ption |[Cc]hoice )?(?:\(([A-Ja-j])\)(?!')|([A-J])(?:[):]|\.(?![A-Za-z]\b))|([A-J]))(?(3)|(?: ?(.*))?)",
    re.DOTALL,
)
_OTHER_CHOICE = re.compile(r"\([A-Ja-j]\)|\b[A-J][).:]|^(?:or|and|,|/)|\b[A-J]$")
_MARKS = re.compile(r"\\(?:boxed|fbox)\b|\\[()\[\]]|[*_`${}#>]")
_QUOTED = (re.compile(r"(?<![\w)])'([^'\n]{1,200})'(?!\w)"), re.compile(r"(?<![\w)])\"([^\"\n]{1,200})\"(?!\w)"))
"""A mark that nothing opens is a prime: A' is no A."""
_TAGS = re.compile(r"</?[A-Za-z_]+>")
_ENDS = r"(?=\s*(?:[,;)\]:]|\.(?!\w)|!|$|\s[-–—(]|—)|[ \t]*\n|,?\s+(?:because|since|as|for|which|that|due|given|so)\b)"
"""What may follow a letter that stands alone; a word does not, as after the article in "the answer is A dog"."""
_LETTER = rf"(?:(?:[Oo]ption|[Cc]hoice|[Ll]etter|[Aa]nswer) )?(?:\(([A-Ja-j])\)(?!')|([A-J])(?:(?=[).]\s)|{_ENDS}))"
_SURELY = r"(?:(?:indeed|clearly|definitely|therefore|thus|hence|then|simply|most likely|probably)[,:]? |the )*"
_CALLED = r"(?:answer|option|choice|solution|response)"
_RIGHT = r"(?:is|must be|would be) (?:the )?(?:only |most )?(?:correct|right|best|appropriate|answer)"
_STATED = re.compile(
    "|".join(
        (
            # The answer is B. The correct option, therefore, must be (D). It is C.
            rf"(?i:\b(?:{_CALLED}\b[^.\n:?]{{0,40}}?|it|that|this) ?(?:\bis|'s|would be|must be|should be) ?:?) ?"
            rf"(?i:{_SURELY}){_LETTER}",
            # Answer: B
            rf"(?i:\b(?:{_CALLED}|ans\.?) ?(?::|=|-|–|—)) ?{_LETTER}",
            # Answer B
            rf"(?m:^)(?i:(?:the )?(?:final |correct )?answer) {_LETTER}(?=\.?(?m:$))",
            # I choose (B)
            rf"(?i:\b(?:would say|'d say|choose|chose|pick|select|go(?:ing)? (?:with|for))) (?:the )?{_LETTER}",
            # Therefore, B.
            rf"(?i:\b(?:so|thus|therefore|hence)[,:]?) {_LETTER}(?! (?!{_RIGHT}|because|since|as\b)[a-z])",
            # Eliminating A and B leaves C.
            rf"(?i:\b(?:eliminat|exclud|reject|rul|cross)\w*\b[^.\n:?]{{1,60}}? leav(?:es|ing)(?: only| us with)?) "
            rf"{_LETTER}",
            # Option B is correct.
            rf"(?:\(([A-Ja-j])\)|\b([A-J]))\)? {_RIGHT}\b(?: {_CALLED}| one)?"
            r"(?=\s*(?:[,;)\]:!?]|\.(?!\w)|$|\s[-–—(]|—)|\n|,? (?:because|since|as|given|so|here|among|of"
            r"|(?:to|for) (?:the|this) (?:question|problem))\b)",
        )
    )
)
_SUPPOSED = re.compile(r"\b(?:if|suppose|assum\w+|whether|unless|either|might|may|could|tempt\w*)\b", re.IGNORECASE)
_DENIED = re.compile(r"n't\b|\b(?:wrong|incorrect|not|never|false)\b", re.IGNORECASE)
_JOINED_BEFORE = re.compile(r"\b[A-J]\)?\s*(?:,|/|&|\bor|\band|\bnor)\s*\(?$")
_FIRM = re.compile(rf"\b(?:{_CALLED}|ans|say|choose|chose|pick|select|go|going)\b", re.IGNORECASE)
"""What a statement says that is about the answer itself, as "it is C" and "C is correct" need not be."""
_OPINES = r"(?:think|believe|say|claim|argue|guess|conclude|assume|answer|pick|choose|chose|select|go (?:with|for))"
_OF_OTHERS = re.compile(
    r"\b(?:thinks|believes|says|claims|argues|guesses|assumes|concludes|answers|(?<!\bI )(?:said|thought)|believed"
    r"|claimed|argued|guessed|concluded)\b"
    r"|\b(?:students?|people|many|most(?! likely)|some(?:one|body)?|others?|they|you|one|he|she"
    rf"|readers?|beginners?|learners?|candidates?)\b(?:(?!\b(?:I|we)\b)[^.\n]){{0,40}}?\b{_OPINES}\b"
    rf"|\b(?:so|and|thus|therefore|hence) (?!answer|choose|pick|select){_OPINES}\b"
    r"|\bat first\b|\bfirst (?:sight|glance|thought|look)\b|\b(?:initially|naive(?:ly)?|otherwise|mistakes?|mistakenly"
    r"|trap|distractor|misconception|fallacy)\b",
    re.IGNORECASE,
)
"""What others hold for the answer, or what it looks like before a closer look."""
_LIMITED = re.compile(
    r"[).]?,? (?:but )?(?:only|if(?! I\b)|when|unless|provided|assuming|except|under|in (?:that|the|this) case"
    r"|as (?:far|long))\b"
)
_PARTLY = re.compile(
    r"\b(?:only|though|although|however|if|when|unless|except|partly|as (?:far|long)|in (?:some|part))\b"
    r"|\bbut(?! not\b| (?:option )?\(?[A-J]\)? is(?:n't| not| wrong| incorrect| false)\b)"
)
"""What makes "A is correct" a remark about A, and no answer."""
_TAKEN_BACK = re.compile(
    r"[).,;]*\s*(?:(?:but|yet|and|however),? )?(?:this|that|it|which)(?:'s| is| was| would be) (?:\w+ly )?"
    r"(?:not (?:right|correct|true|the case)|wrong|incorrect|false|a mistake)\b",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r"\b(?:wait|no|oops|sorry|hmm|correction)\b(?= ?[,.:;!–—-]| no\b)|(?:^|[.!?;:,\n]\s*|\bbut )actually\b"
    r"|\bI (?:was wrong|meant|made a mistake)\b|\bmy mistake\b|\bscratch that\b|\bon second thoughts?\b"
    r"|\b(?:that|this) (?:is|was) (?:wrong|not right|incorrect)\b|\bfinal (?:answer|choice)\b|\blet(?: me|'s| us) "
    r"(?:double.?check|correct|re-?(?:check|consider|do|calculate|compute|evaluate|think|examine|read|vise))",
    re.IGNORECASE,
)
"""What lets a later statement stand in place of an earlier one."""
_LONGEST_SENTENCE = 300
_SENTENCE = re.compile(r"[.!?;\n]\s|,? (?=(?:so|but|hence|thus|therefore)\b)|, (?=(?:it|that|this)(?: is|'s)\b)")
"""Where a sentence ends, or one that follows from it begins."""
_FULL_STOP = re.compile(r"[.!?;\n](?!\w)")
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
    """The letter that a response in prose decides for: by the sentences that say so, or by a line that is a
    choice and nothing else. None where there is none, or where these differ and none corrects the others."""
    text = _MARKS.sub("", without_text_commands(_TAGS.sub("\n", ascii_text(response, dashes=False))))
    for quoted in _QUOTED:
        text = quoted.sub(r"\1", text)
    lines = [re.sub(r"[ \t]+", " ", line).strip() for line in text.split("\n") if line.strip()]
    choices = [read_choice(_SPEAKER.sub("", line, count=1)) for line in lines]
    alone = {choice[0] for choice in choices if choice}
    first = choices[0] if lines else None
    opening = first[0] if first and (len(alone) == 1 or not first[1]) else None
    said = _statements("\n".join(lines))
    if said:
        # Lines that repeat the choices beside what they say decide nothing; a letter at the end does.
        stated, last = _decided("\n".join(lines), said, opening), read_choice(lines[-1])
        return stated if last is None or last[1] or last[0] == stated else None
    edges = {choice[0] for choice in (choices[:1] + choices[-1:]) if choice}
    return alone.pop() if len(alone) == 1 and alone == edges else None


def _statements(text: str) -> list[tuple[re.Match[str], str | None]]:
    """The sentences that say which choice is right, and its letter; none where a sentence names a second one."""
    statements: list[tuple[re.Match[str], str | None]] = []
    for found in _STATED.finditer(text):
        near = max(0, found.start() - _LONGEST_SENTENCE)
        ends = [end.end() for end in _SENTENCE.finditer(text, near, found.end())]
        begin = max((end for end in ends if end <= found.start()), default=near)
        end = _SENTENCE.search(text, found.end() + 1, found.end() + _LONGEST_SENTENCE)
        rest = text[found.end() : end.start() if end else found.end() + _LONGEST_SENTENCE]
        if _SUPPOSED.search(text, begin, found.end()) or _DENIED.search(text, _claim(text, begin, found), found.end()):
            continue
        if _is_a_remark(text, begin, found, rest):
            continue
        claim = _REASON.split(rest, maxsplit=1)[0]
        joined = _JOINED_BEFORE.search(text, begin, found.start()) or _JOINED.match(rest)
        letter = next(group for group in found.groups() if group).upper()
        statements.append((found, None if joined or _LABEL.search(claim) else letter))
    return statements


def _is_a_remark(text: str, begin: int, found: re.Match[str], rest: str) -> bool:
    """Whether a statement is asked, taken back, true in a case only, or what others say."""
    whole = _FULL_STOP.split(text[found.end() : found.end() + _LONGEST_SENTENCE], maxsplit=1)[0]
    partly = not _FIRM.search(found.group()) and _PARTLY.search(_REASON.split(whole, maxsplit=1)[0])
    return bool(
        partly
        or rest.lstrip(" ").startswith("?")
        or _LIMITED.match(text, found.end())
        or _TAKEN_BACK.match(text, found.end())
        or _OF_OTHERS.search(text, begin, found.end())
    )


def _decided(text: str, said: list[tuple[re.Match[str], str | None]], opening: str | None) -> str | None:
    """The letter that the statements agree on: a firm one stands before others, a correction before what it corrects;
    none where they differ otherwise.

    Args:
        opening: the letter that is the first line.
    """
    letter, rank, last = opening, 2 if opening else -1, 0
    for found, stated in said:
        now = 0 if stated is None else 2 if _FIRM.search(found.group()) else 1
        if now > rank or (stated and stated != letter and _CORRECTION.search(text, last, found.end())):
            letter, rank = stated, now
        elif stated != letter:
            letter = None
        last = found.end()
    return letter


def _claim(text: str, begin: int, found: re.Match[str]) -> int:
    """Where what says the choice begins: behind "Option A is wrong, so" and "It is not A," of the same sentence."""
    cuts = [end.end() for end in _SENTENCE.finditer(text, found.start(), found.end())]
    again = ((cut, _STATED.search(text, cut)) for cut in reversed(cuts))
    return next((cut for cut, one in again if one is not None and one.end() == found.end()), begin)
