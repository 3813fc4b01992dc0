"""Every objective through a whole micro-batch, against its formula on log-probabilities read off a table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, strategies as st
from pydantic import TypeAdapter

from rayalign.config.base import RoundSchedule
from rayalign.config.objective import Objective
from rayalign.learning.families import FAMILIES, reward_pairs
from rayalign.learning.objective import Means, count_units, streams_compared, streams_needed
from rayalign.learning.packing import Batch
from rayalign.learning.step import References, StepContext, micro_batch_loss, reference_sums, token_logps_of
from rayalign.records import TrainingGroup

torch.set_num_threads(1)

VOCABULARY = 16
SETTINGS: dict[str, dict[str, Any]] = {
    "nca": {"alpha": 0.5, "beta": 0.3},
    "info_nca": {"alpha": 0.2, "beta": 0.7},
    "dpo": {"beta": 0.4, "pairs": "all"},
    "pairwise_nca": {"beta": 0.4, "pairs": "best_worst"},
    "biased_nca": {"beta": 0.4, "pairs": "all"},
    "spin": {"beta": 0.6},
    "spin_hinge": {"beta": 0.6},
    "self_contrast": {"beta": 0.6},
    "cut": {"threshold": 1.2, "unlikelihood_weight": 0.5, "gamma": 0.5},
    "hindsight": {},
    "forward_prediction": {},
    "ilf_mle": {},
    "ilf_dpo": {"beta": 0.25},
    "sft": {},
}


def objective(kind: str, **changes: Any) -> Any:
    return TypeAdapter(Objective).validate_python({"type": kind, **SETTINGS[kind], **changes})


class Bigrams(torch.nn.Module):
    """A float64 policy whose next token depends on the last one alone: log p(b | a) is an entry of a table."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.logits_VV = torch.nn.Parameter(
            2 * torch.randn(VOCABULARY, VOCABULARY, generator=generator, dtype=torch.float64)
        )

    def forward(self, batch: Batch) -> torch.Tensor:
        last_N = batch.input_ids_BT.flatten()[batch.predicting_N]
        return self.logits_VV.log_softmax(-1)[last_N, batch.targets_N]

    def table(self) -> torch.Tensor:
        return self.logits_VV.log_softmax(-1)


def group(prompt: list[int], responses: list[list[int]], rewards: list[float | None], **streams: Any) -> TrainingGroup:
    zeros = [[0.0] * len(response) for response in responses]
    return TrainingGroup("p", prompt, list(range(len(responses))), responses, zeros, rewards, **streams)


GROUPS = [
    group(
        [1, 2, 3], [[4, 5], [6], [7, 8, 9, 10]], [1.0, 0.0, 0.5],
        judgments=["bad", "Perfect.", "worse"],
        verdicts=["flawed", "perfect", "flawed"],
        judged_prompt_token_ids=[[1, 14], [1, 15], [2, 15, 12]],
        criticism_prompt_token_ids=[[3, 3, 1], [2], [5, 6]],
        criticism_token_ids=[[9, 9, 8], [1], [2, 3]],
        revised_token_ids=[[4, 6, 7], [], [8]],
        target_token_ids=[11, 12, 13],
    ),
    # One reward alone compares with nothing; one revision repeats its response; one judgment is missing.
    group(
        [4], [[1, 2, 3, 4, 5], [6, 7]], [None, 0.75],
        judgments=[None, "bad"],
        verdicts=[None, "flawed"],
        judged_prompt_token_ids=[[], [9, 8, 11]],
        criticism_prompt_token_ids=[[1], [2]],
        criticism_token_ids=[[], [3, 4, 5, 6]],
        revised_token_ids=[[], [6, 7]],
    ),
    # Rewards and a target, nobody judged it.
    group([9, 8, 7], [[1], [2], [3, 3], [4, 4, 4], [5]], [0.0, 1.0, None, -1.0, 2.0], target_token_ids=[2]),
    # Equal rewards, and praise only.
    group(
        [2, 2], [[11, 12], [12, 11]], [1.0, 1.0],
        judgments=["Perfect.", "Perfect."],
        verdicts=["perfect", "perfect"],
        judged_prompt_token_ids=[[], []],
        criticism_prompt_token_ids=[[5], [6]],
        criticism_token_ids=[[7], [7]],
        revised_token_ids=[[], []],
    ),
    # No reward at all, one response.
    group([3, 1], [[13]], [None], target_token_ids=[14, 0]),
]  # fmt: skip
REFERENCE = Bigrams(seed=7)


