"""Strengths of players from comparisons of pairs (Bradley & Terry 1952), with bootstrap intervals. Pure.

P(i beats j) = 1 / (1 + exp(theta_j - theta_i)); a tie counts as half a win for each. A ridge on theta makes the fit
exist where a player wins or loses everything and where players never meet, and fixes what the model leaves open, the
sum of theta. Strengths are told as people know them: 400 / ln(10) points per unit of theta, with a mean of 1000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rayalign.evaluation.statistics import FloatArray
from rayalign.records import Metric

RIDGE = 0.1
"""Weight of theta^2 / 2 beside the log-likelihood: about what .4 games against an average player say."""
POINTS = 400 / float(np.log(10))
CENTRE = 1000.0
_STEPS, _LONGEST_STEP, _TOLERANCE = 200, 1.0, 1e-9


@dataclass(frozen=True, slots=True)
class Game:
    """One comparison: the share of `a` (1 won, .5 tie, 0 lost) against `b` on a prompt."""

    prompt: str
    a: str
    b: str
    share: float


def strengths(games: Sequence[Game], *, seed: int, resamples: int = 1000) -> dict[str, Metric]:
    """Points of every player, the strongest first; the interval is a bootstrap over prompts, `n` the player's games.

    Raises:
        ValueError: a share outside [0, 1], or a player who plays against himself.
    """
    if not games:
        return {}
    players = sorted({name for game in games for name in (game.a, game.b)})
    won_CPP = _won_by_prompt(games, players)
    value_P = _points(fit(won_CPP.sum(axis=0)[None]))[0]
    bounds_2P = _interval(won_CPP, value_P, seed, resamples)
    played_P = (won_CPP.sum(axis=0) + won_CPP.sum(axis=0).T).sum(axis=1)
    found = {
        name: Metric(float(value_P[i]), round(played_P[i]), (float(bounds_2P[0, i]), float(bounds_2P[1, i])))
        for i, name in enumerate(players)
    }
    return dict(sorted(found.items(), key=lambda pair: (-pair[1].value, pair[0])))


def fit(won_RPP: FloatArray) -> FloatArray:
    """theta [R, P] of R tables of wins, by Newton's method with steps of bounded length; the objective is concave.

    Args:
        won_RPP: wins of the row's player over the column's, ties as halves.
    """
    games_RPP = won_RPP + won_RPP.transpose(0, 2, 1)
    wins_RP = won_RPP.sum(axis=2)
    theta_RP = np.zeros(wins_RP.shape)
    eye_PP = np.eye(wins_RP.shape[1])
    for _ in range(_STEPS):
        chance_RPP = 1 / (1 + np.exp(theta_RP[:, None, :] - theta_RP[:, :, None]))
        gradient_RP = wins_RP - (games_RPP * chance_RPP).sum(axis=2) - RIDGE * theta_RP
        if np.abs(gradient_RP).max() < _TOLERANCE * max(1.0, float(games_RPP.max())):
            break
        weight_RPP = games_RPP * chance_RPP * (1 - chance_RPP)
        curvature_RPP = weight_RPP.sum(axis=2)[:, :, None] * eye_PP - weight_RPP + RIDGE * eye_PP
        step_RP = np.linalg.solve(curvature_RPP, gradient_RP[:, :, None])[:, :, 0]
        longest_R1 = np.abs(step_RP).max(axis=1, keepdims=True)
        theta_RP = theta_RP + step_RP * np.minimum(1.0, _LONGEST_STEP / np.maximum(longest_R1, _LONGEST_STEP))
    return theta_RP - theta_RP.mean(axis=1, keepdims=True)


def _points(theta_RP: FloatArray) -> FloatArray:
    return CENTRE + POINTS * theta_RP


def _won_by_prompt(games: Sequence[Game], players: list[str]) -> FloatArray:
    """Wins per prompt [C, P, P], in the order of the prompts' names."""
    place = {name: i for i, name in enumerate(players)}
    prompts = {name: c for c, name in enumerate(sorted({game.prompt for game in games}))}
    won_CPP = np.zeros((len(prompts), len(players), len(players)))
    for game in games:
        if game.a == game.b or not 0 <= game.share <= 1:
            raise ValueError(f"{game}: two players share one win")
        c, a, b = prompts[game.prompt], place[game.a], place[game.b]
        won_CPP[c, a, b] += game.share
        won_CPP[c, b, a] += 1 - game.share
    return won_CPP


def _interval(won_CPP: FloatArray, value_P: FloatArray, seed: int, resamples: int) -> FloatArray:
    """[2, P]; of a single prompt the spread cannot be known, and the interval is the value."""
    clusters = len(won_CPP)
    if clusters == 1:
        return np.stack([value_P, value_P])
    rng = np.random.default_rng(seed)
    drawn_RC = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples)
    drawn_RPP: FloatArray = np.tensordot(drawn_RC, won_CPP, axes=1).astype(np.float64)
    points_RP = _points(fit(drawn_RPP))
    return np.quantile(points_RP, [0.025, 0.975], axis=0)
