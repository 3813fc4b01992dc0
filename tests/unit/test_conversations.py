"""Conversations of other tools' datasets: what is part of one is read as such, and what cannot be kept is counted."""

from __future__ import annotations

from typing import Any

import pytest

from rayalign.data.dataset import BadRow, Completion, DatasetRow
from rayalign.data.formats import FORMATS, detect, read_record
from rayalign.data.prompts import rows_from_records
from rayalign.errors import DataError
from tests.unit.format_cases import CAR, COD, FISH, HH, PAIR, TWO, assistant, user

FRENCH = {"role": "system", "content": "Answer in French."}
RAIN = [user("Describe rain."), assistant("Wet.")]
SIDES = {"chosen": COD, "rejected": CAR}
CHATS = {"chosen": [user(FISH), assistant(COD)], "rejected": [user(FISH), assistant(CAR)]}


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


def gpt(text: str, **more: Any) -> dict[str, Any]:
    return {"from": "gpt", "value": text, **more}


def read(record: dict[str, Any], format: str | None = None) -> DatasetRow | BadRow:
    """Through the format that is named, else the one that is told."""
    ((_, row),) = read_record(record, "row 1", FORMATS[format or detect([record], "here").format])
    return row


PAIRS: list[tuple[dict[str, Any], list[dict[str, str]]]] = [
    ({"instruction": "Translate:", "input": "cat", **SIDES}, [user("Translate:\ncat")]),
    ({"instruction": FISH, "input": "", **SIDES}, [user(FISH)]),
    ({"question": FISH, "system": "Answer in French.", **SIDES}, [FRENCH, user(FISH)]),
    ({"question": FISH, "system": "", **SIDES}, [user(FISH)]),
    ({"question": FISH, "system_prompt": "Answer in French.", "system": None, **SIDES}, [FRENCH, user(FISH)]),
    ({"query": FISH, **SIDES}, [user(FISH)]),
    ({"prompt": None, "question": FISH, "messages": None, **SIDES}, [user(FISH)]),
    ({"input": FISH, "system": "Answer in French.", **SIDES}, [FRENCH, user(FISH)]),
    ({"prompt": FISH, "history": [["Describe rain.", "Wet."]], **SIDES}, [*RAIN, user(FISH)]),
    ({"prompt": [FRENCH, user(FISH)], **CHATS}, [FRENCH, user(FISH)]),
    ({"prompt": FISH, "system": "Answer in French.", **CHATS}, [FRENCH, user(FISH)]),
    ({"system": "Answer in French.", **CHATS}, [FRENCH, user(FISH)]),
    ({"prompt": [FRENCH, *RAIN, user(FISH)], **CHATS}, [FRENCH, *RAIN, user(FISH)]),
    (
        {"prompt": [FRENCH, user("Hi")], "chosen": [*TWO, assistant(COD)], "rejected": [*TWO, assistant(CAR)]},
        [FRENCH, *TWO],
    ),
    (
        {
            "prompt": [user("Hi")], "chosen": [*TWO[1:], assistant(COD)], "rejected": [*TWO[1:], assistant(CAR)]
        },
        TWO,
    ),
    ({"prompt": FISH, "chosen": [*TWO, assistant(COD)], "rejected": [*TWO, assistant(CAR)]}, TWO),
    (
        {"conversations": [human(FISH)], "chosen": gpt(COD), "rejected": gpt(CAR), "system": "Answer in French."},
        [FRENCH, user(FISH)],
    ),
    ({"messages": [user(FISH)], "chosen": assistant(COD), "rejected": assistant(CAR)}, [user(FISH)]),
    ({"messages": [FRENCH, user(FISH), assistant(COD)], **SIDES}, [FRENCH, user(FISH)]),
    ({"chosen": f"{HH} {COD}", "rejected": f"{HH} {CAR}", "system": "Answer in French."}, [FRENCH, *TWO]),
]  # fmt: skip


