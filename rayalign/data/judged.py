"""Token ids of what objectives with judgments need beside prompt and response.

    judged prompt      instruction and judgment: answer so that the judgment fits     CUT, Hindsight
    criticism          instruction and response -> the judgment                       Forward Prediction
    revision prompt    instruction, response and judgment: answer better              ILF

Response tokens are never touched: every stream of a response ends in the same ids. A judgment that is too long is cut
before it is put into its template, so that the template's tail is always whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rayalign.config.objective import (
    ForwardPredictionObjective,
    HindsightObjective,
    JudgedObjective,
    JudgedPromptObjective,
    Objective,
    RevisionObjective,
)
from rayalign.data.token_ids import fill
from rayalign.records import Message, Prompt, TrainingGroup, prompt_id
from rayalign.rendering.renderer import ChatRenderer


class JudgedStreams:
    """Adds the streams that a run's objectives need to its groups.

    Args:
        renderer: of the policy's prompts; may be None where no objective reads judgments. The templates of the
            objectives are Alpaca's own relatives, so that they stand alone where `prompts.template` is `alpaca`, and
            inside any other.
    """

    def __init__(self, objectives: Sequence[Objective], renderer: ChatRenderer | None) -> None:
        self._objectives = objectives
        if renderer is not None and renderer.name == "alpaca":
            renderer = ChatRenderer(renderer.tokenizer, "none", renderer.date)
        self._given_renderer = renderer
        self._longest = max((o.judgment_max_tokens for o in objectives if isinstance(o, JudgedObjective)), default=0)

    @property
    def _renderer(self) -> ChatRenderer:
        assert self._given_renderer is not None
        return self._given_renderer

    def add(self, group: TrainingGroup, prompt: Prompt) -> TrainingGroup:
        """The group with its judged prompts and criticisms; unchanged where no objective needs any."""
        judged = next((o for o in self._objectives if isinstance(o, JudgedPromptObjective)), None)
        forward = next((o for o in self._objectives if isinstance(o, ForwardPredictionObjective)), None)
        changes: dict[str, list[list[int]]] = {}
        if judged is not None:
            everything = any(isinstance(o, HindsightObjective) for o in self._objectives)
            changes["judged_prompt_token_ids"] = [
                self._instruct(prompt, judged.judged_template, judgment=self.cut(text))
                if text is not None and (verdict == "flawed" or (everything and verdict is not None))
                else []
                for text, verdict in zip(group.judgments, group.verdicts, strict=True)
            ]
        if forward is not None:
            asked = [
                self._messages(prompt, forward.template, response=self._renderer.text_of(ids))
                for ids in group.response_token_ids
            ]
            name, given = f"criticism of {prompt.id}", self._renderer.behind_given()
            changes["criticism_prompt_token_ids"] = [given.prompt(messages, name) for messages in asked]
            changes["criticism_token_ids"] = [
                [] if text is None or verdict is None else given.answer(messages, self.cut(text), name)
                for messages, text, verdict in zip(asked, group.judgments, group.verdicts, strict=True)
            ]
        return dataclasses.replace(group, **changes) if changes else group

    def revision_prompts(self, prompt: Prompt, group: TrainingGroup) -> list[tuple[int, Prompt]]:
        """(response index, prompt that asks for a better one), for every flawed response."""
        section = next(o for o in self._objectives if isinstance(o, RevisionObjective))
        asked = []
        for i, text, verdict in zip(group.response_indices, group.judgments, group.verdicts, strict=True):
            if verdict == "flawed" and text is not None:
                response = self._renderer.text_of(group.response_token_ids[group.response_indices.index(i)])
                fields = {"response": response, "judgment": self.cut(text)}
                messages = self._messages(prompt, section.revise_template, **fields)
                # Two responses of one prompt may need the same revision prompt, but each gets its own answer.
                name = f"{prompt_id(messages)}-{prompt.id}-{i}"
                token_ids = self._renderer.prompt(messages, name)
                asked.append((i, Prompt(name, messages, token_ids)))
        return asked

    def cut(self, judgment: str) -> str:
        """The judgment, or its first `judgment_max_tokens` tokens."""
        ids = self._renderer.tokenizer(judgment, add_special_tokens=False)["input_ids"]
        if len(ids) <= self._longest:
            return judgment
        text = self._renderer.tokenizer.decode(ids[: self._longest], skip_special_tokens=True)
        assert isinstance(text, str)
        return text

    def overhead(self) -> int:
        """Tokens that the longest template adds to instruction, response and judgment."""
        templates = [o.judged_template for o in self._objectives if isinstance(o, JudgedPromptObjective)]
        templates += [o.template for o in self._objectives if isinstance(o, ForwardPredictionObjective)]
        templates += [o.revise_template for o in self._objectives if isinstance(o, RevisionObjective)]
        empty = dict.fromkeys(("instruction", "response", "judgment"), "")
        return max((len(self._renderer.tokenizer(fill(t, **empty))["input_ids"]) for t in templates), default=0)

    def _instruct(self, prompt: Prompt, template: str, **fields: str) -> list[int]:
        messages = self._messages(prompt, template, **fields)
        return self._renderer.prompt(messages, f"judged prompt {prompt.id}")

    def _messages(self, prompt: Prompt, template: str, **fields: str) -> list[Message]:
        *before, last = prompt.messages
        return [*before, {**last, "content": fill(template, instruction=last["content"], **fields)}]
