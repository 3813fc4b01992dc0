"""The guards of a run: where a round shows that it goes wrong, the run says so, stops, or goes back to the best round.

    report of the round ─► each of `guards` ─► fired? ─► commit `guards` ─► warn: said
                                                                        ├─► stop: the run ends; resumed, from the best
                                                                        └─► rollback: from the best, in smaller steps

The commit stands before the round's own, so that a killed run decides nothing anew. The best round is that with the
highest gold reward, where there is a gold scorer, else with the highest headline metric, among those at which no guard
stopped or rolled back.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from rayalign.config.guards import Guard
from rayalign.config.run import RunConfig
from rayalign.config.scoring import verifiers_of
from rayalign.display import headline_metric
from rayalign.errors import GuardError
from rayalign.evaluation.metrics import prompt_means
from rayalign.evaluation.paired import LEVEL
from rayalign.evaluation.watch import Seen, found_by
from rayalign.loop.repeats import evaluation_rows
from rayalign.loop.trust import gap_since
from rayalign.parts import Reporter
from rayalign.records import JsonObject
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir

COMMIT = "guards"
DID = {"warn": "warned", "stop": "stopped", "rollback": "rolled back"}


def watch(
    config: RunConfig, run_dir: RunDir, round_dir: RoundDir, report: JsonObject, reporter: Reporter
) -> JsonObject | None:
    """Ask all guards about a round, once; what they find is said and committed.

    Args:
        report: what the round's report will say.

    Returns:
        `fired` (for each guard that did `type`, `found` in words, and what it `did`), `next` (the round that the next
        one starts from) and `step` (how many times its learning rate is the config's); None where no guard has fired
        so far.
    """
    if not config.guards or round_dir.index == 0:
        return None
    if round_dir.committed(COMMIT) is None:
        before = [one for one in run_dir.rounds() if one.index < round_dir.index]
        reports = [found for one in before if (found := one.report()) is not None]
        spread, best = _spread(config, run_dir, report), best_round(config, reports)
        gap = _gap(config, run_dir, round_dir, best) if best and report.get("metrics") else {}
        seen = Seen(report, reports, spread, LEVEL / max(1, config.run.rounds), best, gap)
        asked = [] if _gate_acted(report) else list(enumerate(config.guards))
        found = {number: words for number, one in asked if (words := found_by(one, seen))}
        facts = _decided(config, run_dir, round_dir, found, reports)
        if facts is not None:
            round_dir.commit(COMMIT, {}, guards=facts)
            for one in facts["fired"]:
                reporter.say(f"round {round_dir.index} · GUARD {one['type']}: {one['found']}; {_then(one, facts)}")
    saved = round_dir.committed(COMMIT)
    return None if saved is None else saved["guards"]


def _gate_acted(report: JsonObject) -> bool:
    """Whether the gate has gone back already, or stops the run."""
    return (report.get("gate") or {}).get("did") in ("restored", "stopped")


def _decided(
    config: RunConfig,
    run_dir: RunDir,
    round_dir: RoundDir,
    found: Mapping[int, str],
    reports: Sequence[JsonObject],
) -> JsonObject | None:
    past = [facts for index in range(1, round_dir.index) if (facts := decided(run_dir, index)) is not None]
    step = past[-1]["step"] if past else 1.0
    if not found and step == 1.0:
        return None
    fired = [_fired(config.guards[number], words, past) for number, words in found.items()]
    did = {one["did"] for one in fired}
    for number, one in zip(found, fired, strict=True):
        if one["did"] == DID["rollback"]:
            step *= config.guards[number].step
    back = bool(did & {DID["stop"], DID["rollback"]})
    return {
        "fired": fired,
        "next": best_round(config, reports) if back else round_dir.index,
        "step": step,
    }


def _fired(guard: Guard, words: str, past: Sequence[JsonObject]) -> JsonObject:
    done = [
        one for facts in past for one in facts["fired"] if one["type"] == guard.type and one["did"] == DID["rollback"]
    ]
    spent = guard.action == "rollback" and len(done) >= guard.times
    return {"type": guard.type, "found": words, "did": DID["stop"] if spent else DID[guard.action]}


def _then(one: JsonObject, facts: JsonObject) -> str:
    if one["did"] == DID["warn"]:
        return "the run goes on"
    if one["did"] == DID["stop"]:
        return "the run stops"
    return f"the next round starts from round {facts['next']}, with {facts['step']:g} times the learning rate"


def _spread(config: RunConfig, run_dir: RunDir, report: JsonObject) -> float | None:
    """Standard deviation of round 0's prompts by the metric in which the round is compared with it."""
    against = (report.get("comparisons") or {}).get("round_0")
    if against is None:
        return None
    rows_RN = evaluation_rows(run_dir.round(against["round"]))
    means = prompt_means(rows_RN, against["metric"], verifiers_of(config.scoring))
    return statistics.pstdev(means.values()) if means else None


def _gap(config: RunConfig, run_dir: RunDir, round_dir: RoundDir, best: int) -> JsonObject:
    """What the scorers have gained since the best round."""
    if not any(guard.type == "hacking" for guard in config.guards):
        return {}
    now, before = (evaluation_rows(one)[0] for one in (round_dir, run_dir.round(best)))
    return gap_since(config, now, before)


def best_round(config: RunConfig, reports: Sequence[JsonObject]) -> int:
    """The round to go back to; 0 is the base.

    Args:
        reports: of the rounds before.
    """
    bad = {one["round"] for one in reports if (facts := one.get("guards")) and facts["next"] != one["round"]}
    values = {
        one["round"]: {name: metric["value"] for name, metric in one["metrics"].items()}
        for one in reports
        if one["metrics"] and one["round"] not in bad
    }
    gold = f"mean_reward/{config.gold}"
    known = config.gold is not None and any(gold in metrics for metrics in values.values())
    metric = gold if known else headline_metric(list(values.values()))
    return max((index for index in values if metric in values[index]), key=lambda i: values[i][metric or ""], default=0)


def decided(run_dir: RunDir, index: int) -> JsonObject | None:
    """What guards decided at a round; None where none had fired until then."""
    saved = run_dir.round(index).committed(COMMIT)
    return None if saved is None else saved["guards"]


def step_of(config: RunConfig, run_dir: RunDir, round_index: int) -> float:
    """How many times the config's learning rate is that of a round."""
    facts = decided(run_dir, round_index - 1) if config.guards and round_index > 1 else None
    return 1.0 if facts is None else facts["step"]


def stop_if_fired(run_dir: RunDir, index: int) -> None:
    """End the run after a round at which a guard stopped it.

    Raises:
        GuardError: naming what was found and the ways to go on.
    """
    facts = decided(run_dir, index)
    stopped = [one for one in facts["fired"] if one["did"] == DID["stop"]] if facts is not None else []
    if facts is None or not stopped:
        return
    raise GuardError(
        f"round {index}: " + "; ".join(one["found"] for one in stopped),
        f"guards ({', '.join(one['type'] for one in stopped)}) have the run stop there; the round is finished and its "
        "report is written",
        f"look at the report; the same command goes on from round {facts['next']}'s adapter, and with "
        f"--fork NAME --set guards=[] from round {index}'s",
    )
