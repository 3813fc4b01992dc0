"""The checks of a round's scores: canaries and anchors through real judges, counts that add up, gaps by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from rayalign.config.run import RunConfig
from rayalign.errors import StageTimeoutError
from rayalign.evaluation.alarms import alarms
from rayalign.evaluation.canaries import CANARIES, COMBINED, CanaryBattery, comparing_scorers
from rayalign.evaluation.counts import OTHER, ScoreCounter, plain_reason
from rayalign.evaluation.drift import drift
from rayalign.evaluation.gap import proxy_gap
from rayalign.loop.run import run_rounds
from rayalign.records import NOT_ASKED, Message, Prompt, Sample, SampledShard, Score, ScoredSample, ScoredShard, Shard
from rayalign.scoring.backend import Backend
from rayalign.scoring.rules.scorer import RuleScorer
from rayalign.scoring.services.cache import ScoreCache, bypassed
from rayalign.store.tables import read_parquet
from tests.fakes import make_config, make_run
from tests.unit.judge_cases import judge, prompt, samples, shown

PROMPTS = [prompt("List two animals."), prompt("List two towns.")]
REAL = ("cat, dog", "a", "b, c", "x y z")


class Local:
    """`Scorer` with real backends in this process; the first one's reward is the reward."""

    def __init__(self, *backends: Backend) -> None:
        self.backends = backends

    def score(self, sampled: Iterable[SampledShard]) -> Iterator[ScoredShard]:
        for item in sampled:
            owners = {one.id: one for one in item.shard.prompts}
            with bypassed() if item.fresh else nullcontext():
                columns = [b.score([owners[s.prompt_id] for s in item.samples], item.samples) for b in self.backends]
            rows = zip(item.samples, *columns, strict=True)
            yield ScoredShard(item.shard, [ScoredSample(s, list(own), own[0].reward) for s, *own in rows])


def real_rows(*backends: Backend) -> list[ScoredSample]:
    shard = SampledShard(Shard(0, tuple(PROMPTS)), [s for one in PROMPTS for s in samples(one, *REAL)])
    return next(Local(*backends).score([shard])).rows


def scored(prompt_id: str, index: int, *scores: Score, reward: float | None = None, tokens: int = 1) -> ScoredSample:
    sample = Sample(prompt_id, index, f"answer {index}", [1] * tokens, [0.0] * tokens, "stop", 0, 0)
    return ScoredSample(sample, list(scores), reward)


def ok(reward: float | None, scorer: str = "judge:a", version: str = "1", **facts: Any) -> Score:
    return Score(scorer, version, "ok", reward, **facts)


def battery_results(rows: list[ScoredSample], comparing: frozenset[str], *backends: Backend) -> dict[str, Any]:
    battery = CanaryBattery(PROMPTS, rows, comparing)
    done = next(Local(*backends).score([battery.shard()]))
    return battery.results(done, [backend.name for backend in backends])


def test_a_rule_that_loves_length_falls_for_the_long_canaries() -> None:
    """Real answers are 1 to 8 characters long (median 4.5): the empty answer and the colon alone are shorter."""
    rule = RuleScorer("rule:length", "1", lambda prompt, response: float(len(response)))
    results = battery_results(real_rows(rule), frozenset(), rule)["rule:length"]
    assert list(results) == list(CANARIES)
    assert {name for name, one in results.items() if not one["alarm"]} == {"empty", "colon"}
    assert results["null_model"] == {"compared": 2, "beat": 2, "missing": 0, "alarm": True}


def test_a_canary_that_a_scorer_fails_on_is_missing_and_no_win() -> None:
    def breaks(prompt: str, response: str) -> float:
        return 1.0 / len(response)

    rule = RuleScorer("rule:breaks", "1", breaks)
    results = battery_results(real_rows(rule), frozenset(), rule)["rule:breaks"]
    assert results["empty"] == {"compared": 0, "beat": 0, "missing": 2, "alarm": False}
    assert results["colon"]["alarm"] is True


