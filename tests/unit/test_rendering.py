"""One rendering for all: the tokens that the template itself gives, an answer's exact boundary, what is refused."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from rayalign.data.dataset import Completion, DatasetRow
from rayalign.data.responses import CompletionTokens
from rayalign.data.stage_rows import answer_rows, pair_rows
from rayalign.errors import DataError, ModelError
from rayalign.records import IGNORED, Message
from rayalign.rendering.renderer import ChatRenderer
from rayalign.scoring.models.reward_model import reward_renderer
from tests.renderers import answer_ids, prompt_ids, renderer
from tests.unit.template_cases import CHATML, FAMILIES, LLAMA_3, byte_tokenizer, piece_tokenizer, tokenizer_of

DAY = datetime.date(2026, 3, 9)
NAMES = sorted(FAMILIES)
CONTINUED = [name for name in NAMES if name != "r1"]
"""Those whose generation prompt is what stands before a given answer too."""
USER: Message = {"role": "user", "content": "Name a fish."}
SYSTEM: Message = {"role": "system", "content": "Be brief."}
SAID: Message = {"role": "assistant", "content": "Cod."}
CHATS = {"one": [USER], "system": [SYSTEM, USER], "more": [USER, SAID, {"role": "user", "content": "Another one?"}]}
ENDED = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}</s>{% endfor %}"
FIRST = "m['role'] == 'system' or messages[0]['role'] != 'system'"
HEADED = ENDED + "{% if add_generation_prompt %}[assistant]{% endif %}"


def dated(name: str, **options: Any) -> ChatRenderer:
    return ChatRenderer(tokenizer_of(name), "auto", DAY, **options)


def template_ids(name: str, messages: list[Message], **options: Any) -> list[int]:
    """As transformers renders and tokenises it on that day."""
    found = tokenizer_of(name).apply_chat_template(messages, return_dict=False, strftime_now=DAY.strftime, **options)
    assert isinstance(found, list)
    return found


def chats_of(name: str) -> list[list[Message]]:
    return [chat for kind, chat in CHATS.items() if kind != "system" or FAMILIES[name].system]


@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_the_templates_own(name: str) -> None:
    for chat in chats_of(name):
        assert dated(name).prompt(chat, "p") == template_ids(name, chat, add_generation_prompt=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("answer", ["Cod.", "a\n\nb", "🐟", "x" * 50])
def test_policy_dataset_reward_model_and_judge_see_the_same_tokens(name: str, answer: str) -> None:
    """Prompt and answer as they are trained on are the conversation as the template renders it, to its last token."""
    end = tokenizer_of(name).convert_tokens_to_ids(FAMILIES[name].end)
    given_answers, scorer = dated(name, given=True), reward_renderer(tokenizer_of(name), "auto", DAY)
    for chat in chats_of(name):
        said = [*chat, {"role": "assistant", "content": answer}]
        (row,) = answer_rows([DatasetRow(chat, target=answer)], given_answers, 500).rows
        (stored,) = CompletionTokens(given_answers, 500).answers("p", chat, [Completion(answer)])
        prompt = given_answers.prompt(chat, "p")
        both = [*prompt, *stored.token_ids]
        assert row["input_ids"] == both
        assert [label for label in row["labels"] if label != IGNORED] == list(stored.token_ids)
        assert stored.token_ids[-1] == end and stored.token_ids.count(end) == 1
        (pair,) = pair_rows([DatasetRow(chat, [Completion(answer, 1.0), Completion("No.", 0.0)])], scorer, 500).rows
        whole = scorer.conversation(said, "c")
        assert whole == pair["chosen_ids"] == given_answers.conversation(said, "c")
        assert whole[: len(both)] == both and not tokenizer_of(name).decode(whole[len(both) :]).strip()
        if not (name == "mistral" and chat[0] == SYSTEM):
            assert whole == template_ids(name, said)
        if name in CONTINUED:
            assert prompt == dated(name).prompt(chat, "p"), "what is sampled from, and what a judge is asked in"


def test_a_tokenizer_that_merges_across_the_boundary_gives_the_same_tokens() -> None:
    """In GPT-2's way two line breaks are one token at the end of a text and two before a word: tokenised at once, the
    conversation would not begin with the prompt that the answer was sampled behind."""
    family = FAMILIES["llama-3"]
    made = byte_tokenizer(family.template, family.tokens, lines=False)
    said = [USER, SAID]
    one = ChatRenderer(made, "auto", DAY)
    both = [*one.prompt([USER], "p"), *one.answer([USER], "Cod.", "a")]
    assert one.conversation(said, "c") == both
    at_once = made.apply_chat_template(said, return_dict=False, strftime_now=DAY.strftime)
    assert at_once != both and made.decode(at_once) == made.decode(both)


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_around_an_answer(name: str) -> None:
    lead = {"mistral": " ", "qwen-3": "<think>\n\n</think>\n\n"}.get(name, "")
    text = tokenizer_of(name).decode(dated(name, given=True).answer([USER], "Cod.", "a"))
    assert text == f"{lead}Cod.{FAMILIES[name].end}"
    stops = {"llama-3": ["<|eot_id|>"], "gemma": ["<end_of_turn>"]}.get(name, [])
    assert tokenizer_of(name).convert_ids_to_tokens(dated(name).stop_ids) == stops
    one, ids = dated(name), answer_ids("Cod.", tokenizer_of(name))
    assert one.spoken(f"{lead}Cod.", ids) == one.text_of(ids) == "Cod."


CHANNELS = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<|start|>assistant<|channel|>final<|message|>"
    "{% else %}<|start|>{{ m['role'] }}<|message|>{% endif %}{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
UNASKED = "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
THOUGHTLESS = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}[THINK]\n\n[/THINK]\n\n"
    "{% endif %}{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
MARKS = ("<|end|>", "<s>", "<|start|>", "<|channel|>", "<|message|>", "[THINK]", "[/THINK]")


@pytest.mark.parametrize("sentencepiece", [False, True])
@pytest.mark.parametrize(
    ("template", "lead"),
    [
        (CHANNELS, "<|channel|>final<|message|>"),
        (UNASKED, "<|start|>assistant\n"),
        (THOUGHTLESS, "[THINK]\n\n[/THINK]\n\n"),
        (CHANNELS.replace("final<|message|>", "<|message|>"), "<|channel|><|message|>"),
    ],
)
def test_a_lead_of_special_tokens_is_no_part_of_an_answers_text(template: str, lead: str, sentencepiece: bool) -> None:
    """Texts of sampled tokens leave its special tokens out and keep its words."""
    made = piece_tokenizer(template, MARKS) if sentencepiece else byte_tokenizer(template, MARKS)
    one = renderer(made)
    assert one.form.lead == lead
    for answer in ("Cod.", "final Cod.", "finally", "assistant\nCod.", "", "\n\nCod."):
        ids = one.answer([USER], answer, "a")
        assert made.decode(ids) == f"{lead}{answer}<|end|>"
        assert one.spoken(made.decode(ids, skip_special_tokens=True), ids) == one.text_of(ids) == answer
        bare = [*made(f"<s>{answer}", add_special_tokens=False)["input_ids"][1:], one.end]
        assert one.text_of(bare) == answer, "it does not begin with the lead"


def test_a_system_message_that_is_only_written_before_a_reply_stays() -> None:
    """Mistral's template leaves it out of a conversation that has an answer: what is learned stands where it is
    sampled."""
    one = dated("mistral")
    text = tokenizer_of("mistral").decode(one.conversation([SYSTEM, USER, SAID], "c"))
    assert text == "<s>[INST] Be brief.\n\nName a fish.[/INST] Cod.</s>"


@pytest.mark.parametrize("name", CONTINUED)
@given(answer=st.text(st.characters(codec="utf-8", exclude_characters="<[\0"), max_size=12))
@settings(max_examples=40, deadline=None)
def test_an_answer_never_moves_its_boundary(name: str, answer: str) -> None:
    """Whatever it is: its tokens are its text as the template writes it, and its one end."""
    one, tokenizer = dated(name), tokenizer_of(name)
    ids, text = one.answer([USER], answer, "a"), one.conversation([USER, {**SAID, "content": answer}], "c")
    assert tokenizer.decode([*one.prompt([USER], "p"), *ids]) == tokenizer.decode(text).rstrip("\n")


def test_thinking_is_rendered_as_the_template_does() -> None:
    """Qwen's keeps the last answer's and drops earlier ones'; R1's opens it where the model answers, and keeps none."""
    aloud = "<think>\nA fish.\n</think>\n\nCod."
    chat: list[Message] = [USER, {**SAID, "content": aloud}]
    qwen, r1 = dated("qwen-3", given=True), dated("r1", given=True)
    decode = tokenizer_of("qwen-3").decode
    assert decode(qwen.answer([USER], aloud, "a")) == f"{aloud}<|im_end|>"
    assert "A fish." not in decode(qwen.prompt([*chat, USER], "p"))
    decode = tokenizer_of("r1").decode
    assert decode(dated("r1").prompt([USER], "p")) == "<|begin|><|User|>Name a fish.<|Assistant|><think>\n"
    assert decode(r1.prompt([USER], "p")) == "<|begin|><|User|>Name a fish.<|Assistant|>"
    assert decode(r1.answer([USER], aloud, "a")) == "\n\nCod.<|end|>"
    assert [one.loses_thinking(aloud) for one in (qwen, r1)] == [False, True]
    assert not r1.loses_thinking("Cod.")
    tokens = CompletionTokens(r1, 500)
    tokens.answers("p", [USER], [Completion(aloud), Completion("Cod.")])
    assert tokens.without_thinking == 1


def test_templates_are_told_the_day_of_the_run() -> None:
    one = dated("llama-3")
    assert "Today Date: 09 Mar 2026" in tokenizer_of("llama-3").decode(one.prompt([USER], "p"))
    assert one.identity == "auto 2026-03-09" and dated("gemma").identity == "auto"


@pytest.mark.parametrize("adds", [True, False])
@pytest.mark.parametrize("writes", [True, False])
def test_bos_is_the_templates_matter_and_never_twice(adds: bool, writes: bool) -> None:
    made = byte_tokenizer(("{{ bos_token }}" if writes else "") + HEADED, adds_bos=adds)
    ids = renderer(made).conversation([USER, SAID], "c")
    assert (prompt_ids([USER], made)[:1] == ids[:1] == [made.bos_token_id]) is writes
    assert ids.count(made.bos_token_id) == writes


PARTS = (
    "{% for m in messages %}[{{ m['role'] }}]{% for part in m['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %}</s>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.mark.parametrize("template", [PARTS, PARTS.replace("{% if part['type'] == 'text' %}", "{% if part['text'] %}")])
def test_contents_are_given_in_parts_where_the_template_wants_them(template: str) -> None:
    made = byte_tokenizer(template)
    assert made.decode(prompt_ids([SYSTEM, USER], made)) == "[system]Be brief.</s>[user]Name a fish.</s>[assistant]"
    assert made.decode(answer_ids("Cod.", made)) == "Cod.</s>"
    assert made.decode(renderer(made).conversation([USER, SAID], "c")).endswith("[assistant]Cod.</s>")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for m in messages %}[{{ m['role'] }}]</s>{% endfor %}", "user message does not come out"),
        ("{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}", "assistant message does not"),
        ("{% for m in messages if m['role'] != 'user' %}{{ m['content'] }}{% endfor %}", "user message does not"),
        ("{% for m in messages %}{{ [m['content']] }}{% endfor %}{{ raise_exception('no chats') }}", "no chats"),
        (HEADED.replace("m['content']", "m['content'] | capitalize"), "the user message is changed"),
        (HEADED.replace("m['content']", "m['content'][:255]"), "the user message does not come out|is changed"),
        (HEADED.replace("m['content']", "m['content'] | truncate"), "the user message is changed"),
        (HEADED.replace("m['content']", "m['content'] | e"), "the user message is changed"),
        (HEADED.replace("m['content']", "m['content'].split() | join(' ')"), "the user message is changed"),
        (
            HEADED.replace("m['content']", "(m['content'] | upper if m['role'] == 'assistant' else m['content'])"),
            "the assistant message is changed",
        ),
        *(
            (HEADED.replace("m['content']", f"m['content'] | replace({old!r}, {new!r})"), "the user message is changed")
            for old, new in (
                ("  ", " "),
                ("\n\n\n", "\n\n"),
                ("\r\n", "\n"),
                ("\t", "    "),
                (" \n", "\n"),
                ("**", ""),
                ("`", ""),
                ("\n#", "\n"),
                ("...", "…"),
                ("\u00a0", " "),
                ("<br>", "\n"),
            )
        ),
        ("{{ messages[0]['content'] + 1 }}", "str"),
        ("{{ messages[7]['content']['text'] }}", "no element 7|undefined"),
        ("{% for m in messages %}{{ m['content']", "end of print|unexpected"),
        (ENDED + "{% if add_generation_prompt %}[bot]{% endif %}", "does not put an answer behind its generation"),
        (CHATML.replace("<|im_end|>", "<end>").replace("</s>", ""), r"ends an answer with '<end>', which is 5 tokens"),
        ({"chat": HEADED, "tools": HEADED}, "has the chat templates chat, tools, and none is named default"),
    ],
)
def test_templates_that_do_not_fit_are_refused_at_the_start(template: Any, words: str) -> None:
    made = byte_tokenizer(template)
    for make in (lambda: renderer(made), lambda: reward_renderer(made, "auto", DAY)):
        with pytest.raises(ModelError, match=words) as caught:
            make()
        assert caught.value.why and caught.value.remedy


def test_a_default_among_named_templates_is_taken() -> None:
    made = byte_tokenizer({"default": HEADED, "tool_use": ENDED})
    assert made.decode(prompt_ids([USER], made)) == "[user]Name a fish.</s>[assistant]"


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (tokenizer_of("gemma"), "System role not supported"),
        (byte_tokenizer(HEADED.replace("messages", "messages if m['role'] != 'system'", 1)), "system message does not"),
        (byte_tokenizer(HEADED.replace("messages", f"messages if {FIRST}", 1)), "user message does not come out"),
    ],
)
def test_a_system_message_that_is_refused_or_lost_counts_where_there_is_one(made: Any, words: str) -> None:
    assert prompt_ids([USER], made)
    for chat in ([SYSTEM, USER], [SYSTEM, USER, SAID]):
        with pytest.raises(DataError, match=words) as caught:
            renderer(made).prompt(chat, "prompt 7") if chat[-1] == USER else renderer(made).conversation(chat, "c")
        assert "has the roles system, user" in caught.value.found


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ("messages[-2:]", "user message does not come out"),
        ("([messages[0], messages[-1]] if messages | length > 1 else messages)", "assistant message does not come out"),
    ],
)
def test_earlier_turns_that_are_lost_are_refused_where_there_are_any(shown: str, words: str) -> None:
    made = byte_tokenizer(HEADED.replace("messages", shown, 1))
    assert prompt_ids([USER], made)
    with pytest.raises(DataError, match=words):
        prompt_ids(CHATS["more"], made)


def test_a_long_history_that_is_cut_is_refused() -> None:
    made = byte_tokenizer(HEADED.replace("messages", "messages[-4:]", 1))
    assert prompt_ids(CHATS["more"], made)
    with pytest.raises(DataError, match="leaves out the text of role user"):
        prompt_ids([{"role": "user", "content": "Name a bird."}, SAID, *CHATS["more"]], made)


@pytest.mark.parametrize("text", ["    return 7", "say 7", "a 7, trimmed \n", "<think>7</think>8"])
def test_an_answer_that_comes_out_otherwise_is_refused(text: str) -> None:
    """By a template that changes what its probe does not hold; what trims or leaves out thoughts is taken."""
    made = byte_tokenizer(HEADED.replace("m['content']", "m['content'].split('</think>')[-1] | trim"))
    assert made.decode(answer_ids(text, made)) == text.rpartition("</think>")[2].strip() + "</s>"
    made = byte_tokenizer(HEADED.replace("m['content']", "m['content'] | replace('7', '')"))
    for render in (
        renderer(made).answer,
        lambda chat, said, name: renderer(made).conversation([*chat, SAID | {"content": said}], name),
    ):
        if "</think>" in text:
            assert render([USER], text, "a")
        else:
            with pytest.raises(DataError, match="leaves out a part of the answer, or changes it"):
                render([USER], text, "a")
    with pytest.raises(DataError, match="text of role user, or a part of it, or changes it"):
        prompt_ids([{"role": "user", "content": "5 + 7"}], made)


def test_a_role_whose_text_is_lost_is_refused() -> None:
    template = "{% for m in messages if m['role'] != 'tool' %}{{ m['content'] }}</s>{% endfor %}"
    with pytest.raises(DataError, match="leaves out the text of role tool"):
        prompt_ids([USER, {"role": "tool", "content": "7"}], byte_tokenizer(template))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}", "assistant: Cod.</s>"),
        ("{% for m in messages %}\n{{ m['role'] }}: {{ m['content'] }}{% endfor %}\nassistant:", " Cod.</s>"),
        (LLAMA_3.replace("<|eot_id|>", "\n"), "Cod.</s>"),
        (
            "{% for m in messages %}{{ '\n# ' + m['role'] }}\n{{ m['content'] }} </s>!{% endfor %}",
            "\n# assistant\nCod. </s>",
        ),
    ],
)
def test_templates_that_write_no_end_get_the_eos(template: str, text: str) -> None:
    """Those without a generation prompt leave the answer's head to the answer."""
    made = byte_tokenizer(template)
    assert made.decode(answer_ids("Cod.", made)) == text
    assert renderer(made).stop_ids == []
