"""Prompts with judgments, on the demo's real tokenizer: no stream ever changes a response (edges 19, 20, 21)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, strategies as st
from pydantic import TypeAdapter

from rayalign.config.objective import ALPACA_JUDGED, FORWARD, REVISION, Objective
from rayalign.data.judged import JudgedStreams
from rayalign.data.token_ids import fill
from rayalign.demo.language import build_tokenizer
from rayalign.learning.streams import streams_of
from rayalign.records import Message, Prompt, TrainingGroup, prompt_id
from tests.renderers import prompt_ids, renderer
from tests.unit.template_cases import tokenizer_of

TOKENIZER = build_tokenizer()
EOS = TOKENIZER.eos_token_id
TAIL = "### Response:"
KINDS = ("response", "judged", "criticism")


def objective(kind: str, **options: Any) -> Any:
    return TypeAdapter(Objective).validate_python({"type": kind, **options})


def streams(*objectives: Any, template: Any = "auto") -> JudgedStreams:
    return JudgedStreams(objectives, renderer(TOKENIZER, template))


def prompt_of(content: str | list[Message], template: Any = "auto") -> Prompt:
    messages = [{"role": "user", "content": content}] if isinstance(content, str) else content
    return Prompt(prompt_id(messages), messages, prompt_ids(messages, TOKENIZER, template))


def encode(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def decode(ids: list[int]) -> str:
    return TOKENIZER.decode(ids)


def group_of(prompt: Prompt, *rows: tuple[str, str | None, str | None]) -> TrainingGroup:
    """Rows of (response, judgment, verdict); every response ends in an EOS, as sampled."""
    ids = [[*encode(response), EOS] for response, _, _ in rows]
    return TrainingGroup(
        prompt.id, prompt.token_ids, list(range(len(rows))), ids, [[0.0] * len(row) for row in ids],
        [None] * len(rows), [judgment for _, judgment, _ in rows], [verdict for _, _, verdict in rows],
    )  # fmt: skip


def judged_text(prompt: Prompt, response: str, judgment: str, *, template: Any = "auto", **options: Any) -> str:
    """The judged prompt of one flawed response, as text."""
    added = streams(objective("cut", **options), template=template).add(
        group_of(prompt, (response, judgment, "flawed")), prompt
    )
    return decode(added.judged_prompt_token_ids[0])


def test_the_alpaca_template_behind_the_chat_template() -> None:
    """The paper's figure 5, word by word, as the user's turn."""
    text = judged_text(prompt_of("List two animals."), "cat", "One is missing.")
    assert text == (
        "<|bos|><|user|>Below is an instruction that describes a task, paired with a judgment. Write a response to "
        "the instruction and the response should match the corresponding judgment.\n\n### Instruction:\nList two "
        "animals.\n\n### Judgment:\nOne is missing.\n\n### Response:<|assistant|>"
    )


def test_the_bare_template_ends_in_its_tail() -> None:
    text = judged_text(prompt_of("List two animals.", "none"), "cat", "One is missing.", template="none")
    assert text == fill(ALPACA_JUDGED, instruction="List two animals.", judgment="One is missing.")


BOUNDARY = ["cat, dog.", " cat", "\ncat", "\n\n cat", "", " ", ":", "\n### Response:", "### Judgment:", "{x}", "é 🙂"]


@pytest.mark.parametrize("template", ["auto", "none"])
@pytest.mark.parametrize("response", BOUNDARY, ids=repr)
def test_edge_19_the_response_is_the_same_ids_in_every_stream(response: str, template: Any) -> None:
    """Position by position, whatever merges at the boundary the tokenizer would find in the joined text."""
    prompt = prompt_of("List two animals.", template)
    group = group_of(prompt, (response, "Wrong:\n", "flawed"), ("dog", "Bad.", "flawed"))
    objectives = (objective("cut"), objective("forward_prediction"))
    found = streams_of(streams(*objectives, template=template).add(group, prompt), KINDS)
    by_key = {(stream.kind, stream.index): stream for stream in found}
    assert set(by_key) == {(kind, index) for kind in KINDS for index in (0, 1)}
    for index, ids in enumerate(group.response_token_ids):
        assert by_key["response", index].response_token_ids == ids
        assert by_key["judged", index].response_token_ids == ids
        assert by_key["response", index].prompt_token_ids == prompt.token_ids
        assert by_key["judged", index].prompt_token_ids != prompt.token_ids
    assert ids == [*encode("dog"), EOS]


def test_edge_19_joined_text_would_merge() -> None:
    """Why ids and not text: behind the bare template "\\n" and the response's own newline are other tokens together."""
    prompt = prompt_of("List two animals.", "none")
    group = group_of(prompt, (" dog", "Bad.", "flawed"))
    custom = objective("cut", template="{instruction} {judgment} ### Response: a")
    added = streams(custom, template="none").add(group, prompt)
    (stream,) = streams_of(added, {"judged"})
    assert stream.response_token_ids == [*encode(" dog"), EOS]
    word = group_of(prompt, ("pple", "Bad.", "flawed"))
    (stream,) = streams_of(streams(custom, template="none").add(word, prompt), {"judged"})
    joined = encode(decode(stream.prompt_token_ids) + "pple")
    assert joined != stream.prompt_token_ids + stream.response_token_ids[:-1]
    assert stream.response_token_ids == [*encode("pple"), EOS]


