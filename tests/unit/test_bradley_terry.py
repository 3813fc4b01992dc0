"""Bradley-Terry strengths: by hand where a closed form is known, by known strengths where games are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from rayalign.evaluation.benchmarks.bradley_terry import CENTRE, POINTS, RIDGE, Game, fit, strengths


def test_two_players_by_hand() -> None:
    """75 of 100 won: theta_a - theta_b is d with 75 - 100 s(d) = .1 d / 2, since theta_a = -theta_b = d / 2. Without
    the ridge d is ln 3 = 1.0986; with it a little less."""
    theta = fit(np.array([[[0.0, 75.0], [25.0, 0.0]]]))[0]
    d = theta[0] - theta[1]
    assert 75 - 100 / (1 + np.exp(-d)) == pytest.approx(RIDGE * d / 2, abs=1e-8)
    assert d == pytest.approx(np.log(3), abs=0.01) and d < np.log(3)
    assert theta.sum() == pytest.approx(0)


def test_the_fit_is_the_maximum_that_a_general_optimiser_finds() -> None:
    won = np.random.default_rng(0).uniform(0, 20, size=(5, 5)) * (1 - np.eye(5))

    def loss(theta: np.ndarray) -> float:
        gaps = theta[:, None] - theta[None, :]
        return float((won * np.log1p(np.exp(-gaps))).sum() + RIDGE * (theta**2).sum() / 2)

    found = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-8}).x
    assert fit(won[None])[0] == pytest.approx(found - found.mean(), abs=1e-5)


def test_known_strengths_are_found_again() -> None:
    rng, true = np.random.default_rng(1), {"a": 0.8, "b": 0.0, "c": -0.8}
    games = []
    for prompt in range(1000):
        for a, b in (("a", "b"), ("b", "c"), ("a", "c")):
            won = rng.random() < 1 / (1 + np.exp(true[b] - true[a]))
            games.append(Game(str(prompt), a, b, float(won)))
    found = strengths(games, seed=0)
    assert list(found) == ["a", "b", "c"]
    for name, metric in found.items():
        assert metric.ci95[0] < CENTRE + POINTS * true[name] < metric.ci95[1]
        assert metric.value == pytest.approx(CENTRE + POINTS * true[name], abs=15)
        assert metric.n == 2000


def test_all_ties_are_equal_strengths() -> None:
    found = strengths([Game(str(i), "a", "b", 0.5) for i in range(50)], seed=0)
    assert {(m.value, m.ci95) for m in found.values()} == {(CENTRE, (CENTRE, CENTRE))}


def test_all_wins_do_not_diverge() -> None:
    """100 of 100 won: 100 / (1 + e^d) = .1 d / 2 has d near 5.9."""
    theta = fit(np.array([[[0.0, 100.0], [0.0, 0.0]]]))[0]
    d = theta[0] - theta[1]
    assert 100 / (1 + np.exp(d)) == pytest.approx(RIDGE * d / 2, abs=1e-7)
    assert 5 < d < 7


def test_players_who_never_meet_have_a_place_each() -> None:
    """a beats b, and c beats d: the two pairs are alike, and neither is above the other."""
    games = [Game(str(i), *pair, 1.0) for i in range(20) for pair in (("a", "b"), ("c", "d"))]
    found = strengths(games, seed=0)
    assert found["a"].value == pytest.approx(found["c"].value)
    assert found["a"].value - CENTRE == pytest.approx(CENTRE - found["b"].value)


def test_the_order_of_games_does_not_matter_and_the_seed_repeats() -> None:
    rng = np.random.default_rng(2)
    games = [Game(str(i), "a", "b", float(rng.random() < 0.7)) for i in range(30)]
    assert strengths(games, seed=3) == strengths(games[::-1], seed=3)
    assert strengths(games, seed=3) != strengths(games, seed=4)


def test_a_single_prompt_has_no_spread_and_no_games_have_no_players() -> None:
    one = strengths([Game("p", "a", "b", 1.0)], seed=0)
    assert one["a"].ci95 == (one["a"].value, one["a"].value)
    assert strengths([], seed=0) == {}


@pytest.mark.parametrize(
    "game", [Game("p", "a", "a", 1.0), Game("p", "a", "b", 1.5), Game("p", "a", "b", float("nan"))]
)
def test_impossible_games_are_refused(game: Game) -> None:
    with pytest.raises(ValueError, match="share one win"):
        strengths([game], seed=0)