def logps(table: torch.Tensor, prompt: list[int], ids: list[int]) -> torch.Tensor:
    """[T] log-probabilities of the ids after the prompt."""
    return torch.stack([table[a, b] for a, b in zip([prompt[-1], *ids], ids, strict=False)])


def ratio(table: torch.Tensor, prompt: list[int], ids: list[int]) -> torch.Tensor:
    """log pi(y|x) - log mu(y|x)."""
    return logps(table, prompt, ids).sum() - logps(REFERENCE.table().detach(), prompt, ids).sum()


def mean_nll(table: torch.Tensor, prompt: list[int], ids: list[int]) -> torch.Tensor:
    return -logps(table, prompt, ids).mean()


Terms = Callable[[torch.Tensor, TrainingGroup, Any], list[torch.Tensor]]


def known_scores(table: torch.Tensor, g: TrainingGroup, o: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """(s, w) of the responses with a reward; None where fewer than two have one."""
    known = [(ids, r) for ids, r in zip(g.response_token_ids, g.rewards, strict=True) if r is not None]
    if len(known) < 2:
        return None
    s_K = o.beta * torch.stack([ratio(table, g.prompt_token_ids, ids) for ids, _ in known])
    return s_K, torch.tensor([r / o.alpha for _, r in known], dtype=torch.float64).softmax(0)


def nca(table: torch.Tensor, g: TrainingGroup, o: Any) -> list[torch.Tensor]:
    """-sum w log sigma(s) - (1/K) sum log sigma(-s), K the responses with a reward."""
    if (found := known_scores(table, g, o)) is None:
        return []
    s_K, w_K = found
    return [-(w_K * F.logsigmoid(s_K)).sum() - F.logsigmoid(-s_K).sum() / len(s_K)]


def info_nca(table: torch.Tensor, g: TrainingGroup, o: Any) -> list[torch.Tensor]:
    """-sum w log softmax(s)."""
    if (found := known_scores(table, g, o)) is None:
        return []
    return [-(found[1] * found[0].log_softmax(0)).sum()]


PAIRS = {
    "all": {0: [(0, 2), (0, 1), (2, 1)], 2: [(4, 1), (4, 0), (4, 3), (1, 0), (1, 3), (0, 3)]},
    "best_worst": {0: [(0, 1)], 2: [(4, 3)]},
}
"""Of `GROUPS`, by hand: rewards 1, 0, 0.5 and 0, 1, none, -1, 2."""


def by_reward(formula: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Terms:
    def terms(table: torch.Tensor, g: TrainingGroup, o: Any) -> list[torch.Tensor]:
        s = [o.beta * ratio(table, g.prompt_token_ids, ids) for ids in g.response_token_ids]
        return [formula(s[i], s[j]) for i, j in PAIRS[o.pairs].get(GROUPS.index(g), [])]

    return terms


def spin(table: torch.Tensor, g: TrainingGroup, o: Any) -> list[torch.Tensor]:
    """-log sigma(s_target - s_first)."""
    if g.target_token_ids is None:
        return []
    x, first = g.prompt_token_ids, g.response_token_ids[0]
    return [-F.logsigmoid(o.beta * (ratio(table, x, g.target_token_ids) - ratio(table, x, first)))]


def spin_hinge(table: torch.Tensor, g: TrainingGroup, o: Any) -> list[torch.Tensor]:
    """What is missing to a distance of 1."""
    if g.target_token_ids is None:
        return []
    x, first = g.prompt_token_ids, g.response_token_ids[0]
    return [(1 - o.beta * (ratio(table, x, g.target_token_ids) - ratio(table, x, first))).clamp(min=0)]


def self_contrast(table: torch.Tensor, g: TrainingGroup, o: Any) -> list[torch.Tensor]:
    """The mean over a group's responses of -log sigma(s_target - s_j)."""
    if g.target_token_ids is None:
        return []
    x = g.prompt_token_ids
    target = ratio(table, x, g.target_token_ids)
    terms = [-F.logsigmoid(o.beta * (target - ratio(table, x, ids))) for ids in g.response_token_ids]
    return [torch.stack(terms).mean()]


def cut(table: torch.Tensor, g: TrainingGroup, o: Any) -> list[torch.Tensor]:
    """Perfect: the mean NLL. Flawed: token by token -log p, or -weight p_j^gamma log(1 - p) where p_j > threshold p;
    plus the mean NLL behind the judged prompt."""
    terms = []
    for i, verdict in enumerate(g.verdicts):
        plain = logps(table, g.prompt_token_ids, g.response_token_ids[i])
        if verdict == "perfect":
            terms.append(-plain.mean())
        if verdict == "flawed":
            judged = logps(table, g.judged_prompt_token_ids[i], g.response_token_ids[i])
            p, p_j = plain.exp(), judged.exp()
            weight = o.unlikelihood_weight * p_j.detach() ** o.gamma
            tokens = torch.where(p_j > o.threshold * p, weight * torch.log(1 - p), plain)
            terms.append(-tokens.mean() - judged.mean())
    return terms


def hindsight(table: torch.Tensor, g: TrainingGroup, o: Any) -> list[torch.Tensor]:
    pairs = zip(g.judged_prompt_token_ids, g.response_token_ids, strict=False)
    return [mean_nll(table, prompt, ids) for prompt, ids in pairs if prompt]


def forward_prediction(table: torch.Tensor, g: TrainingGroup, o: Any) -> list[torch.Tensor]:
    rows = zip(g.response_token_ids, g.criticism_prompt_token_ids, g.criticism_token_ids, strict=False)
    return [mean_nll(table, g.prompt_token_ids, y) + mean_nll(table, asked, j) for y, asked, j in rows if j]


def revisions(g: TrainingGroup) -> list[tuple[list[int], list[int]]]:
    """(better, response) where the better one differs."""
    pairs = zip(g.revised_token_ids, g.response_token_ids, strict=False)
    return [(better, ids) for better, ids in pairs if better and better != ids]


def ilf_dpo(table: torch.Tensor, g: TrainingGroup, o: Any) -> list[torch.Tensor]:
    x = g.prompt_token_ids
    return [-F.logsigmoid(o.beta * (ratio(table, x, b) - ratio(table, x, ids))) for b, ids in revisions(g)]


TERMS: dict[str, Terms] = {
    "nca": nca,
    "info_nca": info_nca,
    "dpo": by_reward(lambda w, l: -F.logsigmoid(w - l)),  # noqa: E741
    "pairwise_nca": by_reward(
        lambda w, l: -F.logsigmoid(w) - (F.logsigmoid(-w) + F.logsigmoid(-l)) / 2  # noqa: E741
    ),
    "biased_nca": by_reward(lambda w, l: -F.logsigmoid(w) - F.logsigmoid(-l)),  # noqa: E741
    "spin": spin,
    "spin_hinge": spin_hinge,
    "self_contrast": self_contrast,
    "cut": cut,
    "hindsight": hindsight,
    "forward_prediction": forward_prediction,
    "ilf_mle": lambda table, g, o: [mean_nll(table, g.prompt_token_ids, better) for better, _ in revisions(g)],
    "ilf_dpo": ilf_dpo,
    "sft": lambda table, g, o: [
        mean_nll(table, g.prompt_token_ids, ids)
        for ids, verdict in zip(g.response_token_ids, g.verdicts, strict=False)
        if verdict == "perfect"
    ],
}
UNITS = {
    "nca": 3, "info_nca": 3, "dpo": 9, "pairwise_nca": 2, "biased_nca": 9, "spin": 3, "spin_hinge": 3,
    "self_contrast": 3, "cut": 6, "hindsight": 4, "forward_prediction": 6, "ilf_mle": 2, "ilf_dpo": 2, "sft": 3,
}  # fmt: skip
"""Of `GROUPS`: three have two or more rewards; 3 + 6 or 1 + 1 pairs; three targets; verdicts 3 + 1 + 2 (3 of them
perfect); judged prompts 3 + 1; judgments 3 + 1 + 2; revisions that differ 2."""


def references(groups: Sequence[TrainingGroup], objectives: Sequence[Any]) -> list[References]:
    """In float64, from the table alone: the sums of every stream that is compared."""
    table = REFERENCE.table().detach()
    kinds = streams_compared(objectives)
    found = []
    for g in groups:
        rows = {("response", i): ids for i, ids in enumerate(g.response_token_ids)}
        rows |= {("revision", i): ids for i, ids in enumerate(g.revised_token_ids) if ids}
        rows |= {("target", 0): g.target_token_ids} if g.target_token_ids else {}
        sums = {key: float(logps(table, g.prompt_token_ids, ids).sum()) for key, ids in rows.items() if key[0] in kinds}
        found.append(sums)
    return found


def learned(
    objectives: Sequence[Any], parts: Sequence[Sequence[TrainingGroup]], round_index: int = 1
) -> tuple[float, torch.Tensor, Means]:
    """(loss, gradient, metrics) of a step in these micro-batches."""
    policy, means, total = Bigrams(), Means(), 0.0
    units = count_units(objectives, [g for part in parts for g in part])
    for part in parts:
        context = StepContext(objectives, round_index)
        loss, metrics = micro_batch_loss(policy, part, references(part, objectives), context, units)
        loss.backward()
        total += float(loss.detach())
        means.merge(metrics)
    assert policy.logits_VV.grad is not None
    return total, policy.logits_VV.grad, means


def expected(objectives: Sequence[Any], groups: Sequence[TrainingGroup]) -> tuple[float, torch.Tensor]:
    """(loss, gradient): for each objective its weight times the mean of its terms."""
    policy = Bigrams()
    table = policy.table()
    terms = [(o.weight, [term for g in groups for term in TERMS[o.type](table, g, o)]) for o in objectives]
    loss = torch.stack([weight * torch.stack(of_one).mean() for weight, of_one in terms]).sum()
    (gradient,) = torch.autograd.grad(loss, policy.logits_VV)
    return float(loss.detach()), gradient


def assert_learns(objectives: Sequence[Any], parts: Sequence[Sequence[TrainingGroup]]) -> None:
    loss, gradient, _ = learned(objectives, parts)
    wanted_loss, wanted_gradient = expected(objectives, [g for part in parts for g in part])
    assert loss == pytest.approx(wanted_loss, rel=1e-12)
    assert float(wanted_gradient.abs().max()) > 1e-3
    torch.testing.assert_close(gradient, wanted_gradient, rtol=0, atol=1e-13)


def test_every_family_is_tested() -> None:
    assert set(FAMILIES) == set(TERMS) == set(UNITS) == set(SETTINGS)


@pytest.mark.parametrize("kind", FAMILIES)
def test_loss_and_gradient_are_the_formulas(kind: str) -> None:
    assert_learns([objective(kind)], [GROUPS])


SPLITS = [[[0], [1], [2], [3], [4]], [[2, 0], [4, 3, 1]], [[1, 4], [0, 2, 3]], [[3], [4, 2, 1, 0]]]


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_micro_batches_add_up(kind: str, split: list[list[int]]) -> None:
    """Whatever is together, also where a micro-batch has nothing of the objective, and where it has no stream."""
    assert_learns([objective(kind)], [[GROUPS[i] for i in part] for part in split])


@pytest.mark.parametrize(
    "kinds",
    [("nca", "cut"), ("ilf_mle", "ilf_dpo"), ("dpo", "spin", "sft"), ("hindsight", "forward_prediction", "cut")],
    ids="+".join,
)
@pytest.mark.parametrize("split", [[[0, 1, 2, 3, 4]], *SPLITS[:2]], ids=str)
def test_objectives_add_up_with_their_weights(kinds: tuple[str, ...], split: list[list[int]]) -> None:
    """Each is a mean over its own units: NCA's 3 groups do not dilute CUT's 6 rows."""
    objectives = [objective(kind, weight=0.5 + i) for i, kind in enumerate(kinds)]
    assert_learns(objectives, [[GROUPS[i] for i in part] for part in split])


@pytest.mark.parametrize("kind", ["dpo", "pairwise_nca", "biased_nca"])
@pytest.mark.parametrize("pairs", ["all", "best_worst"])
def test_both_ways_to_pair(kind: str, pairs: str) -> None:
    assert_learns([objective(kind, pairs=pairs)], [GROUPS])


def test_count_units() -> None:
    objectives = [objective(kind) for kind in FAMILIES]
    assert count_units(objectives, GROUPS) == UNITS
    assert set(count_units(objectives, [GROUPS[4]]).items()) >= {("nca", 0), ("spin", 1), ("self_contrast", 1)}
    assert set(count_units(objectives, []).values()) == {0}


def test_a_target_without_responses_is_no_unit() -> None:
    empty = group([1], [], [], target_token_ids=[2])
    assert count_units([objective("spin"), objective("self_contrast")], [empty]) == {"spin": 0, "self_contrast": 0}


def test_streams() -> None:
    assert streams_needed([objective("nca")]) == {"response"}
    assert streams_needed([objective("hindsight"), objective("ilf_mle")]) == {"judged", "revision"}
    assert streams_compared([objective("cut"), objective("sft"), objective("ilf_mle")]) == set()
    assert streams_compared([objective("cut"), objective("ilf_dpo"), objective("spin")]) == {
        "response", "revision", "target",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["nca", "spin", "ilf_dpo"])
def test_references_are_of_the_streams_that_are_compared(kind: str) -> None:
    sums = reference_sums(
        lambda rows: token_logps_of(REFERENCE, rows, "cpu", 20), dict(enumerate(GROUPS)), [objective(kind)]
    )
    for found, wanted in zip(sums.values(), references(GROUPS, [objective(kind)]), strict=True):
        assert found.keys() == wanted.keys()
        assert found == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("rewards", "best_worst", "every"),
    [
        ([1.0, 0.0, 0.5], [(0, 1)], [(0, 2), (0, 1), (2, 1)]),
        ([None, 0.0, None, 2.0], [(3, 1)], [(3, 1)]),
        ([0.5, 0.5, 0.5], [], []),
        ([1.0, 0.0, 1.0, 0.0], [(0, 1)], [(0, 1), (0, 3), (2, 1), (2, 3)]),
        ([0.0, 1.0, 1.0], [(1, 0)], [(1, 0), (2, 0)]),
        ([None, None], [], []),
        ([1.0], [], []),
        ([], [], []),
    ],
)
def test_reward_pairs(
    rewards: list[float | None], best_worst: list[tuple[int, int]], every: list[tuple[int, int]]
) -> None:
    """Of equals the first is the best and the first is the worst; equals make no pair."""
    g = group([1], [[2]] * len(rewards), rewards)
    assert reward_pairs(objective("dpo", pairs="best_worst"), g) == best_worst
    assert reward_pairs(objective("dpo", pairs="all"), g) == every


@given(st.lists(st.none() | st.integers(-2, 2).map(float), max_size=6))
def test_all_pairs_are_those_with_different_rewards(rewards: list[float | None]) -> None:
    pairs = reward_pairs(objective("dpo", pairs="all"), group([1], [[2]] * len(rewards), rewards))
    wanted = {
        (i, j) for (i, a), (j, b) in itertools.permutations(enumerate(rewards), 2) if None not in (a, b) and a > b
    }  # type: ignore[operator]
    assert set(pairs) == wanted
    assert len(pairs) == len(wanted)


@pytest.mark.parametrize("kind", ["nca", "info_nca"])
def test_responses_without_a_reward_are_not_there(kind: str) -> None:
    """With null rewards in front, between and behind: as if those responses had never been sampled."""
    responses: list[list[int]] = [[1], [2, 3], [4], [5, 6, 7], [8]]
    holes = group([9, 9], responses, [None, 1.0, None, 0.0, None])
    without = group([9, 9], [[2, 3], [5, 6, 7]], [1.0, 0.0])
    (loss, gradient, _), (wanted, wanted_gradient, _) = (learned([objective(kind)], [[g]]) for g in (holes, without))
    assert loss == pytest.approx(wanted, rel=1e-13)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=0, atol=1e-14)