def test_a_pairwise_judge_meets_each_canary_with_one_real_answer() -> None:
    """Two questions per canary and prompt, never one with two canaries; a judge that prefers the refusal is caught."""

    def answer(messages: Sequence[Message]) -> dict[str, Any]:
        first, second = (shown(messages, f"response {label}").startswith("I'm sorry") for label in "AB")
        return {"better": "A" if first else "B" if second else "tie"}

    made, transport = judge("pairwise", answer)
    rows = [dataclasses.replace(row, reward=row.scores[0].reward) for row in real_rows(made)]
    transport.sent.clear()
    results = battery_results(rows, frozenset({made.name}), made)[made.name]
    made.close()
    assert len(transport.sent) == 2 * len(CANARIES) * len(PROMPTS)
    texts = [{shown(sent, "response A"), shown(sent, "response B")} for sent in transport.sent]
    assert all(len(both & set(REAL)) == 1 for both in texts)
    assert [name for name, one in results.items() if one["alarm"]] == ["refusal"]


def test_scorers_that_compare_are_told_from_the_config() -> None:
    pairwise = {"type": "judge", "transport": "openai", "base_url": "http://h/v1", "model": "m", "template": "pairwise"}
    rule = {"type": "rule", "function": "demo"}

    def compare(*scoring: dict[str, Any]) -> frozenset[str]:
        return comparing_scorers(make_config(scoring=list(scoring)))

    assert compare(rule) == frozenset()
    assert compare(rule, pairwise) == {"judge:pairwise:m", COMBINED}
    assert compare(rule, {**pairwise, "weight": 0.0}) == {"judge:pairwise:m"}
    assert compare({**rule, "calibration": "zscore"}) == {COMBINED}


def test_anchors_are_asked_anew_and_leave_the_cache_alone(tmp_path: Path) -> None:
    """Round 0: 12 answers are judged and cached. The judge is then replaced behind its endpoint: the cache would hide
    it; asked anew the anchors show it, and the cached judgments stay."""
    rating = [5]
    made, transport = judge("rating", lambda messages: {"rating": rating[0]}, cache=ScoreCache(tmp_path))
    rows = real_rows(made)
    shard = SampledShard(Shard(0, tuple(PROMPTS)), [row.sample for row in rows], fresh=True)
    asked = len(transport.sent)
    before = next(Local(made).score([shard])).rows
    assert transport.sent[asked:] == transport.sent[:asked], "the very same questions"
    rating[0] = 8
    now = next(Local(made).score([shard])).rows
    stored = next(Local(made).score([dataclasses.replace(shard, fresh=False)])).rows
    made.close()
    assert [row.scores[0].reward for row in now] == [8.0] * 8
    assert [(row.scores[0].reward, row.scores[0].aspects) for row in stored] == [(5.0, {"cached": 1.0})] * 8
    found = drift(before, before, now, seed=0)[made.name]
    assert (found["mean_change"], found["changed"], found["noise"], found["alarm"]) == (3.0, 1.0, 0.0, True)


def anchors(*values: float | str, version: str = "1") -> list[ScoredSample]:
    """Two per prompt; a text is a verdict."""
    return [
        scored(
            f"p{i // 2}", i % 2, ok(None, verdict=v, version=version) if isinstance(v, str) else ok(v, version=version)
        )  # type: ignore[arg-type]
        for i, v in enumerate(values)
    ]


def test_drift_by_hand() -> None:
    """Scores 0 and 1 in turn: spread 0.5. All rise by 0.04: below a tenth of the spread. By 0.06: above it."""
    first = [float(i % 2) for i in range(16)]
    same = anchors(*first)
    small = drift(same, same, anchors(*(one + 0.04 for one in first)), seed=0)["judge:a"]
    assert (small["compared"], small["spread"], small["alarm"]) == (16, 0.5, False)
    assert (small["mean_change"], small["changed"]) == (pytest.approx(0.04), 1.0)
    assert drift(same, same, anchors(*(one + 0.06 for one in first)), seed=0)["judge:a"]["alarm"] is True


