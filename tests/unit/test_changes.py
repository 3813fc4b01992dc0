"""What may change when a run is resumed: a remedy that an error names is accepted by the folder that raised it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rayalign
from rayalign.config.run import RunConfig
from rayalign.config.stages import StageConfig
from rayalign.errors import GuardError, RayalignError, RunFolderError, SyncError
from rayalign.launch.fork import fork_run, keep_samples
from rayalign.loop.round import Run
from rayalign.loop.run import run_rounds
from rayalign.store.changes import differences, is_bound
from rayalign.store.run_dir import RunDir
from tests.fakes import Fuse, Killed, make_config, make_run

INPUTS = {"model_sha256": "b" * 64, "prompts": "p"}


def test_what_depends_on_a_setting() -> None:
    for key, free, bound in (
        ("training.learning_rate", {"prompts", "train", "groups", "evaluation"}, {"adapter"}),
        ("objective.beta", {"prompts", "train", "groups"}, {"adapter"}),
        ("objective", {"train", "groups"}, {"revision"}),
        ("sampling.responses", {"prompts"}, {"train"}),
        ("prompts.holdout", set(), {"prompts"}),
        ("scoring", set(), {"evaluation"}),
        ("sync.tolerance", {"adapter", "train"}, None),
        ("limits.score_errors", {"adapter", "train"}, None),
        ("model.dtype", set(), {"stage"}),
    ):
        assert not is_bound(key, free), key
        assert bound is None or is_bound(key, free | bound), key


def test_differences_are_named_with_both_values() -> None:
    old, longer = make_config().to_dict(), make_config(run={"name": "fake", "rounds": 9}).to_dict()
    assert differences(old, longer) == {}
    assert differences(longer, old) == {"run.rounds": "9 -> 3"}
    other = make_config(training={"learning_rate": 1.0}, limits={"sample_timeout_s": 5}).to_dict()
    assert differences(old, other) == {
        "limits.sample_timeout_s": "600.0 -> 5.0", "training.learning_rate": "0.003 -> 1.0",
    }  # fmt: skip


def test_a_run_without_results_takes_any_config(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run_rounds(make_run(tmp_path, fuse=Fuse(0)))
    RunDir(tmp_path).keep_inputs({"prompts": "of before"})
    other = make_config(sampling={"responses": 2}, run={"name": "fake", "rounds": 1})
    run_rounds(run := make_run(tmp_path, other))
    run.run_dir.update_info(inputs={})
    assert RunDir(tmp_path).saved_config() == other.to_dict()
    with pytest.raises(RunFolderError, match=r"sampling\.responses: 2 -> 4"):
        RunDir(tmp_path).open(make_config(run={"name": "fake", "rounds": 1}).to_dict())


def no_groups(run: Run, round_index: int) -> None:
    run.parts.scorer.reward_of = lambda sample: 1.0 if sample.adapter_version == round_index - 1 else len(sample.text)


def failing_scores(run: Run, round_index: int) -> None:
    run.parts.scorer.reward_of = lambda sample: None if sample.adapter_version == round_index - 1 else 1.0


def stale_generator(run: Run, round_index: int) -> None:
    run.parts.generator.serves = lambda version: version - (version == round_index)


def not_finite(run: Run, round_index: int) -> None:
    update = run.parts.learner.update

    def fail(index: int, *arguments: Any) -> Any:
        if index == round_index:
            raise GuardError(*_source_of("loss or gradient is not finite"))
        return update(index, *arguments)

    run.parts.learner.update = fail


def _source_of(words: str) -> tuple[str, str, str]:
    """found, why and remedy of the error of the code in which some words stand."""
    [texts] = [texts for texts in _errors() if len(texts) == 3 and words in texts[0]]
    return texts[0], texts[1], texts[2]


FAULTS: dict[str, tuple[Callable[[Run, int], None], dict[str, Any], dict[str, dict[str, Any]]]] = {
    "no groups": (no_groups, {"groups": {"drop_equal_rewards": True}}, {"sampling": {"responses": 8}}),
    "scores that fail": (failing_scores, {}, {"limits": {"score_errors": 1.0}}),
    "a proof that fails": (stale_generator, {}, {"sync": {"tolerance": 9.0}}),
    "an update that is not finite": (not_finite, {}, {"training": {"learning_rate": 1e-5}}),
}


@pytest.mark.parametrize("round_index", [1, 2])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_remedy_is_accepted_by_the_folder_that_raised_it(tmp_path: Path, fault: str, round_index: int) -> None:
    break_it, settings, change = FAULTS[fault]
    base = {"run": {"name": "fake", "rounds": 3, "dir": str(tmp_path)}, **settings}
    run = make_run(tmp_path / "fake", make_config(**base))
    run.run_dir.keep_inputs(INPUTS)
    break_it(run, round_index)
    with pytest.raises(RayalignError) as caught:
        run_rounds(run)
    error = caught.value
    assert error.exit_code == 3
    RunDir(tmp_path / "fake").explain(error)
    [(section, values)] = change.items()
    [key] = [f"{section}.{name}" for name in values]
    assert key in error.remedy
    mended = make_config(**{**base, section: {**base.get(section, {}), **values}})
    if "--fork NAME" in error.remedy:
        assert key in error.remedy.partition("(what is done depends on ")[2]
        with pytest.raises(RunFolderError, match="belongs to another config"):
            make_run(tmp_path / "fake", mended)
        mended = fork_run(mended, "again")
        forked = RunDir(tmp_path / "again")
        kept = keep_samples(mended, forked, INPUTS)
        assert kept == (0 if section == "sampling" else 2)
        resumed = make_run(tmp_path / "again", mended)
    else:
        assert (section, round_index) not in {("training", 2), ("sampling", 1), ("sampling", 2)}
        resumed = make_run(tmp_path / "fake", mended)
        kept = 0 if section == "limits" else 2
    run_rounds(resumed)
    assert [r.index for r in resumed.run_dir.rounds()] == [0, 1, 2, 3]
    sampled = [one for one in resumed.parts.generator.asked if one[:2] == ("train", round_index)]
    assert bool(sampled) is (kept == 0)


def test_a_refused_adapter_is_trained_anew_unless_more_tolerance_is_given(tmp_path: Path) -> None:
    def attempt(tolerance: float, *, broken: bool, rate: float = 0.003) -> Run:
        config = make_config(
            sync={"tolerance": tolerance}, training={"learning_rate": rate}, run={"name": "fake", "rounds": 1}
        )
        run = make_run(tmp_path, config)
        if broken:
            stale_generator(run, 1)
        return run

    def updated(run: Run) -> bool:
        return any(stage == "update" and done < total for stage, _, total, done in run.parts.reporter.stages)

    for tolerance, again in ((0.01, True), (0.01, True), (0.02, False), (0.02, True)):
        run = attempt(tolerance, broken=True)
        with pytest.raises(SyncError, match=r"sync.tolerance"):
            run_rounds(run)
        assert updated(run) is again
        assert run.run_dir.round(1).adapter() is None and not run.run_dir.round(1).finished
    run = attempt(0.02, broken=False, rate=1e-5)
    run_rounds(run)
    assert updated(run) and run.run_dir.round(1).finished
    assert "refused" not in run.run_dir.round(1).commits()


def test_a_fork_keeps_only_samples_that_hold(tmp_path: Path) -> None:
    base = {"run": {"name": "fake", "rounds": 2, "dir": str(tmp_path)}}
    run = make_run(tmp_path / "fake", make_config(**base))
    run.run_dir.keep_inputs(INPUTS)
    not_finite(run, 2)
    with pytest.raises(GuardError):
        run_rounds(run)
    for name, change, inputs, kept in (
        ("rate", {"training": {"learning_rate": 1e-5}}, INPUTS, 2),
        ("objective", {"objective": {"type": "info_nca", "alpha": 1.0}}, INPUTS, 2),
        ("prompts", {"training": {"learning_rate": 1e-5}}, {**INPUTS, "prompts": "q"}, 0),
        ("scoring", {"combine": {"type": "min"}}, INPUTS, 0),
        ("gate", {"evaluation": {"gate": {"action": "restore_best"}, "responses": 2}}, INPUTS, 0),
        ("greedy", {"evaluation": {"greedy": True, "responses": 2}}, INPUTS, 2),
    ):
        forked = fork_run(make_config(**base, **change), name)
        assert keep_samples(forked, RunDir(tmp_path / name), inputs) == kept
        # Of a fork that has begun nothing is taken any more.
        assert keep_samples(forked, RunDir(tmp_path / name), inputs) == 0
        run_rounds(resumed := make_run(tmp_path / name, forked))
        assert [r.index for r in resumed.run_dir.rounds()] == [0, 1, 2]
    assert keep_samples(make_config(**base), RunDir(tmp_path / "fake"), INPUTS) == 0


def _errors() -> Iterator[list[str]]:
    """The texts of every error of ours in the code, what is filled in left out."""
    for path in sorted(Path(rayalign.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Error"):
                yield ["".join(_texts(argument)) for argument in node.args]


def _texts(node: ast.expr) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value


def _keys(kind: Any, prefix: str = "") -> Iterator[str]:
    """The dotted keys of a config section, whichever of its kinds it is."""
    for part in getattr(kind, "__args__", ()):
        yield from _keys(part, prefix)
    for name, field in getattr(kind, "model_fields", {}).items():
        yield f"{prefix}{name}"
        yield from _keys(field.annotation, f"{prefix}{name}.")


def test_every_setting_that_a_remedy_names_exists() -> None:
    known = {*_keys(RunConfig), *_keys(StageConfig)}
    sections = "|".join(sorted({key.partition(".")[0] for key in known if "." in key}))
    remedies = [texts[2] for texts in _errors() if len(texts) == 3]
    named = {key for text in remedies for key in re.findall(rf"\b(?:{sections})\.[a-z_]+", text)}
    assert len(named) > 20
    assert named - known == {"model.save_pretrained", "run.json"}