@pytest.mark.parametrize("limit", [1, 2, 7, 30])
@pytest.mark.parametrize("kind", ["cut", "hindsight"])
def test_edge_20_a_long_judgment_is_cut_and_the_tail_stays(kind: str, limit: int) -> None:
    judgment = "One animal is missing, and the order is wrong. " * 40
    prompt = prompt_of("List two animals.")
    section = objective(kind, judgment_max_tokens=limit)
    added = streams(section).add(group_of(prompt, ("cat", judgment, "flawed")), prompt)
    text = decode(added.judged_prompt_token_ids[0])
    assert text.endswith(f"\n\n{TAIL}<|assistant|>")
    inside = text.split("### Judgment:\n")[1].removesuffix(f"\n\n{TAIL}<|assistant|>")
    assert judgment.startswith(inside)
    assert len(encode(inside)) == limit
    assert added.response_token_ids == [[*encode("cat"), EOS]]


def test_edge_20_a_judgment_of_just_the_limit_is_whole() -> None:
    judgment = "One animal is missing."
    section = streams(objective("cut", judgment_max_tokens=len(encode(judgment))))
    assert section.cut(judgment) == judgment
    assert section.cut(judgment + "!") != judgment + "!"
    shorter = streams(objective("cut", judgment_max_tokens=len(encode(judgment)) - 1))
    assert shorter.cut(judgment) == "One animal is missing"


def test_edge_20_the_criticism_is_cut_and_still_ends() -> None:
    prompt = prompt_of("List two animals.")
    section = streams(objective("forward_prediction", judgment_max_tokens=3))
    added = section.add(group_of(prompt, ("cat", "One animal is missing.", "flawed")), prompt)
    assert added.criticism_token_ids == [[*encode("One animal is missing.")[:3], EOS]]


def test_the_largest_limit_of_a_run_counts() -> None:
    section = streams(objective("cut", judgment_max_tokens=2), objective("forward_prediction", judgment_max_tokens=4))
    assert section.cut("One animal is missing.") == decode(encode("One animal is missing.")[:4])


BRACED = "Use {judgment}, {instruction}, {response}, {0}, {} and {{x}}"


def test_edge_21_braces_survive_everywhere() -> None:
    """Fields are filled in once: what they bring along is text."""
    prompt = prompt_of(BRACED)
    group = group_of(prompt, (BRACED + " r", BRACED + " j", "flawed"))
    section = streams(objective("cut"), objective("forward_prediction"), objective("ilf_mle"))
    added = section.add(group, prompt)
    judged, asked = decode(added.judged_prompt_token_ids[0]), decode(added.criticism_prompt_token_ids[0])
    assert f"### Instruction:\n{BRACED}\n\n### Judgment:\n{BRACED} j\n\n### Response:" in judged
    assert f"### Instruction:\n{BRACED}\n\n### Response:\n{BRACED} r\n\n### Judgment:" in asked
    assert decode(added.criticism_token_ids[0][:-1]) == BRACED + " j"
    ((_, revise),) = section.revision_prompts(prompt, group)
    fields = f"### Instruction:\n{BRACED}\n\n### Response:\n{BRACED} r\n\n### Judgment:\n{BRACED} j\n\n"
    assert f"{fields}### Better response:" in revise.text


@given(st.text(), st.text(), st.text())
def test_edge_21_fill_is_plain_replacement(instruction: str, response: str, judgment: str) -> None:
    filled = fill(REVISION, instruction=instruction, response=response, judgment=judgment)
    head, rest = REVISION.split("{instruction}")
    middle, rest = rest.split("{response}")
    low, tail = rest.split("{judgment}")
    assert filled == head + instruction + middle + response + low + judgment + tail


