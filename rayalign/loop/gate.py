"""The gate: a round that is significantly worse than the best one before it is not built upon.

    comparison with the best ─► worse? ─► commit `gate` ─► keep: the next round starts from this one
                                                      ├─► restore_best: from the best one
                                                      └─► stop: the run ends; resumed, from the best one

The commit stands before the round's own, so that a killed run decides nothing anew.
"""

from __future__ import annotations

from collections.abc import Mapping

from rayalign.config.run import RunConfig
from rayalign.display import format_value
from rayalign.errors import GuardError
from rayalign.evaluation.paired import gate_level
from rayalign.loop import watch
from rayalign.loop.comparisons import Compared
from rayalign.parts import Reporter
from rayalign.records import JsonObject, SavedAdapter
from rayalign.store.round_dir import RoundDir
from rayalign.store.run_dir import RunDir

COMMIT = "gate"
DID = {"keep": "kept", "restore_best": "restored", "stop": "stopped"}


def decide(
    config: RunConfig, round_dir: RoundDir, compared: Mapping[str, Compared], reporter: Reporter
) -> JsonObject | None:
    """Decide about an evaluated round, once; what is decided is said to the user and committed.

    Returns:
        `metric`, `action`, `best_round` (the one that it was compared with), `worse`, `did`, `p` (one-sided), `level`
        (which `p` is worse below) and `next` (the round that the next one starts from); None where there is no gate,
        or nothing to compare with.
    """
    gate, best = config.evaluation.gate, compared.get("best")
    if gate is None or best is None:
        return None
    if round_dir.committed(COMMIT) is None:
        level = gate_level(_looks(config))
        worse = best.found.p_worse <= level
        facts: JsonObject = {
            "metric": best.metric,
            "action": gate.action,
            "best_round": best.round,
            "worse": worse,
            "did": DID[gate.action] if worse else "kept",
            "p": best.found.p_worse,
            "level": level,
            "next": best.round if worse and gate.action != "keep" else round_dir.index,
        }
        round_dir.commit(COMMIT, {}, gate=facts)
        if worse:
            reporter.say(_words(round_dir.index, best, facts, last=round_dir.index == config.run.rounds))
    saved = round_dir.committed(COMMIT)
    assert saved is not None
    return saved["gate"]


def built_upon(config: RunConfig, run_dir: RunDir, last: int) -> int:
    """The round whose adapter the round after `last` starts from; 0 is the base.

    A fork whose config has no gate or guards, or a gate that keeps every round, builds on its last round whatever was
    decided.
    """
    if config.guards and (facts := watch.decided(run_dir, last)) is not None and facts["next"] != last:
        return facts["next"]
    gate, saved = config.evaluation.gate, run_dir.round(last).committed(COMMIT)
    if gate is None or gate.action == "keep" or saved is None:
        return last
    return saved["gate"]["next"]


def saved_adapter(run_dir: RunDir, index: int, base_model_sha256: str) -> SavedAdapter:
    """What a finished round made; of round 0 the base."""
    saved = run_dir.round(index).adapter()
    return SavedAdapter.base(base_model_sha256) if saved is None else saved


def stop_if_decided(run_dir: RunDir, index: int) -> None:
    """End the run after a round that the gate stopped at.

    Raises:
        GuardError: naming both rounds and the ways to go on.
    """
    saved = run_dir.round(index).committed(COMMIT)
    if saved is None or saved["gate"]["did"] != "stopped":
        return
    facts = saved["gate"]
    raise GuardError(
        f"round {index} is worse than round {facts['best_round']} by {facts['metric']} (p {facts['p']:.1g})",
        "evaluation.gate has the run stop there; the round is finished and its report is written",
        f"look at the report; the same command goes on from round {facts['best_round']}'s adapter, and with "
        f"--fork NAME --set evaluation.gate=null from round {index}'s",
    )


def _looks(config: RunConfig) -> int:
    """How many rounds of the run are evaluated after round 0."""
    every, rounds = config.evaluation.every, config.run.rounds
    return rounds // every + (rounds % every > 0)


def _words(index: int, best: Compared, facts: JsonObject, *, last: bool) -> str:
    difference = format_value(best.found.difference.value)
    then = {
        "kept": "it is kept, as evaluation.gate says",
        "restored": f"{'a next round would start' if last else 'the next round starts'} from round {best.round}",
        "stopped": "the run stops",
    }[facts["did"]]
    found = f"worse than round {best.round} by {best.metric} ({difference}, p {facts['p']:.1g})"
    return f"round {index} · GATE: {found}; {then}"