def judged_group(*verdicts: str) -> TrainingGroup:
    rows = [[4, 5], [6, 7, 8], [9]][: len(verdicts)]
    judged = [[1, 14] if verdict == "flawed" else [] for verdict in verdicts]
    nothing = [None] * len(verdicts)
    return group(
        [1, 2], rows, nothing, judgments=["x"] * len(verdicts), verdicts=list(verdicts), judged_prompt_token_ids=judged
    )


def test_edge_16_cut_of_positives_is_their_likelihood() -> None:
    """No negative: plain NLL per row, without a half; the same as SFT."""
    g = judged_group("perfect", "perfect")
    loss, gradient, means = learned([objective("cut")], [[g]])
    table = Bigrams().table().detach()
    rows = [mean_nll(table, [1, 2], [4, 5]), mean_nll(table, [1, 2], [6, 7, 8])]
    assert loss == pytest.approx(float(sum(rows)) / 2, rel=1e-12)
    sft = learned([objective("sft")], [[g]])
    assert loss == pytest.approx(sft[0], rel=1e-13)
    torch.testing.assert_close(gradient, sft[1], rtol=0, atol=1e-14)
    assert means.values()["cut/negative_rows"] == 0
    assert "cut/flagged_share" not in means.values()


def test_edge_16_cut_of_negatives_is_the_mean_of_both_terms() -> None:
    """All negative: the mean over rows of L1 + L2, whole, not halved."""
    g = judged_group("flawed", "flawed", "flawed")
    loss, _, means = learned([objective("cut")], [[g]])
    assert loss == pytest.approx(expected([objective("cut")], [g])[0], rel=1e-12)
    parts = means.values()
    three = ("cut/plain_likelihood", "cut/judged_likelihood", "cut/unlikelihood")
    assert sum(parts[name] for name in three) == pytest.approx(loss)
    assert parts["cut/negative_rows"] == 1
    assert parts["cut/negative_tokens"] == pytest.approx((2 + 3 + 1) / 3)


