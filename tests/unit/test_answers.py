"""The answer store gives what the table of queries says, and bears damaged runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rayalign.commands.serving.runs import Runs
from rayalign.dashboard.answer_query import Query
from rayalign.dashboard.answers import AnswerStore
from rayalign.errors import DataError
from rayalign.records import Prompt
from rayalign.store.round_dir import shard_path
from rayalign.store.run_dir import RunDir
from rayalign.store.saved_run import SavedRun
from tests.object_store import ObjectStore
from tests.unit.answer_query_cases import ANSWERS, APPLE, BREAD, CASES, CHESS, DWARF, ELBOW, PROMPTS, ROWS, Case, views
from tests.unit.answer_runs import add_round, make_run_folder, scored, user


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> AnswerStore:
    root = tmp_path_factory.mktemp("runs") / "odd [1] *name?"
    make_run_folder(root)
    return AnswerStore(SavedRun.at(root))


def query(**params: str | list[str]) -> Query:
    return Query.of({name: [value] if isinstance(value, str) else value for name, value in params.items()})


def ids(store: AnswerStore, **params: str | list[str]) -> list[str]:
    return [row["id"] for row in store.list(query(**params))["rows"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_table(store: AnswerStore, case: Case) -> None:
    page = store.list(query(**case.params))
    assert [row["id"] for row in page["rows"]] == case.ids
    assert page["total"] == (len(case.ids) if case.total is None else case.total)


def test_rows(store: AnswerStore) -> None:
    page = store.list(query())
    assert {row.pop("id"): row for row in page["rows"]} == ROWS
    assert json.loads(json.dumps(page, allow_nan=False)) == page


def test_facets(store: AnswerStore) -> None:
    assert store.facets() == {
        "run": "odd [1] *name?",
        "purposes": ["evaluation"],
        "rounds": {"evaluation": [0, 1]},
        "scorers": ["judge", "rule"],
        "statuses": ["ok", "abstain", "error", "timeout"],
        "metadata": {
            "topic": ["a=b", "food", "games"],
            "level": ["1", "1.5", "2"],
            "hard": ["true"],
            "source": ["null"],
        },
        "problems": [],
        "note": None,
        "total": {"evaluation": 5},
    }


def test_views(store: AnswerStore) -> None:
    """The table's own form, with what it does not say: reasons, and facts of single scores."""
    for expected in views():
        found = store.view(expected["id"])
        assert found is not None
        for one in (answer for part in found["rounds"] for answer in part["answers"]):
            for score in one["scores"].values():
                assert score.pop("preferred_over") is None and score.pop("aspects") == {}
                if score["status"] != "ok":
                    assert score["reason"] == f"it is {score['status']}"
                    score["reason"] = None
        assert found == expected


def test_no_such_view(store: AnswerStore) -> None:
    for one in ("", "nobody", "../../etc/passwd", "a\x00", "'; DROP TABLE answered; --", "x" * 100_000):
        assert store.view(one) is None
    assert store.view(APPLE, "train") is None and store.view(APPLE, "../evaluation") is None


@pytest.mark.parametrize("text", ["\x00", "'", "';--", "$q", "\\", "\ud800", "%%%%", "א" * 500, "\n", "\x1b[2J"])
def test_any_text_is_a_text(store: AnswerStore, text: str) -> None:
    for params in ({"q": text}, {"purpose": text}, {"scorer": text, "min": "0"}, {"meta": [f"{text}={text}"]}):
        page = store.list(query(**params))
        assert page["total"] in (0, 1, 2)
    assert ids(store) == [BREAD, CHESS, APPLE, DWARF, ELBOW]


@pytest.mark.parametrize(
    "params",
    [
        {"round": "-1"},
        {"round": "1.5"},
        {"round": "٣"},
        {"round": "9" * 5000},
        {"page": "x"},
        {"size": "1e3"},
        {"min": "nan"},
        {"max": "inf"},
        {"min": "one"},
        {"sort": "id; DROP TABLE answered"},
        {"status": "fine"},
        {"meta": ["no equals sign"]},
        {"meta": ["a=b"] * 100},
        {"q": "x" * 5000},
    ],
    ids=str,
)
def test_refused(params: dict[str, str | list[str]]) -> None:
    with pytest.raises(DataError):
        query(**params)


def test_page_sizes() -> None:
    assert query(size="0").size == 50 and query(size="100000").size == 200 and query(size="1").size == 1


def test_a_new_round_and_a_shard_committed_anew_show(tmp_path: Path) -> None:
    first = [one for one in ANSWERS if one.round == 0]
    run_dir = make_run_folder(tmp_path / "run", first)
    store = AnswerStore(SavedRun.at(tmp_path / "run"))
    assert store.facets()["rounds"] == {"evaluation": [0]} and ids(store, sort="reward")[0] == BREAD
    add_round(run_dir, 1, [scored(one) for one in ANSWERS if one.round == 1])
    assert ids(store) == [BREAD, CHESS, APPLE, DWARF, ELBOW]
    swapped = [scored(one) for one in ANSWERS if one.round == 1 and one.prompt in (APPLE, BREAD)][:2]
    run_dir.round(1).commit_shard("evaluation", 0, swapped)
    run_dir.round(1).finish()
    assert ids(store, sort="prompt") == [ELBOW, APPLE, CHESS, DWARF]