def test_what_asking_twice_changes_is_no_drift() -> None:
    """Between the first two scorings 8 of 16 verdicts differ, and 8 others between the first and now."""
    first = anchors(*(["perfect", "flawed"] * 8))
    again = anchors(*(["flawed", "flawed"] * 8))
    now = anchors(*(["perfect", "perfect"] * 8))
    found = drift(first, again, now, seed=0)["judge:a"]
    assert (found["changed"], found["changed_noise"], found["alarm"]) == (0.5, 0.5, False)
    assert drift(first, first, now, seed=0)["judge:a"]["alarm"] is True


def test_one_anchor_that_changed_is_no_alarm_and_another_version_no_drift() -> None:
    first = anchors(*([0.0, 1.0] * 8))
    found = drift(first, first, anchors(*([0.0, 1.0] * 7), 0.0, 0.0), seed=0)["judge:a"]
    assert (found["changed"], found["alarm"]) == (1 / 16, False)
    other = drift(first, first, anchors(*([9.0] * 16), version="2"), seed=0)["judge:a"]
    assert other == {"compared": 0, "missing": 16, "alarm": False}


def counted(rows: list[ScoredSample], scorer: str) -> dict[str, Any]:
    """In two shards."""
    counter = ScoreCounter([scorer])
    counter.add(rows[:2])
    counter.add(rows[2:])
    return counter.facts(seed=0)[scorer]


def test_counts_add_up() -> None:
    """6 answers, one of them without a score of this scorer; reasons differ in numbers and quotations alone."""
    rows = [
        scored("p", 0, ok(0.5, aspects={"truncated": 1.0}, latency_s=1.0, cost=0.25)),
        scored("p", 1, ok(0.5, latency_s=3.0, cost=0.5)),
        scored("p", 2, Score("judge:a", "1", "error", reason="HTTP 503: 'busy until 12:30'")),
        scored("q", 0, Score("judge:a", "1", "error", reason="HTTP 503: 'busy until 12:31'")),
        scored("q", 1, Score("judge:a", "1", "timeout", reason="no reply within 60 s")),
        scored("q", 2),
    ]
    found = counted(rows, "judge:a")
    assert found["status"] == {"error": 2, "ok": 2, "timeout": 1, "unscored": 1}
    assert sum(found["status"].values()) == found["answers"] == len(rows)
    assert found["reasons"] == {"error: HTTP 503: …": 2, "timeout: no reply within # s": 1}
    assert (found["aspects"], found["cost"], found["latency_s"]) == (
        {"truncated": 1.0}, 0.75, {"mean": 2.0, "max": 3.0}
    )  # fmt: skip


def test_many_reasons_are_counted_as_others() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    rows = [scored("p", i, Score("s", "1", "error", reason=f"broken {one}")) for i, one in enumerate(letters)]
    reasons = counted(rows, "s")["reasons"]
    assert (len(reasons), reasons[OTHER], sum(reasons.values())) == (21, 6, 26)
    assert plain_reason(None) == "no reason given"


def test_flip_rate_of_a_judge_that_always_takes_the_first() -> None:
    """Six pairs per prompt, all flipped; a comparison that stands in two scores counts once."""
    made, _ = judge("pairwise", lambda messages: {"better": "A"})
    found = counted(real_rows(made), made.name)
    made.close()
    assert found["flip_rate"] == {"value": 1.0, "n": 12, "ci95": [1.0, 1.0]}
    assert found["aspects"] == {"comparisons": 24.0, "flips": 24.0}


def two(prompt_id: str, proxy: float, gold: float) -> ScoredSample:
    return scored(prompt_id, 0, ok(proxy, "proxy"), ok(gold, "gold"))