def test_edge_16_a_row_of_cut_does_not_depend_on_its_neighbours() -> None:
    """Mixed: the loss is the mean of what each row costs alone (the release halves what stands beside a negative)."""
    alone = [
        group(
            [1, 2], [row], [None], judgments=["x"], verdicts=[verdict],
            judged_prompt_token_ids=[[1, 14] if verdict == "flawed" else []],
        )
        for row, verdict in (([4, 5], "perfect"), ([6, 7, 8], "flawed"), ([9], "perfect"))
    ]  # fmt: skip
    mixed, _, means = learned([objective("cut")], [[judged_group("perfect", "flawed", "perfect")]])
    assert mixed == pytest.approx(sum(learned([objective("cut")], [[g]])[0] for g in alone) / 3, rel=1e-12)
    assert means.values()["cut/negative_rows"] == pytest.approx(1 / 3)


def test_cut_reads_a_positive_behind_its_plain_prompt_only() -> None:
    """Hindsight beside CUT gives positives a judged prompt too; CUT's loss does not change."""
    g = judged_group("perfect", "flawed")
    both = group(
        [1, 2], g.response_token_ids, [None] * 2, judgments=g.judgments, verdicts=g.verdicts,
        judged_prompt_token_ids=[[5, 5], [1, 14]],
    )  # fmt: skip
    assert learned([objective("cut")], [[both]])[0] == pytest.approx(learned([objective("cut")], [[g]])[0], rel=1e-13)
    assert count_units([objective("hindsight")], [both, g]) == {"hindsight": 3}


