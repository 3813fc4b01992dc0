"""Win rate at equal length: how often an answer would win against one of the same number of tokens.

    wins and length differences of all pairs ─► logistic regression ─► its value at length difference 0

A judge that likes long answers lets a policy win that only pads. The regression is of the wins on an intercept and on
tanh(difference / standard deviation of the differences), the length term of AlpacaEval 2 (Dubois et al. 2024); it has
no term for the instruction and no model of the judge, so that its numbers are not AlpacaEval's. Every prompt has the
same weight. Firth's penalty (1993) keeps it finite where every pair is won.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rayalign.evaluation.statistics import FloatArray, share_interval
from rayalign.records import Metric

Answers = Mapping[str, Sequence[tuple[float | None, int]]]
"""Prompt id -> reward and length in tokens of each answer."""
STEPS = 100
LARGEST_STEP = 2.0
"""Of a coefficient in one step, so that a flat start is not left too far."""
CLOSE = 1e-9
LEAST_INFORMATION = 1e-9
"""Relative to the intercept's; below it the pairs do not tell the intercept from the length."""


def equal_length_win_rate(ours_R: Sequence[Answers], theirs_R: Sequence[Answers]) -> Metric | None:
    """The rate with its 95 % interval over prompts, and the number of compared pairs as `n`.

    Args:
        ours_R, theirs_R: the answers with the rewards of each repeat of the scoring; a pair of each repeat counts.

    Returns:
        None where no pair has rewards on both sides, or where all pairs differ by the same length and not by 0.
    """
    pairs = [pair for ours, theirs in zip(ours_R, theirs_R, strict=True) for pair in _pairs(ours, theirs)]
    if not pairs:
        return None
    prompts = {prompt: place for place, prompt in enumerate(sorted({prompt for prompt, *_ in pairs}))}
    prompt_N = np.array([prompts[prompt] for prompt, *_ in pairs])
    wins_N, longer_N = (np.array([pair[place] for pair in pairs], dtype=np.float64) for place in (1, 2))
    weights_N = 1 / np.bincount(prompt_N)[prompt_N]
    design_N2 = np.stack([np.ones_like(longer_N), _length_term(longer_N)], axis=-1)
    fit = _fit(design_N2 if longer_N.any() else design_N2[:, :1], wins_N, weights_N)
    if fit is None:
        return None
    intercept, inverse_DD, scores_ND = fit
    value = 1 / (1 + math.exp(-intercept))
    if len(prompts) == 1:
        return Metric(value, len(pairs), (value, value))
    changes_C = np.bincount(prompt_N, weights=scores_ND @ inverse_DD[0])
    between_prompts = float(np.sum(changes_C**2)) * len(prompts) / (len(prompts) - 1)
    # Where length or the side tells every winner, no prompt differs from the fit, and its own variance is what is left.
    per_prompt = 2 * math.sqrt(max(1.0, len(pairs) / len(ours_R) / len(prompts))) - 1
    variance = max(between_prompts, float(inverse_DD[0, 0]) / per_prompt) * (value * (1 - value)) ** 2
    one_sided = len(np.unique(wins_N)) == 1 and wins_N[0] != 0.5
    independent = len(prompts) if one_sided else len(pairs)
    return Metric(value, len(pairs), share_interval(value, variance, len(prompts), independent))


def _pairs(ours: Answers, theirs: Answers) -> list[tuple[str, float, int]]:
    """(prompt, 1 for a win, 0.5 for a tie or 0, tokens by which ours is longer) of every pair that has rewards."""
    return [
        (prompt, float(reward > other) + 0.5 * float(reward == other), length - other_length)
        for prompt in sorted(ours.keys() & theirs.keys())
        for reward, length in ours[prompt]
        for other, other_length in theirs[prompt]
        if reward is not None and other is not None
    ]


def _length_term(longer_N: FloatArray) -> FloatArray:
    spread = float(longer_N.std())
    return np.tanh(longer_N / spread) if spread > 0 else np.sign(longer_N)


def _fit(
    design_ND: FloatArray, wins_N: FloatArray, weights_N: FloatArray
) -> tuple[float, FloatArray, FloatArray] | None:
    """Intercept, inverse information and each pair's part of the score; None where the design is singular.

    The weights of a prompt's pairs sum to 1, so that the information is that of one comparison per prompt.
    """
    coefficients_D = np.zeros(design_ND.shape[1])
    inverse_DD, scores_ND = np.empty((0, 0)), np.empty((0, 0))
    for _ in range(STEPS):
        chances_N = 1 / (1 + np.exp(-design_ND @ coefficients_D))
        information_N = weights_N * chances_N * (1 - chances_N)
        information_DD = design_ND.T @ (design_ND * information_N[:, None])
        if np.linalg.eigvalsh(information_DD)[0] <= LEAST_INFORMATION * information_DD[0, 0]:
            return None
        inverse_DD = np.asarray(np.linalg.inv(information_DD), dtype=np.float64)
        leverage_N = information_N * np.einsum("nd,de,ne->n", design_ND, inverse_DD, design_ND)
        errors_N = weights_N * (wins_N - chances_N) + leverage_N * (0.5 - chances_N)
        scores_ND = design_ND * errors_N[:, None]
        step_D = inverse_DD @ scores_ND.sum(axis=0)
        coefficients_D = coefficients_D + np.clip(step_D, -LARGEST_STEP, LARGEST_STEP)
        if np.abs(step_D).max() < CLOSE:
            break
    return float(coefficients_D[0]), inverse_DD, scores_ND
