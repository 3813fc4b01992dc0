"""What a person must look at first, each with what it means and what to do: of the model, then of the scorers."""

from __future__ import annotations

from dataclasses import dataclass

from rayalign.dashboard.curves import Readings
from rayalign.dashboard.readings import Reading, Report, Rounds, items, number, section
from rayalign.dashboard.verdicts import ENOUGH_PROMPTS, Verdict
from rayalign.display import Told, display, format_value

MOST_SAID = 6
"""Sentences of one alarm."""
HALF = 0.5
FAILED = 0.1
"""Share of scores that are missing."""
DUPLICATES = 0.5
TRUNCATED = 0.1
LONGER = 1.5


@dataclass(frozen=True, slots=True)
class Kind:
    """What an alarm is about."""

    title: str
    meaning: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """One kind of alarm, and what was seen: rounds and sentences, newest first."""

    kind: Kind
    seen: tuple[tuple[int, str], ...]


WORSE = "worse"
KINDS = {
    WORSE: Kind(
        "The model got worse than the base",
        "On the same held-out prompts the latest round is below the model that training began from, by more than "
        "chance explains.",
        "Do not use this round: export the best one. Read the answers that fell most, then train with a lower "
        "learning rate or a larger beta; evaluation.gate can stop a run at such a round.",
    ),
    "collapse": Kind(
        "The answers collapsed",
        "Most of what the model could do in an earlier round is gone.",
        "Stop the run. Look at the latest answers: text without sense points to too large an update "
        "(training.learning_rate), one answer to everything to rewards that it satisfies.",
    ),
    "same": Kind(
        "The model repeats itself",
        "Answers to a prompt are the same over and over, or have far fewer different word pairs than before: groups "
        "with equal rewards follow, from which nothing is learned.",
        "Sample at a higher temperature, take fewer rounds, or keep the model nearer to the base with a larger beta.",
    ),
    "gate": Kind(
        "The publish gate held a round back",
        "A round was significantly worse than the best one by the metric of evaluation.gate.",
        "Nothing, if the next rounds recover. If the gate acts again and again, lower the learning rate.",
    ),
    "guards": Kind(
        "A guard fired",
        "A round showed what one of the run's guards watches for; what it did stands with each.",
        "Read what was found. Where guards go back again and again, lower the learning rate or mend the scorer that is "
        "pleased too easily; the best round is what to export.",
    ),
    "constant": Kind(
        "A scorer gives every answer the same score",
        "It tells no answer from another, so nothing can be learned from it.",
        "Try it with `rayalign score` on answers that you know; a rule may never match, a judge may ignore the answer.",
    ),
    "failures": Kind(
        "Many scores are missing",
        "A failed score is left out, never guessed: these answers teach nothing and are not in the metrics.",
        "See the reasons in the table of answers without a score; raise the scorer's timeout or lower its load, or "
        "mend its prompt.",
    ),
    "dropped": Kind(
        "Most prompts teach nothing",
        "More than half of the round's prompts were dropped before the update.",
        "See the reasons among the training groups. Equal rewards: sample more answers, hotter, or take harder "
        "prompts, or a scorer that tells finer.",
    ),
    "canaries": Kind(
        "A scorer rewards answers that deserve nothing",
        "Answers such as an empty text or an order to the judge are put above the model's own median answer. A model "
        "that trains on this scorer learns to write them.",
        "Do not trust rewards of this scorer. Mend its prompt or model, or join it with a rule that refuses them.",
    ),
    "drift": Kind(
        "A scorer drifts",
        "It scores the same fixed answers otherwise than before: rewards of different rounds cannot be compared.",
        "Pin the service's model version and its sampling; compare rounds by win rates within one round's scores only.",
    ),
    "gap": Kind(
        "The model learns to please the scorer alone",
        "The trained reward rises while the trusted scorer falls: reward hacking.",
        "Use the round before the gap opened; join the scorer with the trusted one, or raise beta.",
    ),
    "truncation": Kind(
        "More answers are cut off",
        "The token limit stops many more answers than in the first round: their scores judge half an answer.",
        "Raise sampling.max_tokens, or reward an end.",
    ),
    "length": Kind(
        "Answers change in length",
        "They are much longer or shorter than in the first round; many scorers like length for itself.",
        "Look at the win rate at equal length, and at reward against length below.",
    ),
    "other": Kind("Scorers", "What the run's own checks of the scorers say.", "See the tables of the scores."),
}
"""In the order in which they are shown."""
SAID = {
    "puts canaries above": "canaries",
    " drifts: ": "drift",
    "to please the scorer": "gap",
    "gives every answer the same": "constant",
    "answers a score; most often": "failures",
    "failed on the canaries": "failures",
}
"""Words of the run's own alarms -> their kind."""