@pytest.mark.parametrize("kind", ["nca", "cut", "spin"])
def test_every_scheduled_number_moves(kind: str) -> None:
    """From 1 to 0.5 over two rounds: in round 2 and 3 as with 0.5 given outright, in round 1 as with 1."""
    moving = {"nca": ("alpha", "beta", "weight"), "cut": ("unlikelihood_weight", "weight"), "spin": ("beta", "weight")}
    for name in moving[kind]:
        scheduled = objective(kind, **{name: RoundSchedule(start=1.0, end=0.5, rounds=2)})
        for round_index, value in ((1, 1.0), (2, 0.5), (3, 0.5)):
            fixed = learned([objective(kind, **{name: value})], [GROUPS])
            loss, gradient, _ = learned([scheduled], [GROUPS], round_index)
            assert loss == fixed[0]
            assert torch.equal(gradient, fixed[1])
        assert learned([scheduled], [GROUPS], 1)[0] != loss


def test_each_objective_reports_its_own_loss() -> None:
    """Unweighted, whatever the micro-batches."""
    objectives = [objective("nca", weight=3.0), objective("cut", weight=0.1)]
    means = learned(objectives, [GROUPS[:2], GROUPS[2:]])[2].values()
    for o in objectives:
        assert means[f"loss/{o.type}"] == pytest.approx(expected([objective(o.type)], GROUPS)[0], rel=1e-12)