def test_training_prompts(tmp_path: Path) -> None:
    """Each round draws its own; their text stands in the round's prompts.parquet."""
    run_dir = make_run_folder(tmp_path / "run", held_out=[])
    prompts = [Prompt(one, [user(facts["text"])], [1], target="so") for one, facts in PROMPTS.items()]
    run_dir.round(1).write_prompts(prompts)
    add_round(run_dir, 1, [scored(one) for one in ANSWERS if one.round == 1], "train")
    store = AnswerStore(SavedRun.at(tmp_path / "run"))
    assert store.facets()["rounds"] == {"evaluation": [0, 1], "train": [1]}
    assert ids(store, purpose="train", q="FRUIT") == [APPLE]
    view = store.view(APPLE, "train")
    assert view is not None and view["target"] == "so" and view["messages"] == [user("Name a fruit.")]


def test_flags_of_cut(tmp_path: Path) -> None:
    run_dir = make_run_folder(tmp_path / "run")
    add_round(run_dir, 1, [scored(one) for one in ANSWERS if one.round == 1], "train")
    tokens = [["50% ", False], ["flour", True]]
    new = {"prompt_id": BREAD, "index": 0, "tokens": tokens, "ratios": [0.25, -1.5]}
    old = {"prompt_id": APPLE, "tokens": [["a ", True], ["pear", False], ["</s>", False]]}
    odd = {"prompt_id": CHESS, "index": 0, "tokens": [["a"], 3]}
    run_dir.round(1).write("report.json", json.dumps({"flagged": [new, old, odd, None]}).encode())
    store = AnswerStore(SavedRun.at(tmp_path / "run"))

    def answers(one: str) -> dict[int, dict]:
        view = store.view(one, "train")
        assert view is not None
        return {answer["index"]: answer for answer in view["rounds"][0]["answers"]}

    assert answers(BREAD)[0]["flags"] == tokens
    assert answers(BREAD)[0]["ratios"] == [["50% ", 0.25], ["flour", -1.5]]
    assert answers(BREAD)[1]["flags"] is answers(BREAD)[1]["ratios"] is None
    assert answers(APPLE)[1]["flags"] == old["tokens"] and answers(APPLE)[1]["ratios"] is None
    assert answers(APPLE)[0]["flags"] is answers(CHESS)[0]["flags"] is None
    run_dir.round(1).write("report.json", b'{"flagged": ')
    assert answers(BREAD)[0]["flags"] is None


# -- damage


def damaged(root: Path, relative: str, content: bytes | None) -> AnswerStore:
    make_run_folder(root)
    path = root / relative
    assert path.exists()
    path.unlink() if content is None else path.write_bytes(content)
    return AnswerStore(SavedRun.at(root))


@pytest.mark.parametrize("content", [b"", b"PAR1 no", b"\x00" * 4000, None], ids=["empty", "no", "zeros", "missing"])
@pytest.mark.parametrize("kind", ["samples", "scores"])
def test_a_damaged_shard_is_named_and_the_rest_shown(tmp_path: Path, kind: str, content: bytes | None) -> None:
    """The second shard has CHESS, DWARF and ELBOW."""
    store = damaged(tmp_path / "run", f"rounds/0001/{shard_path('evaluation', kind, 1)}", content)
    assert ids(store) == [BREAD, APPLE]
    (problem,) = store.problems
    assert problem.startswith("round 1, evaluation shard 1") and kind in problem
    view = store.view(CHESS)
    assert view is not None and [one["round"] for one in view["rounds"]] == [0]
    assert ids(store, q="white") == [] and ids(store, q="white", round="0") == [CHESS]
    assert store.facets()["problems"] == [problem]


def test_a_file_cut_short(tmp_path: Path) -> None:
    make_run_folder(tmp_path / "run")
    path = tmp_path / "run" / "rounds" / "0001" / shard_path("evaluation", "samples", 0)
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 8):
        path.write_bytes(whole[:length])
        assert ids(AnswerStore(SavedRun.at(tmp_path / "run"))) == [CHESS, DWARF, ELBOW]


def test_flipped_bytes_never_raise(tmp_path: Path) -> None:
    make_run_folder(tmp_path / "run")
    path = tmp_path / "run" / "rounds" / "0001" / shard_path("evaluation", "scores", 0)
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 15):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        store = AnswerStore(SavedRun.at(tmp_path / "run"))
        assert {CHESS, DWARF, ELBOW} <= set(ids(store))
        store.view(APPLE)
        ids(store, q="apple")


