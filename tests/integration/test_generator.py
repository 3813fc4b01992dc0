"""A real vLLM replica in a Ray actor: versions, seeds, log-probabilities, and what happens when it dies."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rayalign.errors import ActorFailedError, AdapterVersionError, SyncError
from rayalign.records import (
    ADAPTER_WEIGHTS,
    Adapter,
    AdapterFiles,
    Prompt,
    SamplingPlan,
    Shard,
    TokenSequence,
    prompt_id,
)
from tests.integration.conftest import model_source, small_config
from tests.renderers import renderer

pytestmark = pytest.mark.integration
BASE = Adapter.base("b" * 64)
MODES = ["adapter", "merged"]
PLAN = SamplingPlan(1, "train", 0, 4, 1.0, 1.0, 32)


@pytest.fixture(scope="module")
def prompts(demo_folder: Path) -> list[Prompt]:
    from rayalign.data.prompts import rows_from_records
    from rayalign.data.token_ids import tokenize_prompts
    from rayalign.demo import world
    from rayalign.learning.folders import load_tokenizer

    rows = rows_from_records(world.prompts()[:16], "the demo world", "messages").rows
    return tokenize_prompts(rows, renderer(load_tokenizer(demo_folder)), 128)[0]


@pytest.fixture(scope="module")
def generators(local_ray: None, demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """One in each mode of sync; their engines start side by side."""
    from rayalign.actors.generator import RayGenerator

    def make(mode: str) -> RayGenerator:
        logs = str(tmp_path_factory.mktemp("logs"))
        config = small_config(sync={"mode": mode})
        return RayGenerator(model_source(demo_folder), config, logs, cpus=0.5, say=print)

    generators = {mode: make(mode) for mode in MODES}
    yield generators
    for generator in generators.values():
        generator.pool.close()


@pytest.fixture(scope="module", params=MODES)
def generator(request: pytest.FixtureRequest, generators: dict):
    generator = generators[request.param]
    generator.pool.ready()
    return generator


@pytest.fixture(scope="module")
def policy(demo_folder: Path):
    import torch

    from rayalign.learning.model import build_policy

    torch.set_num_threads(1)
    policy = build_policy(demo_folder, small_config().model)
    policy.reset_adapter(0)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05, generator=generator)
    return policy.eval()


@pytest.fixture(scope="module")
def adapter(policy) -> tuple[Adapter, AdapterFiles]:
    files = policy.adapter_files("demo")
    sha256 = hashlib.sha256(files[ADAPTER_WEIGHTS]).hexdigest()
    return Adapter(1, "adapter", sha256, "b" * 64, 0), AdapterFiles(1, sha256, files)


def texts(generator, prompts: list[Prompt], adapter: Adapter, plan: SamplingPlan = PLAN) -> dict[str, list[list[int]]]:
    shards = [Shard(0, tuple(prompts[:8])), Shard(1, tuple(prompts[8:]))]
    found: dict[str, list[list[int]]] = {}
    for sampled in generator.sample(shards, plan, adapter):
        for sample in sampled.samples:
            found.setdefault(sample.prompt_id, []).append(sample.token_ids)
    return found


def test_nothing_is_served_before_a_version_is_held(local_ray, demo_folder, generator, prompts) -> None:
    with pytest.raises(AdapterVersionError, match="holds no version"):
        texts(generator, prompts, BASE)


def test_samples_depend_on_their_seeds_alone(generator, prompts) -> None:
    """The same plan gives the same tokens, in another batch too; another round gives others."""
    generator.load(BASE, None)
    whole = texts(generator, prompts, BASE)
    assert texts(generator, prompts, BASE) == whole
    alone = texts(generator, prompts[3:4], BASE)
    assert alone[prompts[3].id] == whole[prompts[3].id]
    assert texts(generator, prompts, BASE, SamplingPlan(2, "train", 0, 4, 1.0, 1.0, 32)) != whole


def test_sampled_log_probs_and_ends(generator, prompts, policy) -> None:
    """Raw log-probs equal those of plain torch to 1e-4; an EOS is there exactly when the answer stopped by itself."""
    from rayalign.learning.step import token_logps_of

    generator.load(BASE, None)
    (sampled,) = generator.sample([Shard(0, tuple(prompts[:4]))], PLAN, BASE)
    by_id = {prompt.id: prompt for prompt in prompts}
    rows = [(by_id[s.prompt_id].token_ids, s.token_ids) for s in sampled.samples]
    with policy.base_only():
        expected = token_logps_of(policy, rows, "cpu", 4096)
    for sample, logps in zip(sampled.samples, expected, strict=True):
        assert sample.logprobs == pytest.approx(logps, abs=1e-4)
        assert sample.finish_reason in ("stop", "length")
    short = SamplingPlan(1, "train", 0, 4, 1.0, 1.0, 3)
    (cut,) = generator.sample([Shard(0, tuple(prompts[:4]))], short, BASE)
    assert {s.finish_reason for s in cut.samples} == {"length"}
    assert {len(s.token_ids) for s in cut.samples} == {3}
    eos = {s.token_ids[-1] for s in sampled.samples if s.finish_reason == "stop"}
    assert len(eos) == 1
    assert not eos & {t for s in cut.samples for t in s.token_ids}


def test_adapter_changes_log_probs_to_the_learners(generator, prompts, policy, adapter) -> None:
    from rayalign.learning.step import token_logps_of

    record, files = adapter
    generator.load(BASE, None)
    (sampled,) = generator.sample([Shard(0, tuple(prompts[:4]))], PLAN, BASE)
    by_id = {prompt.id: prompt for prompt in prompts}
    sequences = [TokenSequence(by_id[s.prompt_id].token_ids, s.token_ids) for s in sampled.samples]
    before = generator.logps(sequences, BASE)["generator-0"]
    (state,) = generator.load(record, files)
    assert (state.version, state.sha256) == (1, record.sha256)
    after = generator.logps(sequences, record)["generator-0"]
    learner = token_logps_of(policy, [(s.prompt_token_ids, s.response_token_ids) for s in sequences], "cpu", 4096)
    flat = [[x for row in rows for x in row] for rows in (before, after, learner)]
    assert flat[1] == pytest.approx(flat[2], abs=1e-4)
    assert sum(abs(a - b) for a, b in zip(flat[0], flat[1], strict=True)) / len(flat[0]) > 0.01
    with pytest.raises(AdapterVersionError, match="asked for adapter version 0 and holds version 1"):
        texts(generator, prompts, BASE)
    generator.load(record, files)
    assert generator.logps(sequences, record)["generator-0"] == after
    generator.load(BASE, None)
    assert generator.logps(sequences, BASE)["generator-0"] == before


def test_adapter_of_another_shape_is_refused_and_nothing_is_served(generator, prompts, demo_folder) -> None:
    """Then the next version is served as if nothing had been."""
    from rayalign.config.model import LoraSection, ModelSection
    from rayalign.learning.model import build_policy

    generator.load(BASE, None)
    before = texts(generator, prompts, BASE)
    other = build_policy(demo_folder, ModelSection(base="demo", lora=LoraSection(r=64)))
    other.reset_adapter(0)
    content = other.adapter_files("demo")
    broken = {**content, ADAPTER_WEIGHTS: content[ADAPTER_WEIGHTS].replace(b"layers.0.", b"layers.7.")}
    sha256 = hashlib.sha256(broken[ADAPTER_WEIGHTS]).hexdigest()
    record = Adapter(1, "adapter", sha256, "b" * 64, 0)
    with pytest.raises((SyncError, ActorFailedError, ValueError)):
        generator.load(record, AdapterFiles(1, sha256, broken))
    with pytest.raises(AdapterVersionError, match="holds no version"):
        texts(generator, prompts, record)
    generator.load(BASE, None)
    assert texts(generator, prompts, BASE) == before


def test_wrong_bytes_are_refused_and_nothing_is_served(generator, prompts, adapter) -> None:
    record, files = adapter
    bad = AdapterFiles(1, "0" * 64, files.files)
    with pytest.raises(SyncError, match="arrived with checksum"):
        generator.load(record, bad)
    with pytest.raises(AdapterVersionError, match="holds no version"):
        texts(generator, prompts, record)


def test_dead_replica_is_replaced_and_holds_the_adapter_again(generator, prompts, adapter) -> None:
    """The replica is killed while it samples: the shards come all the same, from the same version."""
    record, files = adapter
    generator.load(record, files)
    whole = texts(generator, prompts, record)
    (description,) = generator.pool.ready()
    os.kill(description["pid"], signal.SIGKILL)
    assert texts(generator, prompts, record) == whole
    (replacement,) = generator.pool.ready()
    assert replacement["pid"] != description["pid"]


def test_unknown_text_is_encoded(prompts: list[Prompt]) -> None:
    assert all(prompt_id(prompt.messages) == prompt.id for prompt in prompts)


def test_a_generator_on_cpu_sees_no_gpu(generator) -> None:
    (description,) = generator.pool.ready()
    assert psutil.Process(description["pid"]).environ()["CUDA_VISIBLE_DEVICES"] == ""


def test_its_cache_is_the_one_that_a_plan_counts_with(generator, demo_folder) -> None:
    """256 MiB: 512 sequences of 161 tokens, each of which takes two blocks of 128; it runs 128 at once."""
    from rayalign.learning.engine_cache import main_memory, need_of_model

    (description,) = generator.pool.ready()
    need = need_of_model(small_config(), demo_folder)
    assert (need.sequences, need.tokens, need.sequence) == (128, 161, 2 * need.block)
    assert need.bytes(main_memory(), 1) // need.sequence == 512
    assert (description["batch"], description["cache_tokens"]) == (128, 512 * 161)
