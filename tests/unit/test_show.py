"""What `rayalign show` prints of a run's rounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rayalign import cli
from rayalign.commands.show import show
from rayalign.errors import RunFolderError
from rayalign.loop.run import run_rounds
from rayalign.store.folder import Folder
from rayalign.store.round_answers import find_id, read_round
from rayalign.store.run_dir import RunDir
from rayalign.store.saved_run import SavedRun
from rayalign.tracking.console import terminal_text
from tests.fakes import SCORE_CHECKS, Fuse, Killed, make_config, make_run

CONFIG = make_config(run={"name": "fake", "rounds": 1}, groups={"drop_equal_rewards": True})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("runs") / "fake"
    run_rounds(make_run(root, CONFIG))
    return str(root)


def listed(place: str) -> list[dict]:
    return json.loads(show(place, 1, None, None, as_json=True))["prompts"]


def test_list(place: str) -> None:
    text = show(place, 1, None, 3, as_json=False)
    rows = listed(place)
    assert text.splitlines()[0] == "fake, round 1: 40 prompts"
    assert [line.split()[0] for line in text.splitlines()[3:6]] == [row["id"] for row in rows[:3]]
    assert text.splitlines()[-1].startswith("... and 37 more: --limit 40 shows all")
    assert len(show(place, 1, None, 40, as_json=False).splitlines()) == 43
    assert show(place, None, None, 3, as_json=False) == text
    assert len(rows) == 40 and all(row["answers"] == 4 for row in rows)


def test_the_best_round(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    best = SavedRun.at(place).best()[0].index
    assert cli.exit_code(["show", place, "--round", "best"]) == 0
    shown = capsys.readouterr().out
    assert cli.exit_code(["show", place, "--round", str(best)]) == 0
    assert capsys.readouterr().out == shown and f"round {best}" in shown


def test_list_agrees_with_what_was_stored(place: str) -> None:
    """Mean rewards from the shards; kept and dropped as the groups' commit counts them."""
    round_dir = RunDir(place).round(1)
    rewards: dict[str, list[float]] = {}
    for shard in (0, 1):
        for row in round_dir.read_shard("train", shard) or []:
            rewards.setdefault(row.sample.prompt_id, []).append(row.reward or 0.0)
    rows = listed(place)
    assert {row["id"]: row["mean_reward"] for row in rows} == {i: sum(r) / 4 for i, r in rewards.items()}
    counted = (round_dir.committed("groups") or {})["groups"]
    states = [row["group"] for row in rows]
    assert states.count("kept") == counted["kept"] > 0
    assert {reason: states.count(f"dropped: {reason}") for reason in counted["dropped"]} == counted["dropped"]
    assert counted["dropped"]["equal_rewards"] > 0


def test_one_prompt(place: str) -> None:
    row = next(row for row in listed(place) if row["group"] == "kept")
    whole = json.loads(show(place, 1, row["id"], None, as_json=True))
    assert [answer["index"] for answer in whole["answers"]] == [0, 1, 2, 3]
    assert whole["answers"][0]["scores"][0]["scorer"] == "rule:demo"
    text = show(place, 1, row["id"], None, as_json=False)
    assert f"    {row['text']}" in text.splitlines()
    assert [line.split(":")[0] for line in text.splitlines() if line.startswith("answer")] == [
        f"answer {index}" for index in range(4)
    ]
    assert "  rule:demo (version 1): ok, reward" in text
    assert show(place, 1, row["id"], 1, as_json=False).endswith("... and 3 more answers")


def test_duplicates_are_named(place: str) -> None:
    """With deduplication, an answer of the same tokens as an earlier one is not in the group, and this is said."""
    content = read_round(SavedRun.at(place), 1)
    twins = 0
    for rows in content.answers.values():
        first: dict[tuple[int, ...], int] = {}
        for row in rows:
            earlier = first.setdefault(tuple(row.sample.token_ids), row.sample.index)
            if content.group_state(row.sample.prompt_id) == "kept" and earlier != row.sample.index:
                twins += 1
                assert content.answer_state(row) == f"left out: the same tokens as answer {earlier}"
            else:
                assert content.answer_state(row) is None
    assert twins > 0


def test_only_what_is_asked_for_is_read(place: str) -> None:
    whole = read_round(SavedRun.at(place), 1)
    chosen = [whole.ids[35], whole.ids[3]]
    part = read_round(SavedRun.at(place), 1, lambda ids: chosen)
    assert part.ids == whole.ids == list(whole.prompts)
    assert part.prompts == {one: whole.prompts[one] for one in chosen}
    assert list(part.prompts) == chosen[::-1]
    assert part.answers == {one: whole.answers[one] for one in chosen}
    assert [part.group_state(one) for one in chosen] == [whole.group_state(one) for one in chosen]
    assert whole.groups is not None
    assert part.groups == {one: group for one, group in whole.groups.items() if one in chosen}


