"""`rayalign chat` on a tiny model: what it answers, how it ends, what it says when the context is full."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from rayalign.commands.chat import Conversation, chat
from rayalign.commands.export import export
from rayalign.errors import ModelError, RunFolderError
from rayalign.learning.chat_model import ChatModel
from rayalign.learning.folders import load_tokenizer
from rayalign.store.run_dir import RunDir
from tests.renderers import prompt_ids, renderer
from tests.tiny_run import adapter_files, make_base, make_saved_run

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def saved(base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return make_saved_run(tmp_path_factory.mktemp("runs") / "tiny", base)


def talk(saved: RunDir, text: str, round_index: int | None = None, **options: float) -> tuple[list[str], list[str]]:
    """(answers, what was said beside them)."""
    said: list[str] = []
    out = io.StringIO()
    settings = {"temperature": 0.0, "max_tokens": 6, **options}
    chat(
        str(saved.root), round_index, base=None, temperature=settings["temperature"],
        max_tokens=int(settings["max_tokens"]), source=io.StringIO(text), out=out, say=said.append,
    )  # fmt: skip
    return out.getvalue().splitlines(), said


def greedy(model: torch.nn.Module, ids: list[int], tokens: int) -> list[int]:
    """By hand, from whole forward passes."""
    made: list[int] = []
    with torch.no_grad():
        while len(made) < tokens and made[-1:] != [1]:
            made.append(int(model(input_ids=torch.tensor([ids + made])).logits[0, -1].argmax()))
    return made


@pytest.mark.parametrize("round_index", [0, None])
def test_answers_are_those_of_the_round(saved: RunDir, base: Path, tmp_path: Path, round_index: int | None) -> None:
    """Two turns, the second with the first in its context; round 0 is the base and answers otherwise."""
    model = AutoModelForCausalLM.from_pretrained(base)
    if round_index is None:
        export(str(saved.root), tmp_path / "a", say=lambda text: None)
        model = PeftModel.from_pretrained(model, str(tmp_path / "a"))
    tokenizer = load_tokenizer(base)
    messages, expected = [], []
    for text in ("w1 w2", "w3"):
        messages.append({"role": "user", "content": text})
        ids = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, return_dict=False)
        expected.append(tokenizer.decode(greedy(model.eval(), list(ids), 6), skip_special_tokens=True))
        messages.append({"role": "assistant", "content": expected[-1]})
    answers, said = talk(saved, "w1 w2\n\nw3\n", round_index)
    assert answers == expected
    name = "round 0: the base model" if round_index == 0 else "round 1: adapter of checksum"
    assert name in said[0] and str(base) in said[0]
    other, _ = talk(saved, "w1 w2\n", 0 if round_index is None else 1)
    assert other != answers[:1]


def test_full_context_is_said(base: Path) -> None:
    """64 tokens: each turn takes 9, so the seventh does not fit any more; a message alone may be too long, too."""
    model, said = ChatModel(base, None, "float32"), []
    model.tokenizer.chat_template = "<bos>{% for m in messages %}{{ m['content'] }} {% endfor %}"
    conversation = Conversation(
        model, renderer(model.tokenizer), max_tokens=20, temperature=0.0, top_p=1.0, say=said.append
    )
    for _ in range(6):
        list(conversation.answer("w1 w2"))
    assert any("the context is full)" in line or "the context of 64 tokens is full" in line for line in said)
    assert len(conversation.messages) < 12
    assert list(conversation.answer("w1 " * 70)) == []
    assert "71 tokens do not fit into the context of 64" in said[-1]
    assert list(conversation.answer("w1"))


def test_limit_is_said_and_sampling_differs_from_greedy(saved: RunDir) -> None:
    answers, said = talk(saved, "w1\n", max_tokens=3)
    assert len(answers[0].split()) <= 3 and said[-1] == "(cut at --max-tokens)"
    torch.manual_seed(0)
    warm = {talk(saved, "w1\n", temperature=5.0)[0][0] for _ in range(3)}
    assert len(warm) > 1


def test_bare_template_sees_one_message_alone(saved: RunDir, base: Path, tmp_path: Path) -> None:
    run = make_saved_run(tmp_path / "tiny", base)
    config = (run.root / "config.yaml").read_text()
    (run.root / "config.yaml").write_bytes(config.replace("template: auto", "template: none").encode())
    answers, said = talk(run, "w1 w2\nw1 w2\n")
    assert answers[0] == answers[1]
    assert any("each message alone" in line for line in said)


def test_a_named_template_is_that_of_the_run(base: Path, tmp_path: Path) -> None:
    run, tokenizer = make_saved_run(tmp_path / "tiny", base), load_tokenizer(base)
    config = (run.root / "config.yaml").read_text()
    (run.root / "config.yaml").write_bytes(config.replace("template: auto", "template: zephyr").encode())
    asked = prompt_ids([{"role": "user", "content": "w1 w2"}], tokenizer, "zephyr")
    made = greedy(AutoModelForCausalLM.from_pretrained(base).eval(), asked, 6)
    assert talk(run, "w1 w2\n", 0)[0] == [tokenizer.decode(made, skip_special_tokens=True)]
    assert talk(run, "w1 w2\n", 0)[0] != talk(make_saved_run(tmp_path / "own", base), "w1 w2\n", 0)[0]


def test_a_token_of_the_template_ends_an_answer_too(base: Path) -> None:
    """The model itself stops at its EOS alone."""
    model = ChatModel(base, None, "float32")
    options = {"max_tokens": 6, "temperature": 0.0, "top_p": 1.0}
    first = next(iter(greedy(model._model, [0, 3, 8], 1)))
    list(model.stream([0, 3, 8], stop_ids=[], **options))
    assert not model.stopped
    list(model.stream([0, 3, 8], stop_ids=[first], **options))
    assert model.stopped


PENALTIES = {
    "repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "min_new_tokens": 5, "suppress_tokens": list(range(2, 40)),
    "bad_words_ids": [[50]], "forced_eos_token_id": 63, "do_sample": True, "temperature": 0.1, "top_k": 1, "top_p": 0.1,
    "min_p": 0.9, "max_new_tokens": 2, "stop_strings": ["w"], "num_beams": 2,
}  # fmt: skip


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_the_bases_own_ideas_of_sampling_do_not_count(
    base: Path, tmp_path: Path, temperature: float, adapted: bool
) -> None:
    """A run samples without them; the tokens that end an answer are the base's, and its tokenizer's."""
    told = tmp_path / "told"
    shutil.copytree(base, told)
    files = adapter_files(base) if adapted else None
    plain = ChatModel(base, files, "float32")
    options = {"stop_ids": [], "max_tokens": 12, "temperature": temperature, "top_p": 1.0}

    def answer(model: ChatModel) -> list[int]:
        torch.manual_seed(1)
        assert "".join(model.stream([0, 3, 8], **options)) == model.tokenizer.decode(
            model.answer_T, skip_special_tokens=True
        )
        return model.answer_T

    whole = answer(plain)
    assert len(whole) == 12
    (told / "generation_config.json").write_text(json.dumps(PENALTIES | {"eos_token_id": [63]}))
    assert answer(ChatModel(told, files, "float32")) == whole
    (told / "generation_config.json").write_text(json.dumps(PENALTIES | {"eos_token_id": [63, whole[4]]}))
    assert answer(ChatModel(told, files, "float32")) == whole[: whole.index(whole[4]) + 1]
    tokenizer = json.loads((told / "tokenizer_config.json").read_text())
    (told / "generation_config.json").write_text(json.dumps({"eos_token_id": 63}))
    ended = tokenizer | {"eos_token": plain.tokenizer.convert_ids_to_tokens(whole[4])}
    (told / "tokenizer_config.json").write_text(json.dumps(ended))
    assert answer(ChatModel(told, files, "float32")) == whole[: whole.index(whole[4]) + 1]


CHANNELS = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}<eos>w7<bos>{% endif %}{{ m['content'] }} {% endfor %}"
)


def test_a_lead_is_no_part_of_an_earlier_answer(base: Path) -> None:
    """What the template writes before every answer is not written twice in the next prompt."""
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = CHANNELS
    one, model = renderer(tokenizer), ChatModel(base, None, "float32")
    lead = one.answer([{"role": "user", "content": "w3"}], "w9", "a")[:3]
    assert tokenizer.decode(lead) == "<eos> w7 <bos>"
    model.stream = lambda *_, **__: iter(["w7 ", "w9"])  # type: ignore[method-assign]
    model.answer_T = [*lead, *tokenizer("w9")["input_ids"]]
    talk = Conversation(model, one, max_tokens=6, temperature=0.0, top_p=1.0, say=print)
    assert "".join(talk.answer("w3")) == "w7 w9"
    assert talk.messages[-1]["content"].strip() == "w9"


def test_closing_stops_the_model_and_errors_come_out(base: Path) -> None:
    model = ChatModel(base, None, "float32")
    before = set(threading.enumerate())
    stream: Iterator[str] = model.stream([0, 3, 8], stop_ids=[], max_tokens=50, temperature=0.0, top_p=1.0)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= before
    with pytest.raises(IndexError):
        list(model.stream([0, 3, 9999], stop_ids=[], max_tokens=5, temperature=0.0, top_p=1.0))


def test_what_cannot_be_talked_to(saved: RunDir, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="round 5 is not there"):
        talk(saved, "w1\n", 5)
    with pytest.raises(ModelError, match="the run trained on a model of checksum"):
        chat(str(saved.root), 0, base=str(make_base(tmp_path / "b", context=32)), temperature=0.0, max_tokens=1,
             source=io.StringIO(""), out=io.StringIO(), say=lambda text: None)  # fmt: skip


@pytest.mark.slow
def test_pipe_and_interrupt_end_with_zero(saved: RunDir) -> None:
    command = [sys.executable, "-m", "rayalign", "chat", str(saved.root), "--temperature", "0", "--max-tokens", "3"]
    piped = subprocess.run(command, input="w1\nw2\n", capture_output=True, text=True, timeout=300)
    assert piped.returncode == 0
    assert len(piped.stdout.splitlines()) == 2
    assert "round 1: adapter of checksum" in piped.stderr and "Traceback" not in piped.stderr
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"w1\n")
    process.stdin.flush()
    while b"(cut" not in process.stdout.readline():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and b"Traceback" not in output
