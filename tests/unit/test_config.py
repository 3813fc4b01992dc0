"""The round config: every shipped file parses, every mistake is named at once, nothing but ConfigError is raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, strategies as st
from pydantic import ValidationError

import rayalign
from rayalign.config.base import RoundSchedule, value_at
from rayalign.config.file import load_config, load_config_of, redact, resolved_yaml
from rayalign.config.mistakes import is_secret
from rayalign.config.objective import InfoNCAObjective, NCAObjective
from rayalign.config.run import RunConfig
from rayalign.config.stages import AllConfig, StageConfig
from rayalign.errors import ConfigError

ROOT = Path(__file__).parents[2]
MINIMAL: dict[str, Any] = {
    "model": {"base": "demo"},
    "prompts": {"source": "demo"},
    "scoring": [{"type": "rule", "function": "demo"}],
    "objective": {"type": "nca", "alpha": 0.2},
}


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return path


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def message_of(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "given.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return message(path)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_quantised_weights_are_not_cut_up(minimal: Path, kind: str) -> None:
    said = message(minimal, f"model.quantization={kind}", "training.zero_stage=3")
    assert "trains wrongly" in said and "set training.zero_stage to 1 or 2" in said
    for stage in (1, 2):
        load_config(minimal, [f"model.quantization={kind}", f"training.zero_stage={stage}"])


def test_only_what_can_leave_a_gpu_is_offloaded(minimal: Path) -> None:
    for stage in (1, 2):
        said = message(minimal, "training.offload=[parameters]", f"training.zero_stage={stage}")
        assert "training.offload parameters" in said and "set training.zero_stage to 3" in said
    said = message(minimal, "training.offload=[optimizer]", "training.optimizer=paged_adamw")
    assert "set training.optimizer to adamw" in said
    assert "training.offload" in message(minimal, "training.offload=[gradients]")
    for stage, parts in ((1, "[optimizer]"), (2, "[optimizer]"), (3, "[parameters]"), (3, "[optimizer, parameters]")):
        load_config(minimal, [f"training.offload={parts}", f"training.zero_stage={stage}"])


@pytest.mark.parametrize(
    ("value", "expected", "remade"),
    [("true", True, [2, 8]), ("false", False, [0, 0]), ("0", 0, [0, 0]), ("1", 1, [1, 1]), ("4", 4, [2, 4])],
)
def test_layers_are_checkpointed_by_number(minimal: Path, value: str, expected: bool | int, remade: list[int]) -> None:
    training = load_config(minimal, [f"training.gradient_checkpointing={value}"]).training
    assert training.gradient_checkpointing is expected
    assert [training.remade(layers) for layers in (2, 8)] == remade


@pytest.mark.parametrize("value", ["-1", "2.5", "some", "null"])
def test_what_is_no_number_of_layers_is_refused(minimal: Path, value: str) -> None:
    said = message(minimal, f"training.gradient_checkpointing={value}")
    assert "training.gradient_checkpointing" in said and "found" in said and "true, false or a number of layers" in said


@pytest.mark.parametrize(
    "objective", ["{type: nca, reference: base}", "{type: spin}", "{type: cut}", "[{type: nca}, {type: spin}]"]
)
def test_generator_as_reference_where_it_is_not_the_reference(minimal: Path, objective: str) -> None:
    judge = "scoring=[{type: rule, function: demo}, {type: judge, transport: demo}]"
    said = message(minimal, judge, f"objective={objective}", "training.reference_logps=generator")
    assert "reference round_start" in said and "set it to auto or learner" in said


@pytest.mark.parametrize("objective", ["{type: nca}", "{type: dpo}", "[{type: nca}, {type: cut}]"])
def test_generator_as_reference(minimal: Path, objective: str) -> None:
    judge = "scoring=[{type: rule, function: demo}, {type: judge, transport: demo}]"
    config = load_config(minimal, [judge, f"objective={objective}", "training.reference_logps=generator"])
    assert config.reference == "round_start"


OTHER_COMMANDS = {"sft_demo.yaml": StageConfig, "reward_model_demo.yaml": StageConfig, "demo_all.yaml": AllConfig}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_parses(path: Path) -> None:
    kind = OTHER_COMMANDS.get(path.name, RunConfig)
    config = load_config_of(kind, path)
    assert kind.model_validate(yaml.safe_load(resolved_yaml(config))) == config


def test_quickstart_says_what_the_defaults_are(minimal: Path) -> None:
    shipped = load_config(ROOT / "configs" / "quickstart.yaml").to_dict()
    defaults = load_config(minimal, ["run.name=quickstart", "objective.alpha=0.1"]).to_dict()
    assert shipped == defaults


def test_exported_at_the_top() -> None:
    assert rayalign.load_config is load_config


def test_all_errors_at_once_one_line_each(minimal: Path) -> None:
    text = message(minimal, "run.rounds=-1", "model.lora.r=12", "model.dtype=fp32", "zzz=1", "objective.beta=fast")
    lines = [line.strip() for line in text.splitlines()[1:]]
    assert "5 mistakes" in text.splitlines()[0]
    assert len(lines) == 5
    assert "run.rounds: found -1; it must be at least 1; the default is 5" in lines
    assert "model.dtype: found 'fp32'; use float32, bfloat16 or auto" in lines
    assert any(line.startswith("model.lora: vLLM cannot serve LoRA rank 12; use one of 1, 8, 16") for line in lines)
    assert any(line.startswith("zzz: unknown key (found 1); the keys there are run, model") for line in lines)
    assert "objective.beta: found 'fast'; it must be a number; the default is 0.3" in lines


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("run.roundz=3", "run.roundz: unknown key (found 3); did you mean rounds?"),
        ("trainning.epochs=1", "did you mean training?"),
        ("scoring.0.wieght=2", "scoring.0.wieght: unknown key (found 2); did you mean weight?"),
        ("objective.aplha=2", "did you mean alpha?"),
        ("cluster.generators.tensor_paralel=1", "did you mean tensor_parallel?"),
        ("prompts.learning_rate=1", "this key belongs in training.learning_rate"),
        ("objective={type: dpo, alpha: auto}", "objective.alpha: unknown key (found 'auto'); it is a key of another"),
        ("objective=[{type: dpo, alpha: 1}]", "objective.0.alpha: unknown key (found 1); it is a key of another type"),
        ("objective={type: dpo, alpha: 1}", "another type there: type nca or info_nca"),
        ("scoring.0.type=answer", "scoring.0.function: unknown key (found 'demo'); it is a key of another type"),
        ("objective.type=nac", "objective.type: found 'nac'; use one of nca, info_nca, dpo, pairwise_nca"),
        ("run={namee: x}", "did you mean name?"),
    ],
)
def test_did_you_mean(minimal: Path, override: str, hint: str) -> None:
    assert hint in message(minimal, override)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model=5", "model: found 5; it must be a section"),
        ("objective=nca", "objective: found 'nca'; it must be a section"),
        ("objective=[]", "objective: found []; it must not be empty"),
        ("objective=[nca]", "objective.0: found 'nca'; it must be a section"),
        ("objective.alpha={start: 1, end: x, rounds: 2}", "objective.alpha.end: found 'x'; it must be a number"),
        ("objective.alpha=autom", "objective.alpha: found 'autom'; it must be a number, or auto; the default is 0.1"),
        ("objective.alpha=-1", "objective.alpha: found -1; it must be more than 0"),
        ("objective={type: self_contrast, negatives: al}", "negatives: found 'al'; it must be a whole number, or all;"),
        ("objective.alpha={start: 1}", "objective.alpha.rounds: missing"),
        ("run.rounds=true", "run.rounds: found true; it must be a whole number"),
        ("run.rounds=1.5", "run.rounds: found 1.5; it must be a whole number"),
        ("run.name=42", "run.name: found 42; it must be text"),
        ("run.name='a b'", "use letters, digits"),
        ("training.learning_rate=.nan", "found nan"),
        ("training=", "training: found nothing (null)"),
        ("model.lora.targets=5", "model.lora.targets"),
        ("model.lora.targets=q_proj", "found 'q_proj'; use all-linear, or a list, as in [q_proj]"),
        ("cluster.generators.min=2", "is below min"),
        ("hub_token=hf_abc", "hub_token: unknown key (found ***)"),
    ],
)
def test_mistakes_in_plain_words(minimal: Path, override: str, words: str) -> None:
    text = message(minimal, override)
    assert words in text
    assert "1 mistake" in text or override.startswith("objective.alpha={start: 1}")
    assert "hf_abc" not in text
    assert not any(jargon in text for jargon in ("tagged-union", "constrained", "pydantic", "Section", "Objective"))


def test_override_types(minimal: Path) -> None:
    overrides = ["training.learning_rate=1e-4", "run.rounds=2", "groups.drop_equal_rewards=true", "scoring.0.weight=2"]
    config = load_config(minimal, [*overrides, "run.name=2026-11-21", "model.lora.targets=[q_proj, v_proj]"])
    assert config.training.learning_rate == 1e-4
    assert config.run.rounds == 2
    assert config.groups.drop_equal_rewards is True
    assert config.scoring[0].weight == 2
    assert config.run.name == "2026-11-21"
    assert config.model.lora.targets == ["q_proj", "v_proj"]


def test_changing_the_objective_type_keeps_its_other_keys(minimal: Path) -> None:
    objective = load_config(minimal, ["objective.type=info_nca"]).objective
    assert objective == InfoNCAObjective(type="info_nca", alpha=0.2)


def test_override_does_not_leak_through_a_yaml_alias(tmp_path: Path) -> None:
    path = tmp_path / "alias.yaml"
    moving = "{start: 1, end: 0.1, rounds: 2}"
    objectives = f"[{{type: nca, alpha: &a {moving}}}, {{type: info_nca, alpha: *a}}]"
    text = yaml.safe_dump({key: value for key, value in MINIMAL.items() if key != "objective"})
    path.write_text(f"{text}objective: {objectives}\n")
    first, second = load_config(path, ["objective.0.alpha.start=0.5"]).objectives
    assert (first.alpha.start, second.alpha.start) == (0.5, 1)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("run.rounds", "it must read key=value"),
        ("=3", "it must read key=value"),
        ("run..rounds=3", "it must read key=value"),
        ("run.name.x=1", "no keys inside"),
        ("scoring.1.weight=1", "scoring is a list of 1"),
        ("scoring.first.weight=1", "scoring is a list of 1"),
        ("evaluation.baselines.0=previous", "has no items"),
        ("run.name=[", "not valid YAML"),
    ],
)
def test_overrides_that_cannot_be_applied(minimal: Path, override: str, words: str) -> None:
    if override == "run.name.x=1":
        assert "cannot set 'x' in run.name" in message(minimal, "run.name=a", override)
    else:
        assert words in message(minimal, override)


def test_files_that_are_no_config(tmp_path: Path) -> None:
    assert "No such file" in message(tmp_path / "none.yaml")
    assert "directory" in message(tmp_path)
    assert "is empty" in message_of(tmp_path, "# only a comment\n")
    assert "the top level is [1, 2]" in message_of(tmp_path, "[1, 2]")
    assert "line 2 is not UTF-8" in message_of(tmp_path, b"run:\n  name: \xff\n")
    assert "line 2, column" in message_of(tmp_path, "run: {name: a\nmodel: x: y\n")
    assert "run" in message_of(tmp_path, "\ufeffrun: {rounds: 0}")
    assert "not valid YAML" in message_of(tmp_path, "a: !!python/object/apply:os.getcwd []")
    assert "cannot be read" in message_of(tmp_path, "[" * 5000)


def test_duplicate_keys_are_refused_with_their_lines(tmp_path: Path) -> None:
    text = message_of(tmp_path, "run:\n  seed: 1\n  rounds: 2\n  seed: 3\n")
    assert "line 4: the key 'seed' stands there again (first on line 2)" in text


def test_config_is_frozen(minimal: Path) -> None:
    with pytest.raises(ValidationError):
        load_config(minimal).run.rounds = 3  # type: ignore[misc]


def test_scheduled_values_move_linearly_and_then_stay() -> None:
    """0.3 to 0.1 over four rounds: steps of 0.2 / 3."""
    schedule = RoundSchedule(start=0.3, end=0.1, rounds=4)
    values = [value_at(schedule, index) for index in (1, 2, 4, 9)]
    assert values == pytest.approx([0.3, 0.3 - 0.2 / 3, 0.1, 0.1])
    assert value_at(0.5, 7) == 0.5
    assert value_at(RoundSchedule(start=0.3, end=0.1, rounds=1), 1) == pytest.approx(0.3)


def test_objective_list_shares_one_reference(minimal: Path) -> None:
    config = load_config(minimal, ["objective=[{type: nca}, {type: info_nca, weight: 2}]"])
    assert [type(objective) for objective in config.objectives] == [NCAObjective, InfoNCAObjective]
    assert "share one reference" in message(minimal, "objective=[{type: nca}, {type: info_nca, reference: base}]")


def test_secrets_are_redacted() -> None:
    data = {"api_key": "a", "max_tokens": 3, "tokens_per_micro_batch": 4, "in": [{"hubToken": "b"}], "n_key": None}
    assert redact(data) == {**data, "api_key": "***", "in": [{"hubToken": "***"}]}
    assert redact({"source": "https://me:pw@host/x"}) == {"source": "https://***@host/x"}
    assert [is_secret(key) for key in ("password", "monkey", "tokenizer", "client-secret")] == [
        True,
        False,
        False,
        True,
    ]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "run", "model", "base", "scoring", "objective", "alpha", "start"]) | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
sections = st.fixed_dictionaries({}, optional=dict.fromkeys(RunConfig.model_fields, values))


@given(data=st.one_of(values, sections))
def test_no_structure_raises_anything_but_config_error(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "structure.yaml"
    path.write_bytes(yaml.safe_dump(data, allow_unicode=False).encode())
    check_only_config_error(path, [])


@given(content=st.one_of(st.binary(), st.text(alphabet="ab01:-[]{}&*!#|>?%@'\"<,. \n\t_exo~").map(str.encode)))
def test_no_bytes_raise_anything_but_config_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    check_only_config_error(path, [])


@given(
    path=st.lists(st.sampled_from(["run", "rounds", "scoring", "0", "objective", "alpha", "x", "²"]), max_size=4),
    value=st.text(alphabet="ab01:-[]{}&*!#'\", ._exo~\ud800"),
)
def test_no_override_raises_anything_but_config_error(path: list[str], value: str) -> None:
    check_only_config_error(ROOT / "configs" / "quickstart.yaml", [f"{'.'.join(path)}={value}"])


def check_only_config_error(path: Path, overrides: list[str]) -> None:
    try:
        load_config(path, overrides)
    except ConfigError as error:
        assert error.found