def test_prefixes(place: str) -> None:
    ids = read_round(SavedRun.at(place), 1).ids
    assert find_id(ids, ids[0], 1) == ids[0]
    unique = next(n for n in range(1, 17) if sum(one.startswith(ids[0][:n]) for one in ids) == 1)
    assert find_id(ids, ids[0][:unique], 1) == ids[0]
    shared = next(one[0] for one in ids if sum(other[0] == one[0] for other in ids) > 1)
    with pytest.raises(RunFolderError, match=r"ids begin so(.|\n)*give more of the id"):
        find_id(ids, shared, 1)
    for unknown in ("x", ""):
        with pytest.raises(RunFolderError, match="has no prompt"):
            find_id(ids, unknown, 1)


def test_rounds_that_have_nothing_to_show(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunFolderError, match=r"round 0 has no prompts(.|\n)*--samples evaluation"):
        show(place, 0, None, None, as_json=False)
    assert cli.exit_code(["show", place, "--round", "8"]) == 2
    error = capsys.readouterr().err
    assert "round 8 is not there" in error and "finished are 0-1" in error and "Traceback" not in error
    assert cli.exit_code(["show", str(tmp_path)]) == 2
    assert cli.exit_code(["show", place, "--limit", "2"]) == 0
    assert "... and 38 more" in capsys.readouterr().out


def test_round_that_still_runs(folder: Folder) -> None:
    """Killed after its first shard: that shard's answers are shown, the other prompts have none yet."""
    with pytest.raises(Killed):
        run_rounds(make_run(folder / "fake", CONFIG, Fuse(8 + SCORE_CHECKS)))
    rows = listed(str(folder / "fake"))
    assert {row["answers"] for row in rows} == {0, 4}
    assert {row["group"] for row in rows} == {"not built yet"}
    assert "not finished" in show(str(folder / "fake"), 1, None, None, as_json=False)
    waiting = next(row["id"] for row in rows if row["answers"] == 0)
    assert "not committed yet" in show(str(folder / "fake"), 1, waiting, None, as_json=False)


def test_control_codes_do_not_reach_the_terminal() -> None:
    evil = "\x1b]0;title\x07\x1b[2Jred\r\x9b31m\x7f \ud800"
    assert terminal_text(evil) == "?]0;title??[2Jred??31m? ?"
    assert terminal_text("two\nlines\tüñ") == "two\nlines\tüñ"
    assert terminal_text("ü", "ascii") == "?"


def test_control_codes_in_answers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "fake", CONFIG)
    real = run.parts.generator.sample

    def evil(shards, plan, adapter):
        import dataclasses

        for item in real(shards, plan, adapter):
            samples = [dataclasses.replace(sample, text="\x1b[2Jgone\nanswer 9: reward 1") for sample in item.samples]
            yield dataclasses.replace(item, samples=samples)

    run.parts.generator.sample = evil  # type: ignore[method-assign]
    run_rounds(run)
    one = listed(str(tmp_path / "fake"))[0]["id"]
    text = show(str(tmp_path / "fake"), 1, one, None, as_json=False)
    assert "\x1b" not in text and "    ?[2Jgone" in text
    assert not any(line.startswith("answer 9") for line in text.splitlines())
    assert "\x1b" not in show(str(tmp_path / "fake"), 1, one, None, as_json=True)


def test_held_out_answers_and_their_comparison(place: str) -> None:
    """Means from the shards, of the base too; differences sorted, and both ends of the list where it is cut."""
    means: list[dict[str, float]] = []
    for index in (0, 1):
        found = json.loads(show(place, index, None, None, as_json=True, samples="evaluation"))["prompts"]
        rewards: dict[str, list[float]] = {}
        for shard in RunDir(place).round(index).shards("evaluation"):
            for row in RunDir(place).round(index).read_shard("evaluation", shard) or []:
                rewards.setdefault(row.sample.prompt_id, []).append(row.reward or 0.0)
        means.append({one: sum(values) / len(values) for one, values in rewards.items()})
        assert {row["id"]: row["mean_reward"] for row in found} == pytest.approx(means[-1])
    whole = json.loads(show(place, 1, None, None, as_json=True, compare=0))
    differences = [row["difference"] for row in whole["prompts"]]
    assert differences == sorted(differences, reverse=True)
    assert {row["id"]: row["difference"] for row in whole["prompts"]} == pytest.approx(
        {one: means[1][one] - means[0][one] for one in means[0]}
    )
    assert whole["gained"] + whole["lost"] + whole["same"] == len(means[0])
    cut = json.loads(show(place, 1, None, 2, as_json=True, compare=0))["prompts"]
    assert [row["id"] for row in cut] == [whole["prompts"][0]["id"], whole["prompts"][-1]["id"]]
    assert "round 1 against round 0" in show(place, 1, None, 2, as_json=False, compare=0)
    assert cli.exit_code(["show", place, "--compare", "0", "--samples", "train"]) == 2