@pytest.mark.parametrize(("record", "messages"), PAIRS)
def test_the_prompt_of_a_pair_is_what_the_row_names(record: dict[str, Any], messages: list[dict[str, str]]) -> None:
    row = read(record)
    assert isinstance(row, DatasetRow), row
    assert (row.messages, row.completions) == (messages, PAIR)
    assert set(row.metadata.values()) <= {None}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"system": "Be brief.", "chosen": "It is a", "rejected": "It is b"}, "no prompt beside system"),
        ({"history": [["a", "b"]], "chosen": "It is a", "rejected": "It is b"}, "no prompt beside history"),
        ({"context": "The sky.", "chosen": "It is a", "rejected": "It is b"}, "no prompt beside context"),
        ({"question": "", "chosen": "It is a", "rejected": "It is b"}, "blank prompt"),
        ({"prompt": [FRENCH, user("Hi")], **CHATS}, "chosen answers another conversation than the prompt"),
        ({"prompt": "Hi", "instruction": "Sing.", **SIDES}, "instruction says something else than the prompt"),
        ({"prompt": FISH, "messages": [FRENCH, user(FISH)], **SIDES}, "messages says something else than the prompt"),
        ({"prompt": [FRENCH, user(FISH)], "system": "Sing.", **SIDES},
         "system is not the system turn that the row has already"),
        ({"prompt": FISH, "system": "Sing.", "system_prompt": "Talk.", **SIDES},
         "system_prompt is not the system turn that the row has already"),
        ({"prompt": FISH, "system": 3, **SIDES}, "system is not text"),
        ({"prompt": FISH, "history": "see above", **SIDES}, "history is not a list of pairs of texts"),
        ({"prompt": FISH, "history": [["a", None]], **SIDES}, "history is not a list of pairs of texts"),
        ({"instruction": "Add.", "input": [1, 2], "output": "3"}, "input is not text"),
        ({"instruction": "Answer.", "question": "Why?", "output": "So."},
         "question says something else than the prompt"),
    ],
)  # fmt: skip
def test_a_row_whose_conversation_cannot_be_told_is_counted(record: dict[str, Any], reason: str) -> None:
    row = read(record)
    assert isinstance(row, BadRow)
    assert (row.reason, row.found) == (reason, "")


def test_a_field_that_repeats_the_prompt_stays_metadata() -> None:
    row = read({"prompt": "### Question\nWhy?\n", "question": "Why?", "messages": [user("Why?")], "output": "So."})
    assert isinstance(row, DatasetRow)
    assert row.messages == [user("Why?")]
    assert row.metadata == {"prompt": "### Question\nWhy?\n", "question": "Why?"}


def test_a_named_field_is_the_prompt_whatever_others_say() -> None:
    (row,) = rows_from_records([{"question": "Why?", "prompt": "no", "system": "Sing."}], "here", "question").rows
    assert row.messages == [{"role": "system", "content": "Sing."}, user("Why?")]
    assert row.metadata == {"prompt": "no"}


TARGETS: list[tuple[dict[str, Any], list[dict[str, str]]]] = [
    ({"instruction": FISH, "input": "", "output": COD, "system": "Answer in French.", "history": []},
     [FRENCH, user(FISH)]),
    ({"instruction": FISH, "output": COD, "system": "Answer in French.", "history": [["Describe rain.", "Wet."]]},
     [FRENCH, *RAIN, user(FISH)]),
    ({"prompt": FISH, "output": COD, "history": RAIN}, [*RAIN, user(FISH)]),
    ({"messages": [*RAIN, user(FISH), assistant(COD)], "history": [["Describe rain.", "Wet."]]}, [*RAIN, user(FISH)]),
    ({"messages": [FRENCH, user(FISH), assistant(COD)], "system": "Answer in French. "}, [FRENCH, user(FISH)]),
    ({"system_prompt": "Answer in French.", "question": FISH, "response": COD}, [FRENCH, user(FISH)]),
    ({"conversations": [{"from": "system", "value": "Answer in French."}, human(FISH), gpt(COD)]},
     [FRENCH, user(FISH)]),
    ({"conversations": [human(FISH), gpt(COD, weight=1)], "system": "Answer in French."}, [FRENCH, user(FISH)]),
    ({"messages": None, "conversations": [human(FISH), gpt(COD)]}, [user(FISH)]),
    ({"messages": None, "prompt": FISH, "response": COD}, [user(FISH)]),
    ({"conversations": None, "instruction": FISH, "input": "", "output": COD}, [user(FISH)]),
    ({"system_message": "Answer in French.", "prompt": FISH, "response": COD}, [FRENCH, user(FISH)]),
    ({"conversation": [user(FISH), {"role": "Assistant", "content": COD}]}, [user(FISH)]),
    ({"messages": [{"role": "developer", "content": "Answer in French."}, user(FISH), assistant(COD)]},
     [FRENCH, user(FISH)]),
    ({"messages": [user(FISH), {"role": "assistant", "content": COD, "tool_calls": None, "weight": 1.0}], "tools": []},
     [user(FISH)]),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Name"}, {"type": "text", "text": "a fish."}]},
                   assistant(COD)], "tools": "[]"}, [user("Name\na fish.")]),
    ({"prompt": [user("Hi")], "completion": [assistant("Hello"), user(FISH), assistant(COD)]}, TWO),
    ({"prompt": {"role": "user", "content": FISH}, "response": {"role": "assistant", "content": COD}}, [user(FISH)]),
]  # fmt: skip


