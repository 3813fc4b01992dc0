"""What a prompt costs the driver in a source of 10,000 and of 1,000,000: seconds per prompt, and peak memory.

Each size runs in a process of its own, with all that a run's driver imports, through a whole round of every prompt:

    read      JSONL ─► rows ─► chat template and tokenizer ─► prompt store, split
    sample    draw, prompts.parquet, shards ─► a generator that makes tokens up ─► a rule, in process ─► commits
    groups    Ray Data on a local Ray, whose processes have started before
    finish    the trust checks' counts over all scores, COMMIT.json

    .venv/bin/python benchmarks/data_scale.py [--quick | --prompts N N] [--folder DIR]

Runs are written below DIR (default: the system's temporary folder) with every fsync of a real run, six per shard, which
on a slow disk take most of the time. The last line is JSON: the large source's peak memory and seconds per prompt, over
the small one's; and the same of the driver's CPU seconds, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
SIZES, QUICK = (10_000, 1_000_000), (2_000, 20_000)
K, HOLDOUT, WARM_UP = 2, 256, 64
RULE = "def score(prompt, response, metadata): return len(response) % 7 / 6\n"


def write_source(path: Path, count: int) -> None:
    with path.open("w") as file:
        for i in range(count):
            row = {"prompt": f"List {2 + i % 5} animals or tools for case {i}.", "topic": f"t{i % 97}"}
            file.write(json.dumps(row) + "\n")


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Generator:
    """Twelve made-up tokens per answer, by the hash of prompt and index."""

    def load(self, adapter: Any, files: Any) -> list[Any]:
        return []

    def sample(self, shards: Iterable[Any], plan: Any, adapter: Any) -> Iterator[Any]:
        from rayalign.records import Sample, SampledShard

        for shard in shards:
            samples = []
            for prompt in shard.prompts:
                for index in range(plan.responses):
                    digest = hashlib.sha256(f"{prompt.id}:{index}".encode()).digest()
                    tokens = [5 + byte for byte in digest[:11]] + [2]
                    logprobs = [-byte / 64 for byte in digest[:12]]
                    text = digest.hex()[: 8 + digest[0] % 16]
                    samples.append(Sample(prompt.id, index, text, tokens, logprobs, "stop", 0, digest[1]))
            yield SampledShard(shard, samples)

    def logps(self, sequences: Any, adapter: Any) -> dict[str, Any]:
        raise AssertionError("nothing is synced here")


class InProcess:
    """`Scorer`: the run's scorers in this process."""

    def __init__(self, scorers: Any) -> None:
        self._scorers = scorers

    def score(self, sampled: Iterable[Any]) -> Iterator[Any]:
        from rayalign.records import ScoredShard

        for item in sampled:
            yield ScoredShard(item.shard, self._scorers.score(item.shard.prompts, item.samples))


@dataclass
class Clock:
    """Seconds, CPU seconds and peak memory of each part."""

    parts: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.parts[name] = (time.perf_counter() - wall, time.process_time() - cpu, peak_mib())


class Reporter:
    """The loop's `Reporter`; stages go to the clock."""

    def __init__(self, clock: Clock | None) -> None:
        self._clock = clock

    def say(self, text: str) -> None:
        print(text, file=sys.stderr)

    def event(self, kind: str, **fields: Any) -> None:
        pass

    @contextlib.contextmanager
    def stage(self, name: str, round_index: int, total: int, done: int = 0) -> Iterator[Any]:
        from rayalign.tracking.console import Stage

        with self._clock.part(name) if self._clock else contextlib.nullcontext():
            stage = Stage(name, round_index, lambda items: None)
            yield stage
            stage.end()

    def write(self) -> None:
        pass


def run_config(folder: Path, source: Path) -> Any:
    from rayalign.config.run import RunConfig

    (folder / "rule.py").write_text(RULE)
    return RunConfig.model_validate({
        "run": {"name": "scale", "rounds": 1},
        "model": {"base": "demo"},
        "prompts": {"source": str(source), "per_round": 10**9, "holdout": HOLDOUT},
        "sampling": {"responses": K},
        "scoring": [{"type": "rule", "function": f"{folder}/rule.py:score"}],
        "groups": {"drop_equal_rewards": True},
        "objective": {"type": "nca"},
    })  # fmt: skip


def read(config: Any, tokenizer: Any) -> tuple[Any, Any]:
    """What `launch.inputs.read_inputs` does of the prompts."""
    from rayalign.data.drawing import split_prompts
    from rayalign.data.prompt_store import PromptStore
    from rayalign.data.token_ids import fitting_prompts
    from rayalign.launch.inputs import prompt_rows
    from rayalign.rendering.renderer import ChatRenderer
    from rayalign.rendering.template import UNDATED

    rows, store = prompt_rows(config.prompts, Path(), targets=False), PromptStore()
    renderer = ChatRenderer(tokenizer, config.prompts.template, UNDATED)
    store.add(fitting_prompts(rows, renderer, config.prompts.max_tokens))
    return store, split_prompts(*store.ids(), config.prompts.holdout)


