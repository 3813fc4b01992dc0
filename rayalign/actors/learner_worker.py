"""One rank of the learner: one policy under DeepSpeed for the whole run, and the work that all ranks do together."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist

from rayalign.actors.coordinator import LogpsWork, TurnWork, UpdateWork, Work
from rayalign.actors.process import check_torch
from rayalign.actors.thread_trial import use_best_threads
from rayalign.actors.threads import learner_tries
from rayalign.actors.zero import ZeroPolicy, ZeroShards
from rayalign.config.objective import CUTObjective
from rayalign.config.run import RunConfig
from rayalign.errors import GuardError
from rayalign.learning.flags import flagged_examples
from rayalign.learning.folders import load_tokenizer
from rayalign.learning.group_files import GroupFiles, GroupRows
from rayalign.learning.host_copy import HostCopy
from rayalign.learning.memory import halved
from rayalign.learning.model import build_policy
from rayalign.learning.objective import (
    Means,
    automatic_alpha,
    count_units,
    settled,
    streams_needed,
)
from rayalign.learning.packing import Row
from rayalign.learning.plan import Step, plan_steps
from rayalign.learning.shares import Note, part, reference_share
from rayalign.learning.step import (
    FiniteWatch,
    References,
    StepContext,
    empty_loss,
    generator_sums,
    learning_rate,
    means_of,
    micro_batch_loss,
    reference_gap,
    reference_sums,
    token_logps_of,
)
from rayalign.records import SAME_GAP, AdapterFiles, TokenSequence, UpdateResult, Which, weights_file

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

T = TypeVar("T")

SCORED_TOGETHER = 256
"""Groups whose reference log-probabilities are computed at a time: what they are made of is in memory together."""
COMPARED = 4
"""Groups on each rank whose reference log-probabilities from the generator are compared with the learner's."""
SHOWN_FLAGGED = 16
"""Groups of which the flagged tokens are stored for display."""