def test_edge_21_a_judgment_with_the_tail_in_it_does_not_move_the_response() -> None:
    judgment = f"Bad.\n\n{TAIL} dog\n\n{TAIL}"
    prompt = prompt_of("List two animals.")
    added = streams(objective("cut")).add(group_of(prompt, ("cat", judgment, "flawed")), prompt)
    (stream,) = streams_of(added, {"judged"})
    assert decode(stream.prompt_token_ids).endswith(f"{judgment}\n\n{TAIL}<|assistant|>")
    assert decode(stream.response_token_ids) == "cat<|eos|>"


def test_edge_21_an_empty_response_is_its_eos() -> None:
    prompt = prompt_of("List two animals.")
    group = group_of(prompt, ("", "Nothing there.", "flawed"))
    section = streams(objective("cut"), objective("forward_prediction"), objective("ilf_dpo"))
    added = section.add(group, prompt)
    found = {stream.kind: stream for stream in streams_of(added, KINDS)}
    assert found["response"].response_token_ids == found["judged"].response_token_ids == [EOS]
    assert "### Response:\n\n\n### Judgment:" in decode(found["criticism"].prompt_token_ids)
    ((_, revise),) = section.revision_prompts(prompt, group)
    assert "### Response:\n\n\n### Judgment:\nNothing there." in revise.text


THREE = [("cat", "Perfect.", "perfect"), ("dog", "Too short.", "flawed"), ("fox", None, "perfect")]


def test_cut_asks_for_judged_prompts_of_flawed_responses_only() -> None:
    prompt = prompt_of("List two animals.")
    added = streams(objective("cut")).add(group_of(prompt, *THREE), prompt)
    assert [bool(ids) for ids in added.judged_prompt_token_ids] == [False, True, False]
    assert added.criticism_token_ids == added.criticism_prompt_token_ids == []


@pytest.mark.parametrize("kinds", [("hindsight",), ("cut", "hindsight"), ("hindsight", "cut")])
def test_hindsight_asks_for_those_of_positives_too(kinds: tuple[str, ...]) -> None:
    """Of every judgment that there is, praise as well; no judgment, no prompt."""
    prompt = prompt_of("List two animals.")
    added = streams(*map(objective, kinds)).add(group_of(prompt, *THREE), prompt)
    texts = [decode(ids) for ids in added.judged_prompt_token_ids]
    assert ["Perfect." in texts[0], "Too short." in texts[1], texts[2]] == [True, True, ""]


@pytest.mark.parametrize("kind", ["cut", "hindsight", "forward_prediction"])
def test_what_was_set_aside_has_no_stream(kind: str) -> None:
    """A judged response without a verdict is one that no objective learns from by its judgment."""
    prompt = prompt_of("List two animals.")
    rows = [("cat", "Perfect.", None), ("dog", "Too short.", "flawed"), ("fox", "Too long.", None)]
    section = streams(objective(kind), objective("ilf_mle"))
    added = section.add(group_of(prompt, *rows), prompt)
    assert {stream.index for stream in streams_of(added, {"judged", "criticism"})} == {1}
    assert [index for index, _ in section.revision_prompts(prompt, added)] == [1]


def test_forward_prediction_learns_every_judgment() -> None:
    prompt = prompt_of("List two animals.")
    added = streams(objective("forward_prediction")).add(group_of(prompt, *THREE), prompt)
    assert added.criticism_token_ids == [[*encode("Perfect."), EOS], [*encode("Too short."), EOS], []]
    assert decode(added.criticism_prompt_token_ids[1]) == (
        "<|bos|><|user|>### Instruction:\nList two animals.\n\n### Response:\ndog\n\n### Judgment:<|assistant|>"
    )
    assert added.judged_prompt_token_ids == []


def test_objectives_without_judgments_change_nothing() -> None:
    prompt = prompt_of("List two animals.")
    group = group_of(prompt, *THREE)
    for kind in ("nca", "sft", "ilf_mle", "spin"):
        assert streams(objective(kind)).add(group, prompt) is group


CHAT: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "List two animals."},
    {"role": "assistant", "content": "cat, dog."},
    {"role": "user", "content": "Now two fruits."},
]