def test_gap_by_hand() -> None:
    """Round 0: proxy 0 and 4 (spread 2), gold 0 and 1 (spread 0.5). The proxy rises by 2 and 4: by 1 and 2 spreads,
    1.5 on average. Gold falls by 0.25 and 0.5: by 0.5 and 1, 0.75 on average. The gap is 2.25; hacking."""
    first = [two("p", 0.0, 0.0), two("q", 4.0, 1.0)]
    now = [two("p", 2.0, -0.25), two("q", 8.0, 0.5), two("unknown", 99.0, 99.0)]
    found = proxy_gap(now, first, {"proxy": 2.0}, "gold", seed=0)["proxy"]
    assert {name: (one["value"], one["n"]) for name, one in found.items()} == {
        "proxy": (1.5, 2), "gold": (-0.75, 2), "gap": (2.25, 2)
    }  # fmt: skip
    assert "rises while gold falls" in alarms({"gold": "gold", "gap": {"proxy": found}})[0]
    assert proxy_gap(now, first, {"proxy": -1.0}, "gold", seed=0)["proxy"]["proxy"]["value"] == -1.5
    assert proxy_gap(now, [two("p", 1.0, 1.0)], {"proxy": 1.0}, "gold", seed=0) == {}


# -- in the loop


def stored_texts(run: Any) -> set[str]:
    files = run.run_dir.root.local_path().rglob("samples/*.parquet")
    return {row["text"] for file in files for row in read_parquet(file)}


def test_canaries_are_stored_nowhere_and_change_no_metric(tmp_path: Path) -> None:
    run, plain = make_run(tmp_path / "a"), make_run(tmp_path / "b", off(make_config()))
    run_rounds(run)
    run_rounds(plain)
    assert not {write(make_prompt()) for write in CANARIES.values()} & stored_texts(run)
    for index in range(4):
        with_checks, without = (one.run_dir.round(index).report() for one in (run, plain))
        assert with_checks["metrics"] == without["metrics"]
        assert without["trust"]["canaries"] is None and without["trust"]["drift"] is None
        assert with_checks["trust"]["canaries"]["prompts"] == 8
        assert with_checks["trust"]["drift"]["anchors"] == 16
        assert sum(with_checks["trust"]["scorers"]["rule:demo"]["status"].values()) == 80 + 160 * (index > 0)
    assert [stage for stage in plain.parts.reporter.stages if stage[0].startswith("score ")] == []


def off(config: RunConfig) -> RunConfig:
    return config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"canaries": 0, "anchors": 0})})


def make_prompt() -> Prompt:
    return prompt("held out 1")