class LearnerWorker:
    """One rank. Every task brings the adapter that it starts from, so any attempt can take any task."""

    def __init__(self, config: RunConfig, model: Path, rank: int, world: int, halvings: int = 0) -> None:
        self._config, self._halvings = config, halvings
        self.training = halved(config.training, halvings)
        self._rank, self._world = rank, world
        check_torch(config.cluster.learner.gpus, "cluster.learner.gpus")
        self._device = "cuda" if config.cluster.learner.gpus > 0 else "cpu"
        torch.manual_seed(config.run.seed)
        training, turns = config.training, config.cluster.takes_turns
        self._policy = build_policy(
            model,
            config.model,
            # A worker may be started anew while the generators have the device.
            "cpu" if turns else self._device,
            checkpointing=training.gradient_checkpointing,
            sharding=ZeroShards(training) if training.zero_stage == 3 else None,
        )
        self._try_threads = partial(use_best_threads, self._policy, model, config.model.dtype)
        self._chosen = not learner_tries(config)
        self._home = HostCopy(self._policy, self._device, self._policy.look_again) if turns else None
        self._watch = FiniteWatch(self._policy.trainable())
        self._zero = ZeroPolicy(self._policy, config.training)
        self._tokenizer = load_tokenizer(model)
        self._base_name = config.model.base
        self._loaded: str | None = None

    def do(self, work: Work, note: Note) -> UpdateResult | list[list[float]] | None:
        """Do a task's work, together with all other ranks."""
        if self._home is not None:
            self._home.move(to_device=not isinstance(work, TurnWork) or work.takes)
        if not self._chosen and not isinstance(work, TurnWork):
            # Now that all actors have started: while others load, more threads than one seem to be of no use.
            self._chosen = True
            self._try_threads()
        match work:
            case TurnWork():
                return None
            case UpdateWork():
                return self.update(work, note)
            case LogpsWork():
                return self.logps(work.sequences, work.which, work.current, work.round_start)

    def update(self, work: UpdateWork, note: Note = lambda share: None) -> UpdateResult | None:
        """Train one round.

        Args:
            note: told after each micro-batch which share of the update is done, 0 to 1.
        """
        started, round_index = time.perf_counter(), work.round_index
        objectives = settled(self._config.objectives, round_index, work.reward_spread)
        data = GroupFiles(work.folder, work.files, streams_needed(objectives), packed=self._policy.shares_prompts)
        steps = self._plan(data.tokens, round_index)
        groups = data.read(sorted({g for step in steps for batch in step.ranks[self._rank] for g in batch}))
        self._load(work.sampler if self._config.reference == "round_start" else work.parent)
        references, facts, share = self._references(groups, note)
        self._load(work.parent)
        torch.manual_seed(self._config.run.seed * 10_007 + round_index)
        # Before the first step: what is shown is how the policy of the round's start reads its own answers.
        examples = self._flagged(data)
        history = []
        context = StepContext(objectives, round_index, self._device, self._policy.collate)
        # From here on the weights are nobody's: an update that breaks off must not pass for the adapter it began with.
        self._loaded = None
        with self._zero.updating() as (engine, optimizer):
            for number, step in enumerate(steps):
                rate = work.rate * learning_rate(self._config.training, round_index, number, len(steps))
                for parameter_group in optimizer.param_groups:
                    parameter_group["lr"] = rate
                stats = self._step(engine, step, groups, references, context, part(note, number, len(steps), share))
                history.append({"learning_rate": rate, **stats})
        with self._zero.whole():
            content = self._policy.adapter_files(self._base_name)
        sha256 = hashlib.sha256(content[weights_file(content)]).hexdigest()
        self._loaded = sha256
        facts |= {"steps": float(len(steps)), "tokens": float(sum(data.tokens))}
        facts |= {"budget_halvings": float(self._halvings)} if self._halvings else {}
        facts |= automatic_alpha(self._config.objectives, round_index, work.reward_spread)
        metrics = {**means_of(history), **facts, "seconds": time.perf_counter() - started}
        return UpdateResult(AdapterFiles(round_index, sha256, content), metrics, history, examples)

    def _plan(self, tokens: Sequence[int], round_index: int) -> list[Step]:
        """The steps of a round whose groups have so many tokens each."""
        training = self.training
        return plan_steps(
            tokens,
            seed=self._config.run.seed,
            round_index=round_index,
            epochs=training.epochs,
            group_batch=training.group_batch,
            tokens_per_micro_batch=training.tokens_per_micro_batch,
            workers=self._world,
        )

    def logps(
        self,
        sequences: Sequence[TokenSequence],
        which: Which,
        current: AdapterFiles | None,
        round_start: AdapterFiles | None,
    ) -> list[list[float]]:
        """Token log-probabilities; each rank computes a part of the sequences, and gets those of the others."""
        self._load({"current": current, "round_start": round_start, "base": current}[which])
        # Neighbours, which may share their prompt.
        first, end = (len(sequences) * rank // self._world for rank in (self._rank, self._rank + 1))
        rows = [(s.prompt_token_ids, s.response_token_ids) for s in sequences[first:end]]
        with self._scoring_as("base" if which == "base" else "round_start"):
            parts = self._gather(self._token_logps(rows))
        return [logps for part in parts for logps in part]

    def _token_logps(self, rows: Sequence[Row], note: Note = lambda share: None) -> list[list[float]]:
        """The log-probabilities of this rank's own rows; all ranks call it together."""
        return token_logps_of(
            self._policy,
            rows,
            self._device,
            self.training.tokens_per_micro_batch,
            self._policy.collate,
            packed=self._policy.shares_prompts,
            passes=lambda needed: max(self._gather(needed)),
            note=note,
        )

    def _load(self, files: AdapterFiles | None) -> None:
        wanted = "base" if files is None else files.sha256
        if wanted == self._loaded:
            return
        with self._zero.whole(write=True):
            if files is None:
                self._policy.reset_adapter(self._config.run.seed)
            else:
                self._policy.load_adapter(files.files)
        self._loaded = wanted

    @contextmanager
    def _scoring_as(self, reference: str) -> Iterator[None]:
        """Context without dropout, in which the policy is the base model for `base`, else as it stands."""
        self._zero.ready_to_score()
        self._policy.eval()
        try:
            if reference == "base":
                with self._policy.base_only():
                    yield
            else:
                yield
        finally:
            self._policy.train()

    def _references(self, groups: GroupRows, note: Note) -> tuple[dict[int, References], dict[str, float], float]:
        """Reference log-probabilities of each group, once per round before the first step; what was measured; and the
        share of the update that they took."""
        training, facts = self._config.training, dict[str, float]()
        with self._scoring_as(self._config.reference or "round_start"):
            if self._config.generator_may_be_reference:
                compared = [groups[g] for g in groups.positions[:COMPARED]]
                parts = self._gather(reference_gap(self._token_logps, compared))
                gap, tokens = (sum(found[i] for found in parts) for i in (0, 1))
                facts = {"reference_gap": gap / tokens}
                if training.reference_logps == "generator" or facts["reference_gap"] <= SAME_GAP:
                    return {g: generator_sums(groups[g]) for g in groups.positions}, facts, 0.0
            found, share = dict[int, References](), reference_share(training, self._config.objectives)
            # As many slices on every rank, so that all make the same passes.
            slices = range(0, max(self._gather(len(groups))), SCORED_TOGETHER)
            for number, start in enumerate(slices):
                score = partial(self._token_logps, note=part(note, number, len(slices), end=share))
                some = {g: groups[g] for g in groups.positions[start : start + SCORED_TOGETHER]}
                found |= reference_sums(score, some, self._config.objectives)
        return found, facts, share

    def _flagged(self, data: GroupFiles) -> list[dict[str, object]]:
        """What CUT flags in the round's first flawed responses, before the update."""
        cut = next((o for o in self._config.objectives if isinstance(o, CUTObjective)), None)
        if cut is None:
            return []
        shown = data.read(list(range(min(len(data.tokens), SHOWN_FLAGGED))))
        groups = [shown[g] for g in shown.positions]
        with self._scoring_as("round_start"):
            return flagged_examples(self._token_logps, groups, cut, self._tokenizer)

    def _step(
        self,
        engine: DeepSpeedEngine,
        step: Step,
        groups: GroupRows,
        references: dict[int, References],
        context: StepContext,
        note: Note,
    ) -> dict[str, float]:
        mine = [groups[g] for batch in step.ranks[self._rank] for g in batch]
        counts = self._gather(count_units(self._config.objectives, mine))
        units = {name: sum(count[name] for count in counts) for name in counts[0]}
        loss_sum, means = 0.0, Means()
        for number, batch in enumerate(step.ranks[self._rank]):
            note(number / len(step.ranks[self._rank]))
            if not batch:
                engine.backward(empty_loss(engine, context), scale_wrt_gas=False)
                continue
            loss, metrics = micro_batch_loss(
                engine, [groups[g] for g in batch], [references[g] for g in batch], context, units
            )
            # The engine averages over ranks; times their number, the sum over all groups is left.
            engine.backward(loss * self._world, scale_wrt_gas=False)
            loss_sum += float(loss.detach())
            means.merge(metrics)
        # Before the step, and on all ranks: one that stops alone would leave the others waiting inside it.
        self._check_finite(loss_sum, context.round_index)
        engine.step()
        norm = engine.get_global_grad_norm()
        total = Means()
        for found in self._gather(means):
            total.merge(found)
        facts = {"loss": sum(self._gather(loss_sum)), **({} if norm is None else {"grad_norm": float(norm)})}
        return {**facts, **total.values()}

    def _check_finite(self, loss: float, round_index: int) -> None:
        finite = self._watch.take() and math.isfinite(loss)
        bad = torch.tensor([0.0 if finite else 1.0], device=self._device)
        dist.all_reduce(bad)
        if bad.item():
            raise GuardError(
                f"round {round_index}: loss or gradient is not finite on {int(bad.item())} of {self._world} workers",
                "the update was not applied; the adapter of the round before is untouched",
                "lower training.learning_rate or objective.beta, or look at logs/learner-0.log; the run can be resumed",
            )

    def _gather(self, value: T) -> list[T]:
        """Every rank's value, in the order of the ranks."""
        gathered = [value] * self._world
        if self._world > 1:
            dist.all_gather_object(gathered, value)
        return gathered
