"""How much work a round is: answers, tokens and floating-point operations, from the config and the model's sizes."""

from __future__ import annotations

from dataclasses import dataclass

from rayalign.config.run import RunConfig
from rayalign.learning.shape import ModelShape


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of a prompt and of an answer, its end included; means for time, the longest for memory."""

    prompt: float
    answer: float

    @classmethod
    def longest(cls, config: RunConfig) -> Lengths:
        return cls(config.prompts.max_tokens, config.max_response_tokens)


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt with its K answers as the learner packs them: the prompt once, each answer without its last token."""

    lengths: Lengths
    answers: float

    @property
    def tokens(self) -> float:
        """T = P + K (A - 1)."""
        return self.lengths.prompt + self.answers * (self.lengths.answer - 1)

    @property
    def targets(self) -> float:
        """Answer tokens, which reach the output head: K A."""
        return self.answers * self.lengths.answer

    def pairs(self, window: float | None = None) -> float:
        """(token, token it sees): P (P + 1) / 2 in the prompt, and of each answer (A - 1) P + (A - 1) A / 2; with a
        window W, of a token at position i of its path min(i, W)."""
        prompt, answer = self.lengths.prompt, self.lengths.answer
        if window is None:
            return prompt * (prompt + 1) / 2 + self.answers * (answer - 1) * (prompt + answer / 2)

        def seen(tokens: float) -> float:
            inside = min(tokens, window)
            return inside * (inside + 1) / 2 + (tokens - inside) * window

        return seen(prompt) + self.answers * (seen(prompt + answer - 1) - seen(prompt))


def attention_flops(shape: ModelShape, group: Group) -> float:
    """4 FLOP per pair, head and dimension in each layer; layers with a sliding window have fewer pairs."""
    full = group.pairs() * (shape.layers - shape.windowed)
    pairs = full + (group.pairs(shape.window) * shape.windowed if shape.windowed else 0)
    return 4 * pairs * shape.heads * shape.head_dim


def forward_flops(shape: ModelShape, group: Group) -> float:
    """2 N T for the matrices, with the adapter's; attention; the head on answer tokens. N counts the matrices between
    embedding and head; of experts the active ones."""
    matrices = 2 * (shape.linear + shape.lora) * group.tokens
    return matrices + attention_flops(shape, group) + 2 * shape.head * group.targets


def training_flops(shape: ModelShape, group: Group, *, full: bool, remade: int = 0) -> float:
    """Forward and backward of a group.

    Backward costs as much as forward again for frozen matrices, twice as much for trained ones and for attention. With
    checkpointing the forward pass of the layers that it remakes is made once more.

    Args:
        remade: of the model's layers.
    """
    forward = forward_flops(shape, group)
    trained = shape.linear if full else shape.lora
    again = (forward - 2 * shape.head * group.targets) * remade / shape.layers
    return 2 * forward + attention_flops(shape, group) + 2 * trained * group.tokens + again


@dataclass(frozen=True, slots=True)
class RoundLoad:
    """What one round asks for, over all replicas and ranks."""

    sampled: int
    """Answers sampled for training; 0 where a dataset gives them."""
    evaluated: int
    """Answers sampled for evaluation."""
    sampled_tokens: float
    evaluated_tokens: float
    group: Group
    groups: int
    steps: int
    """Optimizer steps."""
    micro_batches: int
    """Of one rank, all steps together."""
    update_flops: float
    reference_flops: float
    """The pass for reference log-probabilities, before the first step."""
    kl_flops: float
    """The passes of policy and base over the evaluation's answers, which the ranks share."""

    @property
    def trained_tokens(self) -> float:
        """Tokens of one epoch's packed sequences."""
        return self.groups * self.group.tokens


def round_load(config: RunConfig, shape: ModelShape, lengths: Lengths) -> RoundLoad:
    """The load of a round in which the group of every prompt is kept and all objectives learn from the answers alone.

    Args:
        lengths: the means to count with.
    """
    training, prompts, held_out = config.training, config.prompts.per_round, config.evaluation
    group = Group(lengths, config.sampling.responses)
    # Rules on `prompts.holdout` of small sources are not known here: it counts as given.
    evaluated = config.prompts.holdout * (held_out.responses + held_out.greedy)
    per_rank = -(-training.group_batch // training.workers)
    steps = training.epochs * -(-prompts // training.group_batch)
    fits = max(1, int(training.tokens_per_micro_batch // group.tokens))
    flops = training_flops(shape, group, full=config.model.full, remade=training.remade(shape.layers))
    # `auto` finds that the generator computes as the learner does where both do so in float32.
    same = (config.model.dtype, config.model.quantization) == ("float32", "none")
    spared = config.generator_may_be_reference and (training.reference_logps == "generator" or same)
    asks = config.reference is not None and not spared
    kl_group = Group(lengths, held_out.responses)
    return RoundLoad(
        sampled=0 if config.samples is not None else prompts * config.sampling.responses,
        evaluated=evaluated,
        sampled_tokens=0 if config.samples is not None else prompts * group.targets,
        evaluated_tokens=evaluated * lengths.answer,
        group=group,
        groups=prompts,
        steps=steps,
        micro_batches=steps * -(-per_rank // fits),
        update_flops=training.epochs * prompts * flops,
        reference_flops=prompts * forward_flops(shape, group) if asks else 0,
        kl_flops=2 * config.prompts.holdout * forward_flops(shape, kl_group),
    )