def page_alarms(rounds: Rounds, readings: Readings, verdict: Verdict | None) -> list[Alarm]:
    """All alarms, in the order of `KINDS`; each kind once."""
    seen: dict[str, list[tuple[int, str]]] = {kind: [] for kind in KINDS}
    for kind, index, text in (*_of_verdict(verdict, readings), *_of_metrics(readings), *_of_reports(rounds)):
        seen[kind].append((index, text))
    told = Told()
    for index, one in reversed(rounds):
        for text in items(section(one.get("trust")).get("alarms")):
            if isinstance(text, str):
                kind = next((kind for words, kind in SAID.items() if words in text), "other")
                seen[kind].append((index, told.text(text)))
    return [Alarm(KINDS[kind], tuple(found[:MOST_SAID])) for kind, found in seen.items() if found]


Found = list[tuple[str, int, str]]
"""Kind, round and sentence."""


def _of_verdict(verdict: Verdict | None, readings: Readings) -> Found:
    if verdict is None or verdict.word == "few" or not verdict.rounds_differ:
        return []
    shown, (index, last) = display(verdict.metric), verdict.last
    now, before = format_value(last.value, shown.style), format_value(verdict.first[1].value, shown.style)
    found: Found = []
    if verdict.word == "worse":
        found.append((WORSE, index, f"{shown.label} {now}, in round {verdict.first[0]} {before}"))
    values = [(when, metrics[verdict.metric]) for when, metrics in readings if verdict.metric in metrics]
    best, highest = max(values, key=lambda one: one[1].value)
    if shown.style == "percent" and last.value <= HALF * highest.value and _apart(last, highest):
        was = format_value(highest.value, shown.style)
        found.append(("collapse", index, f"{shown.label} {now}, in round {best} it was {was}"))
    return found


def _of_metrics(readings: Readings) -> Found:
    """What changed between the first and the latest evaluated round."""
    if len(readings) < 2:
        return []
    (since, first), (index, last) = readings[0], readings[-1]
    found: Found = []

    def say(kind: str, name: str) -> None:
        shown = display(name)
        now, was = (format_value(one[name].value, shown.style) for one in (last, first))
        found.append((kind, index, f"{shown.label} {now} {shown.unit}".rstrip() + f", in round {since} {was}"))

    both = {name for name in first if name in last and _apart(first[name], last[name])}
    value = {name: (first[name].value, last[name].value) for name in both}
    if "duplicate_rate" in both and value["duplicate_rate"][1] >= DUPLICATES > value["duplicate_rate"][0]:
        say("same", "duplicate_rate")
    if "distinct_2" in both and value["distinct_2"][1] <= HALF * value["distinct_2"][0]:
        say("same", "distinct_2")
    if "truncation_rate" in both and value["truncation_rate"][1] >= value["truncation_rate"][0] + TRUNCATED:
        say("truncation", "truncation_rate")
    short, long = sorted(value.get("length_tokens", (1.0, 1.0)))
    if long >= LONGER * short:
        say("length", "length_tokens")
    return found


def _of_reports(rounds: Rounds) -> Found:
    """What single rounds say of gate, failed scores and dropped prompts, newest first."""
    found: Found = []
    for index, one in reversed(rounds):
        gate = section(one.get("gate"))
        if gate.get("did") in ("restored", "stopped"):
            did = "went back to" if gate["did"] == "restored" else "stopped the run; the best is"
            found.append(("gate", index, f"{did} round {gate.get('best_round')}, by {gate.get('metric')}"))
        found += [("guards", index, words) for words in _guards(one)]
        scores = {name: number(count) or 0.0 for name, count in section(one.get("scores")).items()}
        missing, asked = sum(scores.get(kind, 0.0) for kind in ("error", "timeout")), sum(scores.values())
        if asked and missing >= FAILED * asked:
            found.append(("failures", index, f"{missing:.0f} of {asked:.0f} scores of sampled answers failed"))
        found += _dropped(index, section(one.get("groups")))
    return found


def _guards(report: Report) -> list[str]:
    fired = [section(one) for one in items(section(report.get("guards")).get("fired"))]
    return [f"{one.get('type')}: {one.get('found')}; it {one.get('did')}" for one in fired if one.get("did")]


def _dropped(index: int, groups: Report) -> Found:
    dropped = {name: number(count) or 0.0 for name, count in section(groups.get("dropped")).items()}
    kept, left = number(groups.get("kept")) or 0.0, sum(dropped.values())
    if left <= HALF * (kept + left) or left < ENOUGH_PROMPTS:
        return []
    why = max(dropped, key=lambda name: dropped[name]).replace("_", " ")
    return [("dropped", index, f"{left:.0f} of {kept + left:.0f} prompts dropped, most for {why}")]


def _apart(one: Reading, other: Reading) -> bool:
    """Whether two values' intervals do not overlap."""
    if one.ci95 is None or other.ci95 is None:
        return False
    return one.ci95[0] > other.ci95[1] or other.ci95[0] > one.ci95[1]
