"""The seven nouns: everything that crosses a process is one of these frozen records.

Row records (`Prompt`, `Sample`, `ScoredSample`, `TrainingGroup`) have one pyarrow schema each and are stored as
Parquet; `to_row` and `from_row` are exact inverses of each other. A failed score is missing, never a number.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Container
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
ADAPTER_WEIGHTS = "adapter_model.safetensors"
"""The file of an adapter folder whose SHA-256 is the adapter's checksum."""
ADAPTER_CONFIG = "adapter_config.json"
FULL_WEIGHTS = "model.safetensors"
"""The same file where a run trains all weights."""
FULL_CONFIG = "config.json"

FROM_DATASET = -1
"""`Sample.adapter_version` of a response that no adapter of the run produced."""

FinishReason = Literal["stop", "length"]
ScoreStatus = Literal["ok", "abstain", "error", "timeout"]
Verdict = Literal["perfect", "flawed"]
Message = dict[str, str]
"""A chat message: {"role": "user", "content": "..."}."""


def weights_file(names: Container[str]) -> str:
    """Which of an adapter's files has its weights."""
    return FULL_WEIGHTS if FULL_WEIGHTS in names else ADAPTER_WEIGHTS


def prompt_id(messages: list[Message]) -> str:
    """Identity of a prompt: the first 16 hex digits of the SHA-256 of its messages.

    >>> prompt_id([{"role": "user", "content": "List two animals."}])
    'db48538d1e904760'
    """
    canonical = json.dumps([[m["role"], m["content"]] for m in messages], ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt, tokenised once with the model's chat template.

    Example:
        >>> p = Prompt(id="db48538d1e904760", messages=[{"role": "user", "content": "List two animals."}],
        ...            token_ids=[1, 17, 4, 9, 2])
        >>> Prompt.from_row(p.to_row()) == p
        True
    """

    id: str
    """Hash of the content (`prompt_id`)."""
    messages: list[Message]
    """The conversation up to the turn that the model answers."""
    token_ids: list[int]
    """The messages in the chat template, generation header included."""
    target: str | None = None
    """The SFT answer, where the source has one."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Whatever else the source says of this prompt (JSON values); scorers may read it."""

    @property
    def text(self) -> str:
        """Content of the last message, what a scorer's `prompt` argument gets."""
        return self.messages[-1]["content"]

    def to_row(self) -> dict[str, Any]:
        return {**_shallow(self), "metadata": json.dumps(self.metadata, sort_keys=True)}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        return cls(**{**row, "metadata": json.loads(row["metadata"])})

    @staticmethod
    def schema() -> pa.Schema:
        import pyarrow as pa

        return pa.schema(
            [
                ("id", pa.string()),
                ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
                ("token_ids", pa.list_(pa.int32())),
                ("target", pa.string()),
                ("metadata", pa.string()),
            ]
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """One response of the model to one prompt.

    Example:
        >>> s = Sample(prompt_id="db48538d1e904760", index=0, text="cat, dog.", token_ids=[5, 6, 7, 2],
        ...            logprobs=[-0.5, -0.25, -0.125, 0.0], finish_reason="stop", adapter_version=0, seed=42)
        >>> Sample.from_row(s.to_row()) == s
        True
    """

    prompt_id: str
    index: int
    """0..K-1; (`prompt_id`, `index`) is unique in a round."""
    text: str
    """The response without special tokens, for scorers and people; never re-tokenised for training."""
    token_ids: list[int]
    """The tokens as sampled; the EOS is here only if the model produced it."""
    logprobs: list[float]
    """Raw log-probabilities of `token_ids` (temperature 1, nats), from the generator; empty for a dataset's answer."""
    finish_reason: FinishReason
    adapter_version: int
    """Version of the adapter that produced it; 0 is the base model, `FROM_DATASET` none of the run's."""
    seed: int

    def to_row(self) -> dict[str, Any]:
        return _shallow(self)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        return cls(**row)

    @staticmethod
    def schema() -> pa.Schema:
        import pyarrow as pa

        return pa.schema(
            [
                ("prompt_id", pa.string()),
                ("index", pa.int32()),
                ("text", pa.string()),
                ("token_ids", pa.list_(pa.int32())),
                ("logprobs", pa.list_(pa.float64())),
                ("finish_reason", pa.string()),
                ("adapter_version", pa.int32()),
                ("seed", pa.int64()),
            ]
        )


NOT_ASKED = "not asked: the others agree"
"""`Score.reason` where a scorer is asked only about answers on which the others disagree."""


@dataclass(frozen=True, slots=True)
class Score:
    """What one scorer said of one response. `reward` and `judgment` are null unless `status` is "ok".

    Example:
        >>> Score(scorer="rule:demo", scorer_version="1", status="ok", reward=0.5).reward
        0.5
    """

    scorer: str
    scorer_version: str
    status: ScoreStatus
    reward: float | None = None
    judgment: str | None = None
    verdict: Verdict | None = None
    preferred_over: int | None = None
    """Index of the sample of the same prompt that this one was preferred over."""
    aspects: dict[str, float] = field(default_factory=dict)
    latency_s: float = 0.0
    cost: float = 0.0
    """US dollars; 0 for local scorers."""
    reason: str | None = None
    """Why the status is not "ok", in words."""

    def to_row(self) -> dict[str, Any]:
        return {**_shallow(self), "aspects": json.dumps(self.aspects, sort_keys=True)}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        return cls(**{**row, "aspects": json.loads(row["aspects"])})

    @staticmethod
    def struct() -> pa.DataType:
        import pyarrow as pa

        return pa.struct(
            [
                ("scorer", pa.string()),
                ("scorer_version", pa.string()),
                ("status", pa.string()),
                ("reward", pa.float64()),
                ("judgment", pa.string()),
                ("verdict", pa.string()),
                ("preferred_over", pa.int32()),
                ("aspects", pa.string()),
                ("latency_s", pa.float64()),
                ("cost", pa.float64()),
                ("reason", pa.string()),
            ]
        )


@dataclass(frozen=True, slots=True)
class ScoredSample:
    """A sample, its scores, and the combined reward (null if no scorer gave one).

    Stored in two Parquet files of the same rows: `samples/` (`Sample.schema`) and `scores/` (`ScoredSample.schema`,
    which holds the keys and everything but the sample).
    """

    sample: Sample
    scores: list[Score]
    reward: float | None

    def to_row(self) -> dict[str, Any]:
        return {
            "prompt_id": self.sample.prompt_id,
            "index": self.sample.index,
            "reward": self.reward,
            "scores": [score.to_row() for score in self.scores],
        }

    @classmethod
    def from_row(cls, row: dict[str, Any], sample: Sample) -> Self:
        """Join a stored score row to its sample.

        Raises:
            ValueError: the row belongs to another sample.
        """
        if (row["prompt_id"], row["index"]) != (sample.prompt_id, sample.index):
            raise ValueError(f"score of {row['prompt_id']}/{row['index']} beside {sample.prompt_id}/{sample.index}")
        return cls(sample, [Score.from_row(score) for score in row["scores"]], row["reward"])

    @staticmethod
    def schema() -> pa.Schema:
        import pyarrow as pa

        return pa.schema(
            [
                ("prompt_id", pa.string()),
                ("index", pa.int32()),
                ("reward", pa.float64()),
                ("scores", pa.list_(Score.struct())),
            ]
        )


@dataclass(frozen=True, slots=True)
class TrainingGroup:
    """One prompt with its K responses, ready for the learner, or the reason why it is not.

    Example:
        >>> g = TrainingGroup(prompt_id="db48538d1e904760", prompt_token_ids=[1, 17, 4], response_indices=[0, 2],
        ...                   response_token_ids=[[5, 2], [6, 2]], response_logprobs=[[-1.0, 0.0], [-2.0, 0.0]],
        ...                   rewards=[1.0, 0.0])
        >>> g.keep, TrainingGroup.from_row(g.to_row()) == g
        (True, True)
    """

    prompt_id: str
    prompt_token_ids: list[int]
    response_indices: list[int]
    """`Sample.index` of each response."""
    response_token_ids: list[list[int]]
    response_logprobs: list[list[float]]
    """The generator's raw log-probabilities, token by token."""
    rewards: list[float | None]
    """Null for a response that no reward is known of; every list of this record has one entry per response, or none
    at all where no objective needs it."""
    judgments: list[str | None] = field(default_factory=list)
    verdicts: list[str | None] = field(default_factory=list)
    """`perfect` or `flawed`; null for a response that is not trained on by its judgment."""
    judged_prompt_token_ids: list[list[int]] = field(default_factory=list)
    """The prompt that asks for a response of this judgment; empty where it is not needed."""
    criticism_prompt_token_ids: list[list[int]] = field(default_factory=list)
    """Prompt and response in a prompt that asks for the judgment (Forward Prediction)."""
    criticism_token_ids: list[list[int]] = field(default_factory=list)
    """The judgment itself, as the answer to that prompt."""
    revised_token_ids: list[list[int]] = field(default_factory=list)
    """A better response that the model wrote after it saw the judgment (ILF); empty where there is none."""
    target_token_ids: list[int] | None = None
    drop_reason: str | None = None
    """Null where the group is trained on."""

    @property
    def keep(self) -> bool:
        return self.drop_reason is None

    def to_row(self) -> dict[str, Any]:
        return _shallow(self)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        return cls(**row)

    @staticmethod
    def schema() -> pa.Schema:
        import pyarrow as pa

        tokens = pa.list_(pa.int32())
        return pa.schema(
            [
                ("prompt_id", pa.string()),
                ("prompt_token_ids", tokens),
                ("response_indices", tokens),
                ("response_token_ids", pa.list_(tokens)),
                ("response_logprobs", pa.list_(pa.list_(pa.float64()))),
                ("rewards", pa.list_(pa.float64())),
                ("judgments", pa.list_(pa.string())),
                ("verdicts", pa.list_(pa.string())),
                ("judged_prompt_token_ids", pa.list_(tokens)),
                ("criticism_prompt_token_ids", pa.list_(tokens)),
                ("criticism_token_ids", pa.list_(tokens)),
                ("revised_token_ids", pa.list_(tokens)),
                ("target_token_ids", tokens),
                ("drop_reason", pa.string()),
            ]
        )


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a round made: a LoRA adapter, or all weights. Version 0 is the base model, explicit, with no folder.

    Example:
        >>> Adapter.base("ab12").is_base
        True
    """

    version: int
    """The round that made it."""
    path: str | None
    """Folder in PEFT format, or with all weights; null for the base."""
    sha256: str | None
    """Of its `weights_file`; null for the base."""
    base_model_sha256: str
    parent: int | None
    """Version of the adapter that training started from; null for the base."""

    @classmethod
    def base(cls, base_model_sha256: str) -> Self:
        return cls(version=0, path=None, sha256=None, base_model_sha256=base_model_sha256, parent=None)

    @property
    def is_base(self) -> bool:
        return self.version == 0


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured value with its 95 % interval.

    Example:
        >>> Metric(value=0.5, n=256, ci95=(0.45, 0.55)).to_dict()
        {'value': 0.5, 'n': 256, 'ci95': [0.45, 0.55]}
    """

    value: float
    n: int
    """How many answers (or pairs) it was measured on."""
    ci95: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        return {"value": self.value, "n": self.n, "ci95": list(self.ci95)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return cls(value=data["value"], n=data["n"], ci95=(data["ci95"][0], data["ci95"][1]))


@dataclass(frozen=True, slots=True)
class EvalReport:
    """One round's evaluation on the held-out prompts: metric name -> `Metric` (names: DESIGN section 6)."""

    round_index: int
    adapter_version: int
    metrics: dict[str, Metric]

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "round": self.round_index,
            "adapter_version": self.adapter_version,
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        metrics = {name: Metric.from_dict(metric) for name, metric in data["metrics"].items()}
        return cls(data["round"], data["adapter_version"], metrics)


def _shallow(record: Any) -> dict[str, Any]:
    """Field names to values, without the deep copies of `dataclasses.asdict`."""
    return {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