@pytest.mark.parametrize(("record", "messages"), TARGETS)
def test_answers_stand_behind_the_whole_conversation(record: dict[str, Any], messages: list[dict[str, str]]) -> None:
    row = read(record)
    assert isinstance(row, DatasetRow), row
    assert (row.messages, row.target) == (messages, COD)
    assert [value for key, value in row.metadata.items() if key != "tools" and value is not None] == []


CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
TEXT_ONLY, TEXTS = "and only its text can be kept", "and only texts can be kept"


@pytest.mark.parametrize(
    ("turn", "more", "reason"),
    [
        ({"role": "assistant", "content": "", "tool_calls": [CALL]}, {}, f"a message has tool_calls, {TEXT_ONLY}"),
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, {}, f"a message has tool_calls, {TEXT_ONLY}"),
        ({"role": "assistant", "tool_calls": [CALL]}, {}, f"a message has tool_calls, {TEXT_ONLY}"),
        ({"role": "assistant", "content": "", "function_call": {"name": "x"}}, {},
         f"a message has function_call, {TEXT_ONLY}"),
        ({"role": "tool", "content": "22 C"}, {},
         "a message has the role 'tool', which is none of system, user and assistant"),
        ({"from": "function_call", "value": "{}"}, {},
         "a message has the role 'function_call', which is none of system, user and assistant"),
        ({"from": "observation", "value": "22 C"}, {},
         "a message has the role 'observation', which is none of system, user and assistant"),
        ({"role": "assistant", "content": "x", "reasoning_content": "Hm."}, {},
         f"a message has reasoning_content, {TEXT_ONLY}"),
        ({"role": "user", "content": None}, {}, "messages has a message without text"),
        ({"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {}}]}, {},
         "a message has a part of the type 'image_url', and only text can be kept"),
        ({"role": "user", "content": {"parts": ["x"]}}, {}, "prompt is not text"),
        ({"role": "user", "content": "x"}, {"tools": [CALL]}, f"the row has tools, {TEXTS}"),
        ({"role": "user", "content": "x"}, {"tools": '[{"name": "w"}]'}, f"the row has tools, {TEXTS}"),
        ({"role": "user", "content": "x"}, {"functions": [CALL]}, f"the row has functions, {TEXTS}"),
        ({"role": "user", "content": "<image>x"}, {"images": ["a.png"]}, f"the row has images, {TEXTS}"),
    ],
)  # fmt: skip
def test_what_a_message_of_text_cannot_hold_is_counted(turn: Any, more: Any, reason: str) -> None:
    """Wherever the turn stands, and beside rows that can be used."""
    rows = rows_from_records(
        [
            {"messages": [user("First?")]},
            {"messages": [user("Hi"), turn, assistant("Hello"), user("So?"), assistant("Yes.")], **more},
        ],
        "here",
    )
    assert [row.messages for row in rows.rows] == [[user("First?")]]
    assert rows.left_out.names == {reason: ["row 2"]}


MARKS: list[dict[str, Any]] = [
    {"weight": 0}, {"weight": 0.0}, {"weight": 0.5}, {"weight": "0"}, {"train": False}, {"loss": False},
    {"loss": "False"}, {"trainable": False}, {"train_on_turn": False}, {"loss_weight": 0.0}, {"lossMask": 0},
    {"mask": 1}, {"mask": True}, {"masked": "true"},
]  # fmt: skip


@pytest.mark.parametrize("mark", MARKS)
def test_an_answer_that_is_not_to_be_learned_is_no_target(mark: dict[str, Any]) -> None:
    row = read({"conversations": [human(FISH), gpt(COD, **mark)]})
    assert isinstance(row, BadRow) and row.reason == "the last answer is marked as one not to learn from"
    earlier = read({"conversations": [human("Hi"), gpt("Hello", **mark), human(FISH), gpt(COD)]})
    assert isinstance(earlier, DatasetRow) and (earlier.messages, earlier.target) == (TWO, COD)


