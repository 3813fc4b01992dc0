"""A model to talk to, in transformers and PEFT, answering token by token."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from peft import PeftModel, PeftModelForCausalLM
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GenerationMixin,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from rayalign.learning.folders import context_length, load_model, load_tokenizer
from rayalign.learning.weights import put_weights
from rayalign.records import FULL_WEIGHTS
from rayalign.store.pretrained import move


class ChatModel:
    """A causal language model as the run had it after a round.

    Args:
        base: the folder of the base model.
        adapter: the files of a round's adapter, or of all weights, by name; None is the base itself.
        dtype: "float32" or "bfloat16".
        tokenizer: the folder of the tokenizer; None is the base's own.
    """

    def __init__(
        self, base: Path, adapter: Mapping[str, bytes] | None, dtype: str, tokenizer: Path | None = None
    ) -> None:
        self.tokenizer = load_tokenizer(tokenizer or base)
        self.context = context_length(base)
        self.stopped = True
        """Whether the last answer ended by itself."""
        self.answer_T: list[int] = []
        """The tokens of the last answer."""
        model = load_model(AutoModelForCausalLM, base, dtype=getattr(torch, dtype))
        eos = model.generation_config.eos_token_id
        ends = [*(eos if isinstance(eos, list) else [eos]), self.tokenizer.eos_token_id]
        self._ends = [number for number in ends if isinstance(number, int)]
        # Else `generate` would take from it what a call leaves open, as a penalty; a run samples without all that.
        model.generation_config = GenerationConfig()
        if adapter is not None and FULL_WEIGHTS in adapter:
            put_weights(model, adapter[FULL_WEIGHTS])
        elif adapter is not None:
            with tempfile.TemporaryDirectory(prefix="rayalign-chat-") as folder:
                for name, content in adapter.items():
                    (Path(folder) / name).write_bytes(content)
                model = PeftModel.from_pretrained(model, folder)
        move(model, "cuda" if torch.cuda.is_available() else "cpu")
        assert isinstance(model, GenerationMixin | PeftModelForCausalLM)
        self._model = model.eval()

    def stream(
        self, prompt_T: list[int], *, stop_ids: Sequence[int], max_tokens: int, temperature: float, top_p: float
    ) -> Iterator[str]:
        """The answer in pieces of text, as it is made; 0 as temperature takes the likeliest token each time.

        Args:
            stop_ids: tokens that end an answer beside the model's own.

        Closing the iterator early stops the model. What generation raises is raised here.
        """
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        given_up, failures = threading.Event(), []
        ends = [*self._ends, *stop_ids]
        sampled = {"temperature": temperature, "top_p": top_p, "top_k": 0} if temperature > 0 else {}
        settings = GenerationConfig(
            do_sample=temperature > 0,
            max_new_tokens=max_tokens,
            eos_token_id=ends or None,
            pad_token_id=self.tokenizer.pad_token_id or 0,
            **sampled,
        )
        ids_1T = torch.tensor([prompt_T], device=self._model.device)

        def generate() -> None:
            try:
                made_1T = self._model.generate(
                    input_ids=ids_1T,
                    attention_mask=torch.ones_like(ids_1T),
                    generation_config=settings,
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([_GivenUp(given_up)]),
                )
                self.answer_T = made_1T[0, len(prompt_T) :].tolist()
                self.stopped = self.answer_T[-1] in ends
            except Exception as error:
                failures.append(error)
                streamer.end()

        thread = threading.Thread(target=generate, daemon=True)
        thread.start()
        try:
            yield from (piece for piece in streamer if piece)
        finally:
            given_up.set()
            thread.join()
        if failures:
            raise failures[0]


class _GivenUp(StoppingCriteria):
    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor | None, **_: object) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._event.is_set(), dtype=torch.bool, device=input_ids.device)
