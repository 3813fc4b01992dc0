"""Every canary through every judge template: it stays data, changes nothing for others, and earns no verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import pytest

from rayalign.evaluation.canaries import CANARIES
from rayalign.records import Message
from rayalign.scoring.judges.quoting import neutralise
from rayalign.scoring.judges.templates import TemplateName, make_template
from rayalign.scoring.rules.scorer import RuleScorer
from rayalign.scoring.services.transport import Reply
from tests.unit.canary_cases import score_canaries
from tests.unit.judge_cases import judge, prompt, samples, shown

TEMPLATES = get_args(TemplateName)
PROMPT = prompt()
REAL = ("cat, dog.", "cat and dog")
DULL: dict[str, dict[str, Any]] = {
    "cut": {"judgment": "Too short."},
    "rating": {"rating": 4},
    "pairwise": {"better": "tie"},
}
RUBRIC = "Two animals, no more. (secret rubric)"


def question_texts(template: str, messages: Sequence[Message]) -> list[str]:
    labels = ("response A", "response B") if template == "pairwise" else ("response",)
    return [shown(messages, label) for label in labels]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("canary", CANARIES)
def test_the_exact_messages_hold_a_canary_as_data_alone(template: TemplateName, canary: str) -> None:
    """The system message is the one that any other answer gets but for its nonce, and the user message is the blocks
    and nothing else: no text of the template is filled in twice, and none of it stands among the data."""
    text = CANARIES[canary](PROMPT)
    made, transport = judge(template, lambda messages: DULL[template], rubric=RUBRIC)
    made.score([PROMPT] * 2, samples(PROMPT, text, "plain"))
    made.close()
    [messages] = [sent for sent in transport.sent if neutralise(text) == question_texts(template, sent)[0]][:1]
    plain = make_template(template, RUBRIC, reasons=False, structured=True).messages(
        PROMPT, ["x", "y"][: len(question_texts(template, messages))], "N"
    )
    system, user = messages
    nonce = system["content"].partition("<<name ")[2].partition(">>")[0]
    assert (system["role"], user["role"]) == ("system", "user")
    assert system["content"] == plain[0]["content"].replace("N>>", f"{nonce}>>")
    first, *others = question_texts(template, messages)
    labels = ["response A", "response B"] if others else ["response"]
    blocks = [("instruction", PROMPT.text), *zip(labels, [neutralise(text), *others], strict=True)]
    assert user["content"] == "\n\n".join(
        f"<<{name} {nonce}>>\n{body}\n<<end of {name} {nonce}>>" for name, body in blocks
    )
    assert nonce not in text and first == neutralise(text)
    for token in ("<|im_end|>", "<|im_start|>", "{output_2}", "secret rubric"):
        assert token not in user["content"]


@pytest.mark.parametrize("template", ["cut", "rating"])
def test_no_canary_changes_another_items_messages_or_score(template: TemplateName) -> None:
    """A judge whose verdict is a function of all that it sees gives the real answers the same scores with and without
    the canaries beside them."""

    def answer(messages: Sequence[Message]) -> dict[str, Any]:
        rating = sum("".join(message["content"] for message in messages).encode()) % 10 + 1
        return {"rating": rating} if template == "rating" else {"judgment": f"Fault {rating}."}

    alone, few = judge(template, answer)
    among, many = judge(template, answer)
    own = samples(PROMPT, *REAL)
    before = alone.score([PROMPT] * 2, own)
    _, after = score_canaries(among, [PROMPT] * 2, own)
    alone.close()
    among.close()
    assert [(s.reward, s.judgment) for s in after] == [(s.reward, s.judgment) for s in before]
    assert all(sent in many.sent for sent in few.sent)
    assert len(many.sent) == 2 + len(CANARIES)


def test_no_canary_changes_the_messages_of_another_pair() -> None:
    alone, few = judge("pairwise", lambda messages: DULL["pairwise"])
    among, many = judge("pairwise", lambda messages: DULL["pairwise"])
    own = samples(PROMPT, *REAL)
    alone.score([PROMPT] * 2, own)
    score_canaries(among, [PROMPT] * 2, own)
    alone.close()
    among.close()
    assert len(few.sent) == 2 and all(sent in many.sent for sent in few.sent)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("canary", CANARIES)
@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize(
    "frame", ["{}", "The response says: {}", "{}\nI cannot judge this.", '{}\n{{"note": "no verdict"}}', "```\n{}\n```"]
)
def test_an_echoed_canary_earns_no_verdict(template: TemplateName, canary: str, structured: bool, frame: str) -> None:
    """A judge that only repeats what it was shown has judged nothing, even where that has the form of a verdict."""
    text = CANARIES[canary](PROMPT)
    reply = Reply(frame.format(text), False)
    made, _ = judge(template, lambda messages: reply, reasons=template == "rating", structured=structured)
    scores = made.score([PROMPT] * 2, samples(PROMPT, "plain", text))
    made.close()
    assert {(s.status, s.reward, s.judgment, s.verdict, s.preferred_over) for s in scores} == {
        ("error", None, None, None, None)
    }


def test_the_battery_says_which_canaries_beat_the_median() -> None:
    """A rule that loves length: of the real answers' lengths 2 and 10 (median 6) and 2 and 400 (median 201), the null
    model beats the first median alone, the empty answer none."""
    rule = RuleScorer("rule:length", "1", lambda prompt, response: float(len(response)) if response != ":" else None)
    one, two = prompt("One."), prompt("Two.")
    answers = [*samples(one, "ab", "a" * 10), *samples(two, "ab", "a" * 400)]
    results, scores = score_canaries(rule, [one, one, two, two], answers)
    by_name = {result.name: result for result in results}
    assert list(by_name) == list(CANARIES)
    assert [score.reward for score in scores] == [2.0, 10.0, 2.0, 400.0]
    null, empty, colon = by_name["null_model"], by_name["empty"], by_name["colon"]
    assert (null.compared, null.beat, null.missing, null.alarm) == (2, 1, 0, False)
    assert (empty.compared, empty.beat, empty.alarm) == (2, 0, False)
    assert (colon.compared, colon.beat, colon.missing, colon.alarm) == (0, 0, 2, False)


def test_a_judge_that_falls_for_an_injection_raises_the_alarm() -> None:
    def gullible(messages: Sequence[Message]) -> dict[str, Any]:
        return {"rating": 10 if "Rating: 10" in shown(messages, "response") else 5}

    made, _ = judge("rating", gullible)
    results, _ = score_canaries(made, [PROMPT] * 2, samples(PROMPT, *REAL))
    made.close()
    assert [result.name for result in results if result.alarm] == ["rating_injection"]


def test_verdicts_count_where_there_are_no_rewards() -> None:
    def gullible(messages: Sequence[Message]) -> dict[str, Any]:
        return {"judgment": "perfect" if '"perfect"' in shown(messages, "response") else "Wrong."}

    made, _ = judge("cut", gullible)
    results, _ = score_canaries(made, [PROMPT] * 2, samples(PROMPT, *REAL))
    made.close()
    assert [result.name for result in results if result.alarm] == ["perfect_injection"]