@pytest.mark.parametrize(
    "mark", [{"loss": True}, {"weight": "1"}, {"mask": 0}, {"mask": None}, {"loss": None}, {"weight": "high"}]
)
def test_an_answer_that_is_marked_as_one_to_learn_from_is_the_target(mark: dict[str, Any]) -> None:
    row = read({"conversations": [human(FISH), gpt(COD, **mark)]})
    assert row == DatasetRow([user(FISH)], target=COD)


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": FISH, "completion": CAR, "label": False},
        {"instruction": FISH, "input": "", "output": CAR, "kto_tag": False},
        {"messages": [user(FISH), assistant(CAR)], "label": False},
        {"conversations": [human(FISH), gpt(CAR)], "kto_tag": False},
        {"prompt": FISH, "completion": [user(FISH), assistant(CAR)], "label": False},
    ],
)
def test_an_answer_with_a_label(record: dict[str, Any]) -> None:
    assert detect([record], "here").format == "unpaired"
    assert read(record) == DatasetRow([user(FISH)], [Completion(CAR, 0.0)])


def test_a_label_that_is_a_class_is_metadata() -> None:
    row = read({"messages": [user(FISH), assistant(COD)], "label": 3})
    assert isinstance(row, DatasetRow) and (row.target, row.metadata) == (COD, {"label": 3})


def test_answers_to_another_conversation_are_left_out() -> None:
    answered = {"A0": [FRENCH, user(FISH), assistant(COD)], "A1": [user("Hi"), assistant(CAR)]}
    row = read({"prompt": FISH, "score_A0": 1.0, "score_A1": 2.0, **answered})
    assert isinstance(row, DatasetRow)
    assert (row.messages, row.completions) == ([FRENCH, user(FISH)], [Completion(COD, 1.0)])
    assert row.left_out == {"A1 answers another conversation than the prompt": ["answer 2"]}


def test_a_list_of_texts_is_not_a_prompt() -> None:
    """A table by columns, of which the first cell would be the only prompt."""
    row = read({"prompt": ["A", "B"], "target": ["x", "y"]}, "prompts")
    assert isinstance(row, BadRow) and row.reason.startswith("prompt is a list of texts")
    with pytest.raises(DataError, match="a table by columns"):
        list(rows_from_records([{"instruction": ["A", "B"]}], "here").rows)


def test_an_empty_answer_is_counted_and_its_prompt_stays() -> None:
    row = read({"messages": [user(FISH), assistant(" ")]})
    assert isinstance(row, DatasetRow)
    assert (row.messages, row.target, row.left_out) == ([user(FISH)], None, {"the answer is empty": ["answer 1"]})


CHATML = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
MARKED = [
    CHATML, f"{CHATML}Cod.<|im_end|>", "<s>[INST] Hi [/INST]", "[INST] <<SYS>>\nBe.\n<</SYS>>\n\nHi [/INST] Cod.",
    "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", "<|user|>\nHi</s>\n<|assistant|>\n",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "<|start|>user<|message|>Hi<|end|>",
    "<\uff5cbegin\u2581of\u2581sentence\uff5c><\uff5cUser\uff5c>Hi<\uff5cAssistant\uff5c>",
    "GPT4 Correct User: Hi<|end_of_turn|>GPT4 Correct Assistant:", "Cod.<|im_end|>\n", "Cod.</s>", "Cod.<|endoftext|>",
    "[INST] Hi [/INST]", "USER: Hi ASSISTANT:", "Say hi.\nAssistant:", "### Instruction:\nHi\n\n### Response:\n",
]  # fmt: skip


@pytest.mark.parametrize("text", MARKED)
def test_a_text_with_the_marks_of_a_template_is_counted(text: str) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": FISH, "output": text},
        {"prompt": FISH, "chosen": text, "rejected": CAR}, {"prompt": FISH, "chosen": COD, "rejected": text},
        {"prompt": FISH, "completion": text, "label": True},
    ]  # fmt: skip
    for record in rows:
        row = read(record)
        assert isinstance(row, BadRow) and row.reason == "a text holds the marks of a chat template", record
    if not text.startswith("Cod."):
        assert isinstance(read({"chosen": f"{text} {COD}", "rejected": f"{text} {CAR}"}), BadRow)


@pytest.mark.parametrize(
    "text",
    [
        "What is <|im_end|>?",
        "<s>old</s>",
        "Who is the assistant:",
        "### Response:\nCod.",
        "Say [INST] to me.",
        "<user> is a tag",
        "Print `</s>`.",
        "<|x|>",
    ],
)
def test_a_text_about_marks_is_a_text(text: str) -> None:
    row = read({"prompt": FISH, "chosen": text, "rejected": CAR})
    assert isinstance(row, DatasetRow) and row.completions[0].text == text
    assert read({"prompt": text, "output": COD}) == DatasetRow([user(text)], target=COD)