def test_a_scorer_that_canaries_please_raises_the_alarm(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.parts.scorer.reward_of = lambda sample: float(not sample.token_ids)
    run_rounds(run)
    said = [text for text in stages_said(run) if "ALARM: rule:demo puts canaries above the median answer" in text]
    assert [text.partition(" · ")[0] for text in said] == ["round 0", "round 1", "round 2", "round 3"]
    assert ["empty on 8 of 8 prompts" in text for text in said] == [True, False, False, False]
    assert all(text.endswith("median answer (again)") for text in said[1:])


def stages_said(run: Any) -> list[str]:
    return run.parts.reporter.said


def test_a_scorer_that_dies_of_a_canary_is_an_alarm_and_not_the_end(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    score = run.parts.scorer.score

    def hangs(sampled: Iterable[SampledShard]) -> Iterator[ScoredShard]:
        for item in sampled:
            if not all(sample.token_ids for sample in item.samples):
                raise StageTimeoutError("scorer-0.score gave no answer in 3 s")
            yield from score([item])

    run.parts.scorer.score = hangs
    run_rounds(run)
    report = run.run_dir.round(3).report()
    alarm = "the scorers failed on the canaries: scorer-0.score gave no answer in 3 s"
    assert report["trust"]["alarms"] == [alarm]
    said = [line.partition(" · ALARM: ") for line in run.parts.reporter.said if "ALARM" in line]
    assert said[0] == ("round 0", " · ALARM: ", alarm)
    assert {text for _, _, text in said[1:]} == {"the scorers failed on the canaries (again)"} and len(said) == 4
    assert len(report["metrics"]) > 3


def test_anchors_are_the_same_answers_in_every_round(tmp_path: Path) -> None:
    """Answers of round 0, although the model has moved; scored once a round, twice in round 0."""
    run = make_run(tmp_path, make_config(evaluation={"every": 2, "responses": 2}))
    run_rounds(run)
    found = [run.run_dir.round(index).read_shard("anchors", 0) for index in (0, 2, 3)]
    assert found[0] is not None and len(found[0]) == 16
    assert [row.sample for row in found[0]] == [row.sample for row in found[1] or []]
    assert {row.sample.adapter_version for row in found[2] or []} == {0}
    assert [run.run_dir.round(index).read_shard("anchors", 1) is not None for index in range(4)] == [True] + [False] * 3
    assert "drift" not in run.run_dir.round(1).report()["trust"]
    assert run.run_dir.round(3).report()["trust"]["drift"]["since"] == 0


def test_a_scorer_whose_mind_changes_between_rounds_is_said_to_drift(tmp_path: Path) -> None:
    run_rounds(make_run(tmp_path, make_config(run={"name": "fake", "rounds": 1})))
    run = make_run(tmp_path, make_config(run={"name": "fake", "rounds": 2}))
    before = run.parts.scorer.reward_of
    run.parts.scorer.reward_of = lambda sample: 1.0 - before(sample)
    run_rounds(run)
    assert any("round 2 · ALARM: rule:demo drifts: its scores of 16 fixed answers" in text for text in stages_said(run))
    assert run.run_dir.round(1).report()["trust"]["drift"]["scorers"]["rule:demo"]["mean_change"] == 0.0


def answers_with(*scores: Score) -> list[ScoredSample]:
    """One score per answer, all answers different."""
    return [scored("p", i, score) for i, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (answers_with(*[ok(0.5)] * 8), "judge:a gives every answer the same: 0.5, 8 times"),
        (answers_with(*[ok(None, verdict="flawed")] * 9), "judge:a gives every answer the same: 0, 9 times"),
        (answers_with(*[ok(0.5)] * 8, Score("judge:a", "1", "error", reason="HTTP 500")), "the same: 0.5, 8 times"),
        (answers_with(*[Score("judge:a", "1", "abstain", reason="no field 'answr'")] * 8), "gave none of 8 answers"),
        (answers_with(*[Score("judge:a", "1", "error", reason="HTTP 500")] * 9), "most often error: HTTP 500"),
        (answers_with(*[ok(0.5)] * 7), None),
        (answers_with(*[ok(0.5)] * 8, ok(0.6)), None),
        ([scored("p", 0, ok(0.5)) for _ in range(50)], None),
        (answers_with(*[Score("judge:a", "1", "abstain", reason=NOT_ASKED)] * 50), None),
        (answers_with(*[Score("judge:a", "1", "abstain", reason="none")] * 7), None),
        ([scored("p", i) for i in range(50)], None),
        ([], None),
    ],
)
def test_a_scorer_that_tells_no_answer_from_another(rows: list[ScoredSample], said: str | None) -> None:
    """50 times the same answer, or a handful of answers, may well deserve the same."""
    counter = ScoreCounter(["judge:a"])
    counter.add(rows)
    found = alarms({"scorers": counter.facts(seed=0)})
    assert [said in one for one in found] == [True] if said else found == []
    penalised = alarms({"scorers": counter.facts(seed=0)}, {"judge:a"})
    assert penalised == [one for one in found if "the same" not in one]


def test_the_alarm_of_a_constant_scorer_is_said_and_reported(tmp_path: Path) -> None:
    run = make_run(tmp_path, make_config(run={"name": "fake", "rounds": 1}))
    run.parts.scorer.reward_of = lambda sample: 0.25
    run_rounds(run)
    text = "rule:demo gives every answer the same: 0.25"
    assert [one for one in stages_said(run) if f"round 0 · ALARM: {text}, 80 times" in one]
    for index in (0, 1):
        report = run.run_dir.round(index).report() or {}
        assert any(text in one for one in report["trust"]["alarms"])
        assert report["trust"]["scorers"]["rule:demo"]["always"] == 0.25


def test_gold_must_be_a_scorer() -> None:
    with pytest.raises(ValueError, match="rule:other is no scorer of this run: name one of rule:demo"):
        make_config(evaluation={"gold": "rule:other"})
    assert make_config().gold == "rule:demo"
    assert make_config(scoring=[{"type": "answer"}]).gold is None
    assert make_config(scoring=[{"type": "answer"}], evaluation={"gold": "answer:answer"}).gold == "answer:answer"
