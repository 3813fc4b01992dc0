"""Parts of a conversation under names of their own: each is read, or its row is counted; none is silent metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rayalign.data.dataset import BadRow, DatasetRow
from rayalign.data.formats import FORMATS, detect, read_record
from rayalign.data.loading import load_dataset_rows
from rayalign.data.prompts import rows_from_records
from tests.unit.format_cases import CAR, COD, FISH, PAIR, TWO, assistant, user

BRIEF = {"role": "system", "content": "Be brief."}
ASKED = user(f"{FISH}\nThe cod swims.")
SIDES = {"chosen": COD, "rejected": CAR}
KEPT = "and only its text can be kept"
TOOL = [{"type": "function", "function": {"name": "x"}}]


def read(record: dict[str, Any]) -> DatasetRow | BadRow:
    ((_, row),) = read_record(record, "row 1", FORMATS[detect([record], "here").format])
    return row


@pytest.mark.parametrize(
    ("record", "messages", "metadata"),
    [
        ({"instruction": FISH, "context": "The cod swims.", "response": COD, "kind": "qa"}, [ASKED], {"kind": "qa"}),
        ({"question": FISH, "body": "The cod swims.", "grade": "2"}, [ASKED], {"grade": "2"}),
        ({"question": FISH, "story": "The cod swims."}, [ASKED], {}),
        ({"instruction": FISH, "context": "", "response": COD}, [user(FISH)], {}),
        ({"instruction": FISH, "input": "A.", "context": "B.", "output": COD}, [user(f"{FISH}\nA.\nB.")], {}),
        ({"question": FISH, "context": "The cod swims.", "answers": {"text": ["Cod"]}, "id": "5"}, [ASKED],
         {"answers": {"text": ["Cod"]}, "id": "5"}),
        ({"question": FISH, "Context": "The cod swims.", **SIDES}, [ASKED], {}),
        ({"query": FISH, "passage": "The cod swims."}, [ASKED], {}),
        ({"question": FISH, "knowledge": "The cod swims."}, [ASKED], {}),
        ({"question": FISH, "document": "doc_17", "article": 3}, [user(FISH)], {"document": "doc_17", "article": 3}),
        ({"question": f"The cod swims. {FISH}", "context": "The cod swims."}, [user(f"The cod swims. {FISH}")], {}),
        ({"prompt": f"The cod swims. {FISH}", "context": "The cod swims."}, [user(f"The cod swims. {FISH}")],
         {"context": "The cod swims."}),
        ({"prompt": FISH, "context": "train"}, [user(FISH)], {"context": "train"}),
        ({"prompt": FISH, "input": "nan"}, [user(FISH)], {"input": "nan"}),
        ({"question": FISH, "answer": COD, "feedback": "Good.", "context": "The cod swims."}, [ASKED], {}),
        ({"instruction": FISH, "context": "The cod swims.", "output": COD, "judgment": None}, [ASKED], {}),
        ({"prompt": FISH, "chat_history": [["Hi", "Hello"]]}, TWO, {}),
        ({"prompt": FISH, "chatHistory": '[["Hi", "Hello"]]'}, TWO, {}),
        ({"prompt": FISH, "conversation_history": "\n\nHuman: Hi\n\nAssistant: Hello"}, TWO, {}),
        ({"prompt": FISH, "chat_history": [], "systemPrompt": "Be brief."}, [BRIEF, user(FISH)], {}),
        ({"prompt": FISH, "System": "Be brief."}, [BRIEF, user(FISH)], {}),
        ({"prompt": FISH, "system_instruction": "Be brief.", **SIDES}, [BRIEF, user(FISH)], {}),
        ({"messages": [{"role": "system", "content": "nan"}, user(FISH)]}, [user(FISH)], {}),
        ({"prompt": FISH, "history": [BRIEF, *TWO[:2]]}, [BRIEF, *TWO], {}),
        ({"prompt": FISH, "metadata": {"system": "Be brief.", "history": [["Hi", "Hello"]], "n": 1}}, [BRIEF, *TWO],
         {"n": 1}),
        ({"prompt": FISH, "meta": '{"system_prompt": "Be brief.", "n": 1}'}, [BRIEF, user(FISH)], {"meta": {"n": 1}}),
        ({"prompt": FISH, "system": "Be brief.", "metadata": {"system": "Be brief."}}, [BRIEF, user(FISH)], {}),
        ({"question": FISH, "passages": "The cod swims.", "answer": COD}, [ASKED], {"answer": COD}),
        ({"question": FISH, "documents": [3, 5]}, [user(FISH)], {"documents": [3, 5]}),
        ({"prompt": f"The cod swims. {FISH}", "documents": ["The cod swims."]}, [user(f"The cod swims. {FISH}")],
         {"documents": ["The cod swims."]}),
        ({"prompt": FISH, "documents": ["doc_1"], "knowledge": "wiki"}, [user(FISH)],
         {"documents": ["doc_1"], "knowledge": "wiki"}),
        ({"prompt": FISH, "sys": "Be brief."}, [BRIEF, user(FISH)], {}),
        ({"prompt": FISH, "system_prompts": "Be brief."}, [BRIEF, user(FISH)], {}),
        ({"prompt": FISH, "system_prompt_text": "Be brief."}, [BRIEF, user(FISH)], {}),
        ({"prompt": f"Be brief. {FISH}", "instructions": "Be brief."}, [user(f"Be brief. {FISH}")],
         {"instructions": "Be brief."}),
        ({"prompt": FISH, "persona": "pirate", "text": "news", "prefill": ""}, [user(FISH)],
         {"persona": "pirate", "text": "news", "prefill": ""}),
        ({"question": "Cod or car?\nA) cod\nB) car", "choices": ["cod", "car"], "A": "cod", "B": "car"},
         [user("Cod or car?\nA) cod\nB) car")], {"choices": ["cod", "car"], "A": "cod", "B": "car"}),
        ({"question": "Cod (A) or car (B)?", "options": {"A": "Cod", "B": "car"}}, [user("Cod (A) or car (B)?")],
         {"options": {"A": "Cod", "B": "car"}}),
        ({"prompt": FISH, "options": {"temperature": 0.5}}, [user(FISH)], {"options": {"temperature": 0.5}}),
        ({"instruction": "Add.", "input": "1 2", "output": "3", "text": "Below.\n### Add.\n### 1 2\n### 3"},
         [user("Add.\n1 2")], {"text": "Below.\n### Add.\n### 1 2\n### 3"}),
        ({"messages": [user(FISH), assistant(COD)], "text": "any text here"}, [user(FISH)], {"text": "any text here"}),
        ({"prompt": FISH, "prefill": "Co", **SIDES, "rejected": "Code."}, [user(FISH)], {"prefill": "Co"}),
        ({"prompt": FISH, "metadata": {"system": "linux", "tools": []}}, [user(FISH)],
         {"system": "linux", "tools": []}),
    ],
)  # fmt: skip
def test_what_belongs_to_the_conversation_is_in_it(
    record: dict[str, Any], messages: list[dict[str, str]], metadata: dict[str, Any]
) -> None:
    row = read(record)
    assert isinstance(row, DatasetRow), row.reason
    assert (row.messages, row.metadata) == (messages, metadata)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"question": FISH, "context": {"title": ["a"], "sentences": [["b"]]}}, "context is not text"),
        ({"question": FISH, "passage": ["a", "b"]}, "passage is not text"),
        ({"prompt": FISH, "context": "The cod swims."}, "context says something else than the prompt"),
        ({"prompt": FISH, "Context": "The cod swims."}, "Context says something else than the prompt"),
        ({"messages": [user(FISH), assistant(COD)], "context": "An eel."},
         "context says something else than the prompt"),
        ({"passage": "The cod swims.", "chosen": "It is a", "rejected": "It is b"}, "no prompt beside passage"),
        ({"systemPrompt": "Be brief.", "chosen": "It is a", "rejected": "It is b"}, "no prompt beside systemPrompt"),
        ({"text": FISH, "chosen": "It is a", "rejected": "It is b"}, "no prompt beside text"),
        ({"prompt": FISH, "chat_history": "see above"}, "chat_history is not a list of pairs of texts"),
        ({"prompt": FISH, "system_message": ["Be brief."]}, "system_message is not text"),
        ({"prompt": FISH, "metadata": {"tools": TOOL}}, "the row has tools, and only texts can be kept"),
        ({"prompt": FISH, "toolCalls": TOOL}, "the row has toolCalls, and only texts can be kept"),
        ({"messages": [user(FISH), {**assistant(COD), "toolCalls": TOOL}]},
         "a message has toolCalls, and only its text can be kept"),
        ({"prompt": FISH, "system": "Sing.", "metadata": {"system": "Be brief."}},
         "system of metadata is not the system that the row has already"),
        ({"prompt": FISH, "image": {"bytes": None, "path": "a.png"}}, "the row has image, and only texts can be kept"),
        *(({"question": FISH, name: ["The cod swims.", "An eel."], "answer": COD}, f"{name} is not text")
          for name in ("documents", "contexts", "passages")),
        *(({**asked, name: value}, f"{name} says something else than the prompt")
          for asked in ({"prompt": FISH, "completion": COD}, {"messages": [user(FISH), assistant(COD)]},
                        {"prompt": FISH, **SIDES})
          for name in ("document", "article", "paragraph", "knowledge", "documents", "contexts")
          for value in ("The cod swims.", ["The cod swims."], [{"title": "x", "text": "The cod swims."}])),
        *(({"instruction": FISH, name: "The cod swims.", "output": COD}, f"{name} says something else than the prompt")
          for name in ("text", "content")),
        *(({"prompt": FISH, name: "You are a pirate."}, f"{name} says something else than the prompt")
          for name in ("persona", "instructions", "preamble")),
        *(({"question": FISH, name: value, "answer": "B"}, f"{name} says something else than the prompt")
          for name in ("choices", "options", "answer_choices")
          for value in (["a", "b"], "['cod', 'car']", {"text": ["cod", "car"], "label": ["A", "B"]}, [1, 2],
                        {"A": "cod", "B": "car"}, "A) cod B) car", [{"label": "A", "text": "cod"}])),
        ({"question": FISH, "option_a": "cod", "option_b": "car"}, "option_a says something else than the prompt"),
        ({"question": FISH, "A": "cod", "B": "car"}, "A says something else than the prompt"),
        *(({"prompt": FISH, **sides, name: "Step 1: "}, f"{name} is the beginning of the answer, and stands apart "
           "from it") for name in ("initial_reason_steps", "prefill") for sides in (SIDES, {"completion": COD}, {})),
        *(({"messages": [user(FISH), {**assistant(COD), name: value}]}, f"a message has {name}, {KEPT}")
          for name in ("reasoning_details", "thought", "attachments", "files", "thinking", "context", "documents")
          for value in ("The cod swims.", [{"text": "The cod swims."}])),
        ({"prompt": FISH, "attachments": ["a.pdf"]}, "the row has attachments, and only texts can be kept"),
        ({"messages": None}, "messages is null"),
        ({"conversations": {"from": None, "value": None}}, "conversations has a message without a role"),
        ({"conversations": []}, "conversations is empty"),
        ({"messages": {"role": ["user"], "content": ["a", "b"]}}, "messages has lists of different lengths"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_counted(record: dict[str, Any], reason: str) -> None:
    row = read(record)
    assert isinstance(row, BadRow)
    assert (row.reason, row.found) == (reason, "")


@pytest.mark.parametrize("nothing", ["nan", "NaN", "None", "null", "", " ", "<NA>"])
def test_a_cell_that_says_nothing_is_no_turn(nothing: str, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(
        f"instruction,input,context,system,history,output\n{FISH},{nothing},{nothing},{nothing},{nothing},{COD}\n"
    )
    assert load_dataset_rows(str(path)).rows == [DatasetRow([user(FISH)], target=COD)]


def test_an_answer_that_pandas_calls_nan_is_missing_and_none_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("prompt,chosen,rejected\nA,nan,x\nB,None,y\n")
    found = load_dataset_rows(str(tmp_path / "d.csv"))
    assert [row.completions[0].text for row in found.rows] == ["None"]
    assert list(found.skipped) == ["chosen is null"]


@pytest.mark.parametrize(
    "media",
    [{"image": {"bytes": None, "path": None}}, {"images": [None]}, {"images": [{"bytes": None}]}, {"audio": ""}],
)
def test_media_without_any_are_none(media: dict[str, Any]) -> None:
    assert read({"prompt": FISH, **SIDES, **media}) == DatasetRow([user(FISH)], PAIR, metadata=media)
    assert read({"messages": [{**user(FISH), **media}, assistant(COD)]}) == DatasetRow([user(FISH)], target=COD)


def test_lists_by_columns() -> None:
    """As the `datasets` library keeps a list of objects."""
    row = DatasetRow([user(FISH)], target=COD)
    assert read({"conversations": {"from": ["human", "gpt"], "value": [FISH, COD]}}) == row
    assert read({"messages": '{"role": ["user", "assistant"], "content": ["Name a fish.", "Cod."]}'}) == row
    assert read({"messages": {"role": ["user", "assistant"], "content": [FISH, COD], "tool_calls": None}}) == row
    ranked = {"prompt": FISH, "answers": {"answer": [COD, CAR], "rank": [1.0, 2.0]}}
    rated = {"prompt": FISH, "completions": {"response": [COD, CAR], "overall_score": [8.0, 1.0]}}
    for record, scores in ((ranked, [-1.0, -2.0]), (rated, [8.0, 1.0])):
        found = read(record)
        assert isinstance(found, DatasetRow), found
        assert [(one.text, one.score) for one in found.completions] == list(zip([COD, CAR], scores, strict=True))


def test_scores_and_answers_that_do_not_match() -> None:
    row = read({"prompt": FISH, "A0": COD, "A1": "x", "A10": CAR, "score_A0": 1.0, "score_A2": 2.0, "score_A10": 0.0})
    assert isinstance(row, DatasetRow)
    assert [(one.text, one.score) for one in row.completions] == [(COD, 1.0), (CAR, 0.0)]
    assert row.left_out == {"no field score_A1": ["answer 2"], "no field A2": ["answer 3"]}
    assert row.metadata == {}
    nothing = read({"prompt": FISH, "A0": COD, "score_A1": 1.0})
    assert isinstance(nothing, BadRow) and nothing.reason == "no field score_A0"


def test_a_field_that_is_named_is_the_whole_prompt() -> None:
    record = {"question": FISH, "context": "The cod swims.", "prompt": "no"}
    (row,) = rows_from_records([record], "here", "question").rows
    assert (row.messages, row.metadata) == ([user(FISH)], {"context": "The cod swims.", "prompt": "no"})
    (row,) = rows_from_records([{"question": "no", "context": "no", "prompt": FISH}], "here", "prompt").rows
    assert row.messages == [user(FISH)]


@pytest.mark.parametrize("blank", ["", "  ", None])
def test_an_input_without_an_instruction_is_what_is_asked(blank: str | None) -> None:
    assert read({"instruction": blank, "input": FISH, "output": COD}) == DatasetRow([user(FISH)], target=COD)
    row = read({"instruction": blank, "input": FISH, "output": COD, "judgment": None})
    assert isinstance(row, DatasetRow) and row.messages == [user(FISH)]
    (row,) = rows_from_records([{"instruction": blank, "input": FISH}], "here").rows
    assert row.messages == [user(FISH)]
    for nothing in ("", None, "nan"):
        row = read({"instruction": blank, "input": nothing, "output": COD})
        assert isinstance(row, BadRow)
    row = read({"question": "", "context": "The cod swims.", "answer": COD})
    assert isinstance(row, BadRow) and row.reason == "blank prompt"