def test_samples_and_scores_of_different_answers(tmp_path: Path) -> None:
    make_run_folder(tmp_path / "run")
    round_dir = RunDir(tmp_path / "run").round(1)
    folder = tmp_path / "run" / "rounds" / "0001" / "evaluation" / "scores"
    (folder / "00001.parquet").write_bytes((folder / "00000.parquet").read_bytes())
    store = AnswerStore(SavedRun.at(tmp_path / "run"))
    assert ids(store) == [BREAD, APPLE]
    assert store.problems == ["round 1, evaluation shard 1: its scores are not what was committed"]
    files = [f"evaluation/{kind}/00001.parquet" for kind in ("samples", "scores")]
    round_dir.commit("evaluation-00001", round_dir.describe(files[0]) | round_dir.describe(files[1]))
    round_dir.finish()
    store = AnswerStore(SavedRun.at(tmp_path / "run"))
    assert ids(store) == [BREAD, APPLE]
    assert store.problems == ["round 1, evaluation shard 1: its samples and its scores are not of the same answers"]


def test_a_missing_round_is_named(tmp_path: Path) -> None:
    run_dir = make_run_folder(tmp_path / "run", [one for one in ANSWERS if one.round == 0])
    add_round(run_dir, 3, [scored(one) for one in ANSWERS if one.round == 1])
    store = AnswerStore(SavedRun.at(tmp_path / "run"))
    assert store.facets()["problems"] == [f"round {index} is missing: its folder is not there" for index in (1, 2)]
    assert store.facets()["rounds"] == {"evaluation": [0, 3]} and len(ids(store)) == 5


def test_one_round(tmp_path: Path) -> None:
    make_run_folder(tmp_path / "run", [one for one in ANSWERS if one.round == 0])
    store = AnswerStore(SavedRun.at(tmp_path / "run"))
    assert ids(store) == [APPLE, BREAD, CHESS, ELBOW, DWARF]
    assert store.list(query())["rows"][0]["delta"] == 0.0


def test_no_rounds(tmp_path: Path) -> None:
    make_run_folder(tmp_path / "run", [])
    store = AnswerStore(SavedRun.at(tmp_path / "run"))
    assert store.facets()["rounds"] == {} and store.list(query())["total"] == 0 and store.problems == []


def test_no_held_out_prompts(tmp_path: Path) -> None:
    make_run_folder(tmp_path / "run", held_out=[])
    store = AnswerStore(SavedRun.at(tmp_path / "run"))
    assert [row["prompt"] for row in store.list(query(sort="prompt"))["rows"]] == [APPLE, BREAD, CHESS, DWARF, ELBOW]
    assert ids(store, q="fruit") == [] and ids(store, q="pear") == [APPLE]
    view = store.view(APPLE)
    assert view is not None and view["messages"] == [] and view["metadata"] == {}
    assert store.problems == ["held-out prompts are not kept in this folder: they are shown by their ids"]


@pytest.mark.parametrize("content", [b"", b"no"])
def test_damaged_prompts(tmp_path: Path, content: bytes) -> None:
    store = damaged(tmp_path / "run", "held_out.parquet", content)
    assert len(ids(store)) == 5 and store.view(APPLE) is not None
    (problem,) = store.problems
    assert problem.startswith("held-out prompts: the file is damaged")


def test_a_shard_that_no_commit_names_is_not_there(tmp_path: Path) -> None:
    make_run_folder(tmp_path / "run")
    for name in ("COMMIT.json", "commits/evaluation-00001.json"):
        (tmp_path / "run" / "rounds" / "0001" / name).unlink()
    store = AnswerStore(SavedRun.at(tmp_path / "run"))
    assert ids(store) == [BREAD, APPLE] and store.problems == []


# -- an object store


def test_on_an_object_store(object_store: ObjectStore) -> None:
    """The list, a search, a view, a round that comes later, and a file that is lost; the server reads the same."""
    root = object_store.uri("answers/run")
    first = [one for one in ANSWERS if one.round == 0]
    run_dir = make_run_folder(root, first)
    runs = Runs(object_store.uri("answers"))
    store = runs.answers("run")
    assert runs.names() == ["run"] and store.facets()["rounds"] == {"evaluation": [0]}
    add_round(run_dir, 1, [scored(one) for one in ANSWERS if one.round == 1])
    assert ids(store) == [BREAD, CHESS, APPLE, DWARF, ELBOW] and ids(store, q="pear") == [APPLE]
    view = store.view(CHESS)
    assert view is not None and [one["round"] for one in view["rounds"]] == [0, 1]
    (run_dir.round(1).root / shard_path("evaluation", "scores", 1)).delete()
    store = AnswerStore(SavedRun.at(root))
    assert ids(store) == [BREAD, APPLE]
    assert store.problems == ["round 1, evaluation shard 1: its commit is there, but its scores are missing"]