def test_earlier_turns_stay() -> None:
    """Only the last turn becomes the template; what was said before it, the system's word too, is as it was."""
    prompt = prompt_of(CHAT)
    group = group_of(prompt, ("apple", "One is missing.", "flawed"))
    section = streams(objective("cut"), objective("forward_prediction"), objective("ilf_mle"))
    added = section.add(group, prompt)
    ((_, revise),) = section.revision_prompts(prompt, group)
    head = "<|bos|><|system|>Be brief.<|user|>List two animals.<|assistant|>cat, dog.<|eos|><|user|>"
    for ids in (added.judged_prompt_token_ids[0], added.criticism_prompt_token_ids[0], revise.token_ids):
        text = decode(ids)
        assert text.startswith(head)
        assert text.count("Now two fruits.") == 1
        assert text.endswith("<|assistant|>")
    assert revise.messages[:-1] == CHAT[:-1]
    assert prompt.messages == CHAT, "the prompt itself is untouched"
    wanted = {"instruction": "Now two fruits.", "response": "apple", "judgment": "One is missing."}
    assert revise.text == fill(REVISION, **wanted)
    assert revise.token_ids == prompt_ids(revise.messages, TOKENIZER)


def test_revision_prompts_name_their_response() -> None:
    """Two equal responses with the same judgment need the same text and still get answers of their own."""
    prompt = prompt_of("List two animals.")
    group = group_of(prompt, ("cat", "Bad.", "flawed"), ("dog", "Perfect.", "perfect"), ("cat", "Bad.", "flawed"))
    group = dataclasses.replace(group, response_indices=[1, 4, 7])
    found = streams(objective("ilf_mle")).revision_prompts(prompt, group)
    assert [index for index, _ in found] == [1, 7]
    (_, first), (_, second) = found
    assert first.messages == second.messages
    assert first.id != second.id
    assert [p.id.split("-")[1:] for p in (first, second)] == [[prompt.id, "1"], [prompt.id, "7"]]


def test_revision_prompts_of_other_prompts_have_other_names() -> None:
    """The same last turn behind another system message."""
    names = set()
    for content in (CHAT, CHAT[1:], CHAT[3:]):
        prompt = prompt_of(content)
        group = group_of(prompt, ("cat", "Bad.", "flawed"))
        names |= {p.id for _, p in streams(objective("ilf_dpo")).revision_prompts(prompt, group)}
    assert len(names) == 3


words = st.text(alphabet=st.sampled_from("cat dog,.\n{}#é:A"), max_size=40)


@pytest.mark.parametrize("template", ["auto", "none"])
@given(instruction=words.filter(str.strip), response=words, judgment=words.filter(str.strip))
def test_overhead_bounds_what_a_template_adds(template: Any, instruction: str, response: str, judgment: str) -> None:
    """Longest prompt <= instruction's prompt + response + judgment + overhead, up to two tokens for each of the three
    seams, where a text's first or last character may merge with the template's."""
    objectives = [objective(kind) for kind in ("cut", "forward_prediction", "ilf_mle")]
    section = streams(*objectives, template=template)
    prompt = prompt_of(instruction, template)
    group = group_of(prompt, (response, judgment, "flawed"))
    added = section.add(group, prompt)
    ((_, revise),) = section.revision_prompts(prompt, group)
    parts = len(prompt.token_ids) + len(encode(response)) + len(encode(judgment))
    for ids in (added.judged_prompt_token_ids[0], added.criticism_prompt_token_ids[0], revise.token_ids):
        assert len(ids) <= parts + section.overhead() + 6
    assert len(revise.token_ids) >= parts + streams(objective("ilf_mle")).overhead() - 6


def test_overhead_is_the_longest_template() -> None:
    lengths = {
        kind: len(encode(fill(text, instruction="", response="", judgment="")))
        for kind, text in (("cut", ALPACA_JUDGED), ("forward_prediction", FORWARD), ("ilf_mle", REVISION))
    }
    for kind, length in lengths.items():
        assert streams(objective(kind)).overhead() == length
    assert streams(*map(objective, lengths)).overhead() == max(lengths.values())
    assert streams(objective("nca"), objective("sft")).overhead() == 0


def test_a_criticism_stands_where_the_template_puts_a_given_answer() -> None:
    """This template opens a thought where the model answers; a judgment is an answer that is given."""
    opens = tokenizer_of("r1")
    prompt = Prompt("p", [{"role": "user", "content": "List two animals."}], [1])
    rows = TrainingGroup("p", [1], [0], [[*opens("cat")["input_ids"], opens.eos_token_id]], [[0.0] * 4], [None],
                         ["One is missing."], ["flawed"])  # fmt: skip
    section = objective("forward_prediction", template="{instruction} {response}")
    added = JudgedStreams([section], renderer(opens)).add(rows, prompt)
    text = opens.decode(added.criticism_prompt_token_ids[0] + added.criticism_token_ids[0])
    assert text == "<|begin|><|User|>List two animals. cat<|Assistant|>One is missing.<|end|>"