def test_groups_without_units_learn_nothing() -> None:
    """A step of groups that an objective can do nothing with: loss 0, gradient 0, no metric."""
    for kind, groups in (("nca", [GROUPS[1], GROUPS[4]]), ("cut", [GROUPS[2]]), ("ilf_mle", [GROUPS[3], GROUPS[4]])):
        loss, gradient, means = learned([objective(kind)], [groups])
        assert loss == 0
        assert not gradient.any()
        assert means.values() == {}


def test_means_by_hand() -> None:
    """(1 x 2 + 4 x 1) / 3 = 2; what is not a number has no weight either."""
    means = Means()
    means.add("a", 1.0, 2)
    means.add("a", math.nan, 5)
    means.add("a", 4.0, 1)
    means.add("b", math.nan, 1)
    assert means.values() == {"a": 2.0}


values = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(-100, 100) | st.just(math.nan), st.integers(1, 9)), max_size=12
)


@given(values, st.integers(0, 12))
def test_merged_means_are_those_of_the_whole(entries: list[tuple[str, float, int]], at: int) -> None:
    whole, first, second = Means(), Means(), Means()
    for position, entry in enumerate(entries):
        whole.add(*entry)
        (first if position < at else second).add(*entry)
    first.merge(second)
    assert first.values() == pytest.approx(whole.values(), abs=1e-12)
    assert list(first.values()) == sorted({name for name, value, _ in entries if not math.isnan(value)})
