"""What the checks of `doctor --gpu` share: models, a config, inputs, and a run's parts without Ray."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rayalign.config.run import RunConfig
from rayalign.errors import DeviceError
from rayalign.records import (
    Adapter,
    AdapterFiles,
    Expected,
    Prompt,
    ReplicaState,
    SampledShard,
    SamplingPlan,
    Shard,
    TokenSequence,
    TrainingGroup,
    Which,
)
from rayalign.store.tables import parquet_bytes

if TYPE_CHECKING:
    from rayalign.actors.engine import Engine
    from rayalign.actors.learner_worker import LearnerWorker

Device = Literal["cuda", "cpu"]
FILE_IT = "file an issue with this table and the log"
MOST_GAP = 0.05
"""Nats per token by which engine and learner may differ on the same weights; bfloat16 makes some thousandths."""
WORDS = 256
"""Tokens are drawn below this number, which both models' vocabularies have."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A device, and a folder that keeps the models between the checks."""

    device: Device
    folder: Path

    @property
    def dtype(self) -> str:
        return "bfloat16" if self.device == "cuda" else "float32"

    def model(self, kind: Literal["small", "large"], context: int = 1024) -> Path:
        """A model of random weights; on CPU all are small."""
        from rayalign.demo.random_model import LARGE, SMALL, make_random_model

        sizes = LARGE if (kind, self.device) == ("large", "cuda") else SMALL
        folder = self.folder / f"{sizes.hidden}x{sizes.layers}"
        # The weights come last: a folder without them is of a check that was ended.
        if not (folder / "model.safetensors").exists():
            make_random_model(folder, sizes, context, self.dtype)
        return folder

    def config(self, model: Path, *, prompt: int, answer: int, responses: int = 4) -> RunConfig:
        gpus = 1 if self.device == "cuda" else 0
        return RunConfig.model_validate(
            {
                "run": {"name": "doctor"},
                "model": {"base": str(model), "dtype": self.dtype},
                "prompts": {"source": "demo", "max_tokens": prompt},
                "sampling": {"responses": responses, "max_tokens": answer},
                "scoring": [{"type": "rule", "function": "demo"}],
                "objective": {"type": "nca"},
                "training": {"learning_rate": 1e-3, "tokens_per_micro_batch": 4096},
                "sync": {"mode": "adapter"},
                "cluster": {"generators": {"gpus": gpus}, "learner": {"gpus": gpus}},
            }
        )


def make_prompts(count: int, tokens: int) -> list[Prompt]:
    """Prompts of random tokens, the same every time."""
    rng = random.Random(0)
    return [Prompt(f"p{i}", [], [rng.randrange(3, WORDS) for _ in range(tokens)]) for i in range(count)]


def write_groups(file: Path, count: int, prompt: int, answer: int, responses: int) -> None:
    """Groups of random tokens and rewards, the same every time."""
    rng = random.Random(1)
    rows = []
    for one in make_prompts(count, prompt):
        tokens = [[rng.randrange(3, WORDS) for _ in range(answer)] for _ in range(responses)]
        logps = [[-1.0] * answer for _ in range(responses)]
        rewards = [rng.random() for _ in range(responses)]
        group = TrainingGroup(one.id, one.token_ids, list(range(responses)), tokens, logps, [*rewards])
        rows.append(group.to_row())
    file.write_bytes(parquet_bytes(rows, TrainingGroup.schema()))


def check_gap(what: str, left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> float:
    """Mean |difference| of the log-probabilities, nats per token.

    Raises:
        DeviceError: it is more than rounding makes.
    """
    pairs = [(a, b) for x, y in zip(left, right, strict=True) for a, b in zip(x, y, strict=True)]
    gap = sum(abs(a - b) for a, b in pairs) / len(pairs)
    if not gap <= MOST_GAP:
        raise DeviceError(
            f"{what}: log-probabilities differ by {gap:.4f} nats per token",
            f"the same weights should give the same, within {MOST_GAP}",
            FILE_IT,
        )
    return gap


class EngineGenerator:
    """`Generator` over one engine in this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def load(self, adapter: Adapter, files: AdapterFiles | None) -> list[ReplicaState]:
        return [self._engine.hold(adapter.version, files)]

    def sample(self, shards: Iterable[Shard], plan: SamplingPlan, adapter: Adapter) -> Iterator[SampledShard]:
        for shard in shards:
            yield SampledShard(shard, self._engine.sample(shard.prompts, plan, adapter.version))

    def under_way(self) -> int:
        return 0

    def logps(self, sequences: Sequence[TokenSequence], adapter: Adapter) -> dict[str, list[list[float]]]:
        return {self._engine.replica: self._engine.logps(sequences, adapter.version)}

    def expect(self, expected: Expected) -> None:
        """Nothing: no replica comes later."""


class WorkerLearner:
    """What `AdapterSync` asks of a `Learner`, by a worker in this process."""

    def __init__(self, worker: LearnerWorker) -> None:
        self._worker = worker

    def logps(
        self,
        sequences: Sequence[TokenSequence],
        which: Which,
        current: AdapterFiles | None,
        round_start: AdapterFiles | None = None,
    ) -> list[list[float]]:
        return self._worker.logps(sequences, which, current, round_start)
