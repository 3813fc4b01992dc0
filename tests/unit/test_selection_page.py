"""The answers that a report holds itself."""

from __future__ import annotations

import json
from pathlib import Path

from rayalign.dashboard.readings import LONGEST_TEXT
from rayalign.dashboard.selection import embedded
from rayalign.records import Prompt, Sample, Score, ScoredSample
from rayalign.store.run_dir import RunDir
from rayalign.store.saved_run import SavedRun
from tests.unit.answer_query_cases import PROMPTS, views
from tests.unit.answer_runs import add_round, make_run_folder, user


def many(root: Path, count: int, rounds: int, text: str = "an answer", answers: int = 2) -> RunDir:
    """A run of `count` prompts, the reward of each its place, turned around in odd rounds."""
    prompts = [Prompt(f"{place:016x}", [user(f"prompt {place}")], [1]) for place in range(count)]
    run_dir = make_run_folder(root, (), prompts)
    for index in range(rounds):
        rows = []
        for place, prompt in enumerate(prompts):
            reward = float(place if index % 2 == 0 else count - place)
            scores = [Score("judge", "1", "ok", reward, judgment=text)]
            for number in range(answers):
                sample = Sample(prompt.id, number, text, [1, 2], [-1.0, -1.0], "stop", index, 0)
                rows.append(ScoredSample(sample, scores, reward))
        add_round(run_dir, index, rows)
    return run_dir


def test_a_small_run_is_there_whole(tmp_path: Path) -> None:
    make_run_folder(tmp_path / "run")
    found = embedded(SavedRun.at(tmp_path / "run"))
    assert found["mode"] == "file" and found["facets"]["note"] is None and found["facets"]["total"] == {"evaluation": 5}
    assert {view["id"] for view in found["rows"]["evaluation"]} == PROMPTS.keys()
    for view in found["rows"]["evaluation"]:
        (expected,) = [one for one in views() if one["id"] == view["id"]]
        assert [len(one["answers"]) for one in view["rounds"]] == [len(one["answers"]) for one in expected["rounds"]]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert embedded(SavedRun.at(tmp_path / "run")) == found


def test_of_a_large_run_the_ends_are_there(tmp_path: Path) -> None:
    """Of 400 prompts the best, the worst, the most changed, and some that are none of these."""
    many(tmp_path / "run", 400, 2)
    found = embedded(SavedRun.at(tmp_path / "run"))
    places = {int(view["id"], 16) for view in found["rows"]["evaluation"]}
    assert set(range(16)) | set(range(384, 400)) <= places and len(places) < 80
    assert len(places & set(range(100, 300))) >= 5
    assert f"{len(places)} of 400 evaluation prompts" in found["facets"]["note"]


def test_the_limit_is_kept(tmp_path: Path) -> None:
    many(tmp_path / "run", 120, 2, "x" * 3000)
    for limit in (30_000, 200_000, 10_000):
        found = embedded(SavedRun.at(tmp_path / "run"), limit)
        assert len(json.dumps(found)) < limit + 2000
        assert limit == 10_000 or found["rows"]["evaluation"]
        assert f"{len(found['rows']['evaluation'])} of 120" in found["facets"]["note"]


def test_long_texts_are_cut_and_marked(tmp_path: Path) -> None:
    many(tmp_path / "run", 3, 2, "y" * (LONGEST_TEXT + 77))
    found = embedded(SavedRun.at(tmp_path / "run"))
    answer = found["rows"]["evaluation"][0]["rounds"][0]["answers"][0]
    assert answer["text"] == answer["scores"]["judge"]["text"] == f"{'y' * LONGEST_TEXT} … (77 more characters)"
    assert found["rows"]["evaluation"][0]["cut"] is True and "Long texts are cut" in found["facets"]["note"]


def test_of_many_rounds_some_are_there(tmp_path: Path) -> None:
    many(tmp_path / "run", 4, 30)
    found = embedded(SavedRun.at(tmp_path / "run"))
    rounds = found["facets"]["rounds"]["evaluation"]
    assert len(rounds) == 12 and rounds[0] == 0 and rounds[-1] == 29
    assert all([one["round"] for one in view["rounds"]] == rounds for view in found["rows"]["evaluation"])


def test_many_answers_are_thinned(tmp_path: Path) -> None:
    many(tmp_path / "run", 2, 2, "z" * 3900, answers=200)
    view = embedded(SavedRun.at(tmp_path / "run"))["rows"]["evaluation"][0]
    assert view["cut"] is True and 2 <= len(view["rounds"][0]["answers"]) < 40


def test_no_answers(tmp_path: Path) -> None:
    make_run_folder(tmp_path / "run", ())
    found = embedded(SavedRun.at(tmp_path / "run"))
    assert found["rows"] == {} and found["facets"]["purposes"] == [] and found["facets"]["note"] is None


def test_damage_is_named(tmp_path: Path) -> None:
    """The prompts of the damaged shard of the last round, two of five, cannot be chosen by it."""
    make_run_folder(tmp_path / "run")
    (tmp_path / "run/rounds/0001/evaluation/samples/00000.parquet").write_bytes(b"")
    found = embedded(SavedRun.at(tmp_path / "run"))
    assert len(found["facets"]["problems"]) == 1 and len(found["rows"]["evaluation"]) == 3