@pytest.mark.parametrize(
    "lead", ["### Human: Hi\n### Assistant:", "USER: Hi\nASSISTANT:", "### Instruction:\nHi\n\n### Response:\n",
             "[INST] Hi [/INST]", "System: Be.\n\nUser: Hi\n\nAssistant:"]
)  # fmt: skip
def test_a_conversation_in_one_text_is_no_guessed_prompt(lead: str) -> None:
    row = read({"chosen": f"{lead} {COD}", "rejected": f"{lead} {CAR}"})
    assert isinstance(row, BadRow) and row.reason.startswith("no prompt, and chosen and rejected are whole")


OPEN = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Name a fish.\n\nAssistant:"


@pytest.mark.parametrize(
    ("prompt", "lead", "messages"),
    [
        (OPEN, f"{OPEN} ", TWO),
        (FISH, f"\n\nHuman: {FISH}\n\nAssistant: ", [user(FISH)]),
        (FISH, f"{OPEN} ", TWO),
        (FISH, f"{FISH} ", [user(FISH)]),
        (FISH, f"{FISH}\n\n", [user(FISH)]),
        ("Question: fish?\nAnswer:", "Question: fish?\nAnswer: ", [user("Question: fish?\nAnswer:")]),
        ([user(FISH)], f"\n{FISH}\n", [user(FISH)]),
    ],
)
def test_answers_that_repeat_the_prompt_begin_behind_it(prompt: Any, lead: str, messages: list[Any]) -> None:
    row = read({"prompt": prompt, "chosen": f"{lead}{COD}", "rejected": f"{lead}{CAR}"})
    assert row == DatasetRow(messages, PAIR)
    assert read({"prompt": prompt, "completion": f"{lead}{CAR}", "label": False}) == DatasetRow(
        messages, [Completion(CAR, 0.0)]
    )
    row = read(
        {"prompt": prompt, "completions": [{"response": f"{lead}{one}", "overall_score": 1} for one in (COD, CAR)]}
    )
    assert isinstance(row, DatasetRow)
    for one in ({"chosen": f"{lead}{COD}", "rejected": CAR}, {"chosen": COD, "rejected": f"{lead}{CAR}"}):
        assert isinstance(read({"prompt": prompt, **one}), BadRow)


def test_the_space_of_code_behind_a_prompt_is_kept() -> None:
    lead = "def f(x):"
    row = read({"prompt": lead, "chosen": f"{lead}\n    return x", "rejected": f"{lead}\n\n    pass"})
    assert isinstance(row, DatasetRow)
    assert [one.text for one in row.completions] == ["    return x", "    pass"]


def test_a_target_that_repeats_an_open_turn() -> None:
    asked = "Question: fish?\nAnswer:"
    assert read({"prompt": asked, "completion": f"{asked} {COD}"}) == DatasetRow([user(asked)], target=COD)
    row = read({"prompt": "def f(x):", "completion": "def f(x): return x"})
    assert isinstance(row, DatasetRow) and row.target == "def f(x): return x"


@pytest.mark.parametrize(
    ("asked", "chosen", "rejected"),
    [("Hi", "Hi there!", "Go."), ("Hello!", "Hello! How are you?", "Hello! What?"), ("He go.", "He goes.", "He go."),
     ("Go", "Goat", "Gone"), ("w8", "w8 w4", "w5"), ("2+2", "2+2 = 4", "2+2 = 5"),
     ("Good morning", "Good morning to you.", "What?"),
     ("Write a dialogue.", "Human: Hi\n\nAssistant: Hello", "No.")],
)  # fmt: skip
def test_answers_that_only_look_like_the_prompt_are_kept(asked: str, chosen: str, rejected: str) -> None:
    row = read({"prompt": asked, "chosen": chosen, "rejected": rejected})
    assert isinstance(row, DatasetRow) and [one.text for one in row.completions] == [chosen, rejected]


def test_one_of_many_answers_may_be_an_echo() -> None:
    texts = [f"{FISH} {COD}", COD, CAR]
    row = read({"prompt": FISH, "completions": [{"response": text, "overall_score": 1} for text in texts]})
    assert isinstance(row, DatasetRow) and [one.text for one in row.completions] == texts
