"""Training all weights: the update, the base beside it, the files, and who reads them."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save, save_file
from transformers import AutoModelForCausalLM

from rayalign.commands.chat import chat
from rayalign.commands.export import export
from rayalign.config.file import load_config
from rayalign.config.model import ModelSection
from rayalign.config.objective import NCAObjective
from rayalign.errors import ConfigError, ModelError, SyncError
from rayalign.learning.folders import load_tokenizer
from rayalign.learning.merged import MergedWeights
from rayalign.learning.model import Policy, build_policy
from rayalign.learning.packing import collate_padded
from rayalign.learning.step import FiniteWatch, StepContext, micro_batch_loss
from rayalign.losses import nca_loss
from rayalign.records import FULL_CONFIG, FULL_WEIGHTS, TrainingGroup, weights_file
from rayalign.store.run_dir import RunDir
from tests.tiny_run import change_all, make_base, make_saved_run

torch.set_num_threads(1)

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
FAMILIES = ["llama_folder", "qwen_folder"]
"""With the output head apart from the embedding, and tied to it."""
BATCH = collate_padded([([1, 2, 3], [4, 5]), ([9], [8, 7, 6, 5, 4])])
NCA = NCAObjective(type="nca", alpha=0.5, beta=0.3)
RATE = 1e-3


def group(prompt: list[int], responses: list[list[int]], rewards: list[float]) -> TrainingGroup:
    zeros = [[0.0] * len(response) for response in responses]
    return TrainingGroup("p", prompt, list(range(len(responses))), responses, zeros, rewards)


GROUPS = [
    group([1, 2, 3], [[4, 5], [6], [7, 8, 9, 10]], [1.0, 0.0, 0.5]),
    group([9, 8, 7, 6], [[1], [2, 11], [3, 3]], [0.0, 1.0, 0.3]),
]


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def full_policy(folder: Path) -> Policy:
    return build_policy(folder, ModelSection(base=str(folder), full=True))


@torch.no_grad()
def logps(policy: Policy) -> torch.Tensor:
    return policy(BATCH)


def response_logps(model: torch.nn.Module, group: TrainingGroup) -> torch.Tensor:
    """[K] summed log-probabilities, each response on its own, from all logits of a model of transformers."""
    sums = []
    for tokens in group.response_token_ids:
        ids = torch.tensor([group.prompt_token_ids + tokens])
        logps_TV = model(input_ids=ids).logits[0].log_softmax(-1)[len(group.prompt_token_ids) - 1 : -1]
        sums.append(logps_TV.gather(-1, torch.tensor(tokens)[:, None]).sum())
    return torch.stack(sums)


def test_one_update_is_plain_torch(folder: Path) -> None:
    """NCA on two groups, the norm over all weights clipped, one step of AdamW; a tied weight counts once.

    Adam's first step is the rate times the sign of the gradient, so where one is all but zero a rounding error moves
    it by up to the rate: the gradients are compared, and the mean over all weights.
    """
    policy, plain = full_policy(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        references_GK = [response_logps(plain, one) for one in GROUPS]
    losses = [
        nca_loss(response_logps(plain, one)[None], reference_K[None], torch.tensor([one.rewards]), alpha=0.5, beta=0.3)
        for one, reference_K in zip(GROUPS, references_GK, strict=True)
    ]
    expected = sum(output.loss for output in losses) / len(GROUPS)
    references = [{("response", k): float(value) for k, value in enumerate(of_group)} for of_group in references_GK]
    watch = FiniteWatch(policy.trainable())
    loss, _ = micro_batch_loss(policy, GROUPS, references, StepContext([NCA], 1, "cpu", policy.collate), {"nca": 2})
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-5)
    for model, value in ((policy, loss), (plain, expected)):
        value.backward()
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        assert float(torch.nn.utils.clip_grad_norm_(parameters, 1.0)) > 1.0
        torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0).step()
    assert watch.take()
    ours, theirs = policy.trainable(), list(plain.parameters())
    assert len(ours) == len(theirs) == len(list(policy.parameters()))
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.grad is not None and other.grad is not None
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6)
    gaps = torch.cat([(mine - other).detach().abs().flatten() for mine, other in zip(ours, theirs, strict=True)])
    assert float(gaps.mean()) < 1e-3 * RATE
    base = load_file(folder / "model.safetensors")
    made = load(policy.adapter_files("x")[FULL_WEIGHTS])
    assert all(float((made[name] - base[name]).abs().max()) > 0.9 * RATE for name in base)


def test_base_only_is_the_base_and_ends(folder: Path) -> None:
    policy = full_policy(folder)
    base = logps(policy)
    change_all(policy, 3)
    trained = logps(policy)
    assert float((trained - base).abs().max()) > 0.1
    with policy.base_only():
        assert torch.equal(logps(policy), base)
    assert torch.equal(logps(policy), trained)
    with pytest.raises(RuntimeError, match="stop"), policy.base_only():
        raise RuntimeError("stop")
    assert torch.equal(logps(policy), trained)
    policy.reset_adapter(0)
    assert torch.equal(logps(policy), base)


def test_files_go_round_and_load_as_a_plain_model(folder: Path, tmp_path: Path) -> None:
    one, two = full_policy(folder), full_policy(folder)
    change_all(one, 3)
    files = one.adapter_files("demo")
    assert set(files) == {FULL_CONFIG, FULL_WEIGHTS} and weights_file(files) == FULL_WEIGHTS
    assert load(files[FULL_WEIGHTS]).keys() == load_file(folder / "model.safetensors").keys()
    two.load_adapter(files)
    assert two.adapter_files("elsewhere") == files
    assert torch.equal(logps(one), logps(two))
    change_all(one, 4)
    assert two.adapter_files("demo") == files
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float32}
    with torch.no_grad():
        expected = [float(response_logps(plain, one_group).sum()) for one_group in GROUPS]
        rows = [collate_padded([(g.prompt_token_ids, tokens) for tokens in g.response_token_ids]) for g in GROUPS]
        assert [float(two(batch).sum()) for batch in rows] == pytest.approx(expected, abs=1e-3)


def test_the_configs_type_is_the_trained_one(tmp_path: Path) -> None:
    """A base stored in bfloat16 is trained and saved in float32."""
    base = make_base(tmp_path, torch.bfloat16)
    files = full_policy(base).adapter_files("x")
    assert json.loads(files[FULL_CONFIG])["dtype"] == "float32"
    assert {tensor.dtype for tensor in load(files[FULL_WEIGHTS]).values()} == {torch.float32}


def test_weights_of_another_model_are_refused_and_change_nothing(llama_folder: Path, qwen_folder: Path) -> None:
    policy, other = full_policy(llama_folder), full_policy(qwen_folder)
    before = policy.adapter_files("x")
    with pytest.raises(ModelError, match=r"k_proj\.bias of the round's weights is not in the model"):
        policy.load_adapter(other.adapter_files("x"))
    tensors = load(before[FULL_WEIGHTS])
    with pytest.raises(ModelError, match="has another shape than"):
        policy.load_adapter({FULL_WEIGHTS: save({**tensors, "lm_head.weight": torch.ones(2, 2)})})
    del tensors["model.norm.weight"]
    with pytest.raises(ModelError, match=r"norm\.weight of the model is not in the round's weights"):
        policy.load_adapter({FULL_WEIGHTS: save(tensors)})
    assert policy.adapter_files("x") == before


def test_a_checkpoint_of_other_names_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama_folder, tmp_path / "copy"))
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "model.rotary.inv_freq": torch.ones(4)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.rotary\.inv_freq of the base's checkpoint(.|\n)*save_pretrained"):
        full_policy(folder)


def test_generators_get_every_tensor_of_the_file(folder: Path) -> None:
    policy = full_policy(folder)
    change_all(policy, 3)
    files = policy.adapter_files("x")
    weights = MergedWeights(folder)
    found = dict(weights.tensors(files))
    expected = load(files[FULL_WEIGHTS])
    assert found.keys() == expected.keys() == weights.shapes().keys()
    assert all(torch.equal(found[name], expected[name]) and found[name].dtype == torch.float32 for name in found)
    lost = {name: tensor for name, tensor in expected.items() if name != "model.norm.weight"}
    with pytest.raises(SyncError, match=r"model\.norm\.weight has shape None in the round's weights and \[32\]"):
        weights.tensors({FULL_WEIGHTS: save(lost)})
    with pytest.raises(SyncError, match="has shape \\[3\\] in the round's weights and None"):
        weights.tensors({FULL_WEIGHTS: save({**expected, "extra": torch.ones(3)})})


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.quantization=nf4", "quantised weights cannot be trained; set quantization: none"),
        ("model.dtype=bfloat16", "small steps are lost(.|\n)*set dtype: float32"),
        ("model.lora.r=8", "there is no adapter that they could apply to; remove lora"),
        ("sync.mode=adapter", "set sync.mode to auto or merged"),
        ("training.zero_stage=3", "set training.zero_stage to 1 or 2"),
        ("cluster.learner.gpus=1", "set cluster.generators.gpus and cluster.learner.gpus to 0"),
        ("cluster.generators.gpus=1", "set cluster.generators.gpus and cluster.learner.gpus to 0"),
    ],
)
def test_what_does_not_go_with_all_weights_is_refused(override: str, words: str) -> None:
    """LoRA's settings as the quickstart spells them out, at their defaults, are taken."""
    assert load_config(QUICKSTART, ["model.full=true"]).merges
    assert load_config(QUICKSTART, ["model.full=true", "sync.mode=merged", "training.zero_stage=2"]).model.full
    with pytest.raises(ConfigError, match=words):
        load_config(QUICKSTART, ["model.full=true", override])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def saved(base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return make_saved_run(tmp_path_factory.mktemp("runs") / "tiny", base, model={"base": str(base), "full": True})


@pytest.mark.parametrize("merge", [False, True])
def test_export_is_the_whole_model(saved: RunDir, base: Path, tmp_path: Path, merge: bool) -> None:
    said: list[str] = []
    export(str(saved.root), tmp_path / "m", merge=merge, say=lambda text: said.extend(text.splitlines()))
    found = saved.round(1).adapter()
    assert found is not None and found.files is not None
    assert (tmp_path / "m" / FULL_WEIGHTS).read_bytes() == found.files.files[FULL_WEIGHTS]
    assert {path.name for path in base.iterdir()} | {"README.md", "export.json"} == {
        path.name for path in (tmp_path / "m").iterdir()
    }
    assert "all weights were trained" in said[0]
    assert said[-1] == f"serve it: vllm serve {tmp_path / 'm'} --dtype float32"
    card = (tmp_path / "m" / "README.md").read_text()
    assert "library_name: transformers" in card and "lora\n" not in card.split("---")[1]
    assert f"All weights of `{base.name}`, trained by rayalign" in card
    assert str(found.record.sha256) in card


def test_chat_with_all_weights(saved: RunDir, base: Path, tmp_path: Path) -> None:
    """The answer is that of the exported model, and not the base's."""

    def answer(round_index: int) -> str:
        out = io.StringIO()
        chat(str(saved.root), round_index, base=None, temperature=0.0, max_tokens=6, source=io.StringIO("w1 w2\n"),
             out=out, say=lambda text: None)  # fmt: skip
        return out.getvalue().strip()

    export(str(saved.root), tmp_path / "m", say=lambda text: None)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m").eval()
    tokenizer = load_tokenizer(tmp_path / "m")
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "w1 w2"}], tokenize=True, add_generation_prompt=True, return_dict=False
    )
    made_ids = model.generate(torch.tensor([list(ids)]), max_new_tokens=6, do_sample=False)[0, len(ids) :]
    assert answer(1) == tokenizer.decode(made_ids, skip_special_tokens=True)
    assert answer(1) != answer(0)