def round_of(
    folder: Path,
    config: Any,
    store: Any,
    train_ids_N: Sequence[bytes],
    builder: Callable[..., Any],
    clock: Clock | None,
) -> None:
    from rayalign.demo.rules import demo_rule
    from rayalign.loop.round import Parts, Run, produce
    from rayalign.loop.trust import TrustChecks
    from rayalign.records import Adapter
    from rayalign.scoring.scorers import Scorers
    from rayalign.scoring.sources import SourceReaders, read_sources
    from rayalign.store.run_dir import RunDir

    run_dir, reporter = RunDir(folder / "run"), Reporter(clock)
    readers = SourceReaders(lambda section: (folder, ""), demo_rule)
    scorers = Scorers(config.scorer_settings, read_sources(config.scoring, folder, readers))
    scorer = InProcess(scorers)
    parts = Parts(Generator(), scorer, builder(run_dir), None, None, reporter)  # type: ignore[arg-type]
    run = Run(config, run_dir, parts, store, train_ids_N, "b" * 64)  # type: ignore[arg-type]
    groups = produce(run, 1, Adapter.base("b" * 64))
    assert groups.kept + sum(groups.dropped.values()) == len(train_ids_N) and groups.kept and groups.dropped
    with reporter.stage("trust", 1, 0):
        checks = TrustChecks(config, run_dir, {}, {scorer.name for scorer in config.scoring}, scorer, reporter)
        assert checks.report(1)["answers"]["train"] == K * len(train_ids_N)
    with reporter.stage("commit", 1, 0):
        run_dir.round(1).finish(adapter_sha256=None)
    scorers.close()


def start_workers() -> None:
    """All processes that Ray Data's tasks run in, with what they import."""
    import ray.data

    def task(row: dict[str, Any]) -> dict[str, Any]:
        import rayalign.actors.groups  # noqa: F401

        time.sleep(2)
        return row

    tasks = 8 * (os.cpu_count() or 1)
    ray.data.range(tasks, override_num_blocks=tasks).map(task, num_cpus=0.25).materialize()


def child(folder: Path, count: int) -> None:
    from rayalign.actors.process import QUIET_ENV

    os.environ |= QUIET_ENV
    import rayalign.launch.wiring  # noqa: F401
    from rayalign.actors.cluster import connected
    from rayalign.actors.groups import RayGroupBuilder
    from rayalign.actors.model_source import ModelSource
    from rayalign.demo.language import build_tokenizer

    tokenizer, clock = build_tokenizer(), Clock()
    with connected() as cluster:
        model = ModelSource.of(folder, cluster)

        def whole_round(place: Path, source: Path, clock: Clock | None) -> None:
            place.mkdir()
            config = run_config(place, source)
            with clock.part("read") if clock else contextlib.nullcontext():
                store, split = read(config, tokenizer)
            builder = lambda run_dir: RayGroupBuilder(run_dir, config, model)  # noqa: E731
            round_of(place, config, store, split.train_N, builder, clock)

        write_source(folder / "small.jsonl", WARM_UP + HOLDOUT)
        whole_round(folder / "small", folder / "small.jsonl", None)
        start_workers()
        start, cpu, before = time.perf_counter(), time.process_time(), peak_mib()
        whole_round(folder / "large", folder / "source.jsonl", clock)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    found = {"seconds": seconds, "cpu": cpu, "before": before, "peak": peak_mib(), "parts": clock.parts}
    print(json.dumps(found))


def measure(count: int, parent: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=parent) as name:
        write_source(Path(name) / "source.jsonl", count)
        command = [sys.executable, __file__, "--child", str(count), "--folder", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{count} prompts failed")
        found = json.loads(done.stdout.splitlines()[-1])
    print(f"{count:,} prompts: {found['seconds']:.1f} s, {1e3 * found['seconds'] / count:.3f} ms a prompt, peak "
          f"{found['peak']:.0f} MiB ({found['before']:.0f} after a round of {WARM_UP})", flush=True)  # fmt: skip
    for part, (seconds, cpu, peak) in found["parts"].items():
        line = f"  {part:8} {seconds:8.1f} s  {1e3 * seconds / count:7.3f} ms a prompt"
        print(f"{line}  {1e3 * cpu / count:7.3f} ms of CPU  peak so far {peak:6.0f} MiB", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK[0]:,} and {QUICK[1]:,} prompts")
    parser.add_argument("--prompts", type=int, nargs=2, metavar="N", default=SIZES, help="in the two sources")
    parser.add_argument("--folder", type=Path, help="where the runs are written")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.folder, args.child)
        return
    sizes = QUICK if args.quick else tuple(args.prompts)
    small, large = (measure(count, args.folder) for count in sizes)
    scale = sizes[1] / sizes[0]
    parts = {
        f"{part}_time_ratio": round(large["parts"][part][0] / small["parts"][part][0] / scale, 3)
        for part in small["parts"]
    }
    print(json.dumps({
        "prompts": sizes,
        "memory_ratio": round(large["peak"] / small["peak"], 3),
        "time_per_prompt_ratio": round(large["seconds"] / small["seconds"] / scale, 3),
        "cpu_per_prompt_ratio": round(large["cpu"] / small["cpu"] / scale, 3),
        "peak_mib": [round(small["peak"]), round(large["peak"])],
        "ms_per_prompt": [round(1e3 * one["seconds"] / n, 3) for one, n in zip((small, large), sizes, strict=True)],
        **parts,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
