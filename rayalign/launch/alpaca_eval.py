"""AlpacaEval: the files that it reads, and its package run in a process of its own.

    answers ─► alpaca_eval.json ─┐
    references ──────────────────┴─► neutralised ─► package (subprocess) ─► Loopback ─► the judge
    win rate, intervals, rows ◄── annotations.json ◄──┘   └─ its cache: cache/alpaca_eval/ANNOTATOR/annotations.json

The annotator's name is a hash of the judge, its sampling, the prompt and the package's version, and so is its cache's
folder: the package itself looks at none of them. What a reply says nothing about is missing, and asked again.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from rayalign import stopping
from rayalign.config.benchmarks import ALPACA_EVAL_SETS, AlpacaEvalBenchmark
from rayalign.errors import ActorFailedError, ConfigError, DataError
from rayalign.evaluation.benchmarks import alpaca_eval as pure
from rayalign.evaluation.benchmarks.alpaca_eval import AlpacaEval, Annotation
from rayalign.evaluation.benchmarks.base import Result
from rayalign.loop.benchmarks import Asker, digest
from rayalign.records import JsonObject, SavedAdapter
from rayalign.scoring.files import find_file, read_text
from rayalign.scoring.judges.quoting import neutralise
from rayalign.scoring.service_scorers import JudgeLink
from rayalign.scoring.services.calls import LoopThread
from rayalign.scoring.services.loopback import Loopback
from rayalign.store.benchmark_dir import BenchmarkDir, Marks
from rayalign.store.files import expanded

OUTPUTS, ANNOTATIONS = "alpaca_eval.json", "annotations.json"
CHILD = "rayalign.evaluation.benchmarks.alpaca_eval_child"
REPOSITORY = "tatsu-lab/alpaca_eval"
CANNED = [{"role": "user", "content": 'Reply with {"best": "a"}.'}]
TOLD_LINES = 5
SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
"""Environment variables of such names are not handed to the package."""


def read_alpaca_eval(section: AlpacaEvalBenchmark, folder: Path) -> AlpacaEval:
    """The instructions with their reference answers.

    Args:
        folder: where a relative path is looked up after the working directory.

    Raises:
        DataError: the file cannot be used, or the hub cannot be reached.
    """
    key = f"{section.label}: reference"
    if section.reference in ALPACA_EVAL_SETS:
        path = _from_hub(section.reference, key)
    else:
        path = find_file(key, expanded(section.reference), folder)
    try:
        records = json.loads(read_text(key, path))
        if not isinstance(records, list) or not records:
            raise ValueError(f"{path}: it is no list with anything in it")
        items = pure.items_of(records, str(path))
    except ValueError as error:
        form = "AlpacaEval's form is a JSON list of {instruction, output, generator, dataset}"
        raise DataError(f"{key}: {error}", form, "mend the file, or give another") from None
    # What the judge is shown must tell them apart too.
    apart = {neutralise(item.instruction): item for item in items}
    return AlpacaEval(list(apart.values())[: section.limit])


def _from_hub(name: str, key: str) -> Path:
    from huggingface_hub import hf_hub_download

    file = ALPACA_EVAL_SETS[name]
    try:
        return Path(hf_hub_download(REPOSITORY, file, repo_type="dataset"))
    except Exception as error:  # the hub's client raises its own, its HTTP library's and OSError
        raise DataError(
            f"{key}: {file} of {REPOSITORY} cannot be had from the hub",
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            "check the network, HF_HUB_OFFLINE and HF_ENDPOINT, or give a file in AlpacaEval's form as reference",
        ) from None


def read_template(section: AlpacaEvalBenchmark, folder: Path) -> str:
    """The judge's prompt.

    Raises:
        RayalignError: the file cannot be read, or is no such prompt.
    """
    key = f"{section.label}: template"
    own = Path(pure.__file__).with_name("alpaca_eval.txt")
    path = own if section.template is None else find_file(key, expanded(section.template), folder)
    text = read_text(key, path)
    if problem := pure.template_problem(text):
        raise ConfigError(f"{key}: {path}", problem, f"write it as {own} is written")
    return text


def annotator_name(judge: str, template: str, reply_tokens: int) -> str:
    """Name of the annotator, which changes with all that its verdicts hang on.

    Args:
        judge: the identity of the way to it.
    """
    package = importlib.metadata.version("alpaca_eval")
    return f"rayalign-{digest([package, judge, template, reply_tokens, pure.SCHEMA, sorted(pure.PATTERNS.items())])}"


def annotator_folder(cache: Path, name: str) -> Path:
    """Where the package keeps what an annotator said."""
    return (cache / "alpaca_eval" / name).absolute()


def check_judge(link: JudgeLink, template: str, reply_tokens: int, cache: Path | None) -> None:
    """See that a judge replies; one whose verdicts are in the cache only has to be there.

    Raises:
        ConfigError: it does not.
    """
    name = annotator_name(link.identity, template, reply_tokens)
    known = cache is not None and (annotator_folder(cache, name) / ANNOTATIONS).exists()
    asking = LoopThread("check")
    try:
        asking.run(link.check(None if known else CANNED, pure.SCHEMA))
    finally:
        asking.close()


@dataclass(frozen=True, slots=True)
class AlpacaEvalRunner:
    """`Runner` of AlpacaEval.

    Args:
        link: makes a way to the judge, for one run.
        reply_tokens: the longest reply.
        concurrency: questions at a time.
        cache: the run's folder of what services answered; null keeps nothing.
        model: what the run is called in the package's files.
    """

    name: str
    every: int
    benchmark: AlpacaEval
    asker: Asker
    link: Callable[[], JudgeLink]
    template: str
    reply_tokens: int
    concurrency: int
    cache: Path | None
    model: str
    seed: int
    type: str = "alpaca_eval"

    @property
    def annotator(self) -> str:
        return annotator_name(self.link().identity, self.template, self.reply_tokens)

    def marks(self, round_index: int, served: SavedAdapter) -> Marks:
        answers = self.asker.identity(self.benchmark, round_index, served)
        return Marks(answers, digest([answers, self.annotator, self.seed]))

    def run(self, place: BenchmarkDir, served: SavedAdapter) -> Result:
        answers = self.asker.answers(self.benchmark, place, served)
        outputs = self.benchmark.outputs(answers, f"{self.model}-round-{place.round_dir.index}")
        _write(place, OUTPUTS, outputs)
        if not outputs:
            return dataclasses.replace(self.benchmark.annotated(answers, {}, self.seed), files=(OUTPUTS,))
        told, facts = self._annotate(outputs, self.benchmark.references(answers), place)
        _write(place, ANNOTATIONS, told["annotations"])
        result = self.benchmark.annotated(answers, self._by_item(told["annotations"]), self.seed)
        missing = len(outputs) - sum(row["preference"] is not None for row in result.rows)
        judge = {"asked": len(outputs), "failed": missing, **facts, "package": told["board"]}
        return dataclasses.replace(result, facts={**result.facts, "judge": judge}, files=(OUTPUTS, ANNOTATIONS))

    def _by_item(self, rows: Sequence[JsonObject]) -> dict[str, Annotation]:
        names = {neutralise(item.instruction): item.asked.id for item in self.benchmark.items}
        return {
            names[row["instruction"]]: Annotation(row["preference"], row["preference_raw_completion"]) for row in rows
        }

    def _annotate(
        self, outputs: Sequence[JsonObject], references: Sequence[JsonObject], place: BenchmarkDir
    ) -> tuple[JsonObject, JsonObject]:
        """What the package says, and what it took."""
        link, reporter = self.link(), self.asker.reporter
        loopback = Loopback(link.transport, link.caller, pure.SCHEMA)
        stage = reporter.stage(
            f"{place.name} verdicts", place.round_dir.index, len(outputs), probe=lambda: loopback.asked
        )
        with tempfile.TemporaryDirectory(prefix="rayalign-alpaca-eval-") as folder, loopback, stage as progress:
            job = self._job(Path(folder), outputs, references)
            _run_package(job, _environment(Path(folder), loopback, self.concurrency))
            progress.advance(len(outputs))
            told = json.loads((Path(folder) / "result.json").read_text())
        first = {"first_failure": loopback.failures[0]} if loopback.failures else {}
        return told, {"annotator": self.annotator, "requests": loopback.asked, **first}

    def _job(self, folder: Path, outputs: Sequence[JsonObject], references: Sequence[JsonObject]) -> Path:
        """Write what the package reads; returns the job's file."""
        name = self.annotator
        annotator = annotator_folder(folder if self.cache is None else self.cache, name)
        annotator.mkdir(parents=True, exist_ok=True)
        template = annotator / "prompt.txt"
        template.write_text(self.template)
        config = pure.annotator_config(name, str(template), self.reply_tokens)
        (annotator / "configs.yaml").write_text(yaml.safe_dump(config))
        files = {"outputs": _neutral(outputs), "references": _neutral(references)}
        for what, rows in files.items():
            (folder / f"{what}.json").write_text(json.dumps(rows))
        job = {what: str(folder / f"{what}.json") for what in (*files, "result")}
        job |= {
            "annotator": str(annotator),
            "cache": str(annotator / ANNOTATIONS),
            "name": self.model,
        }
        (folder / "job.json").write_text(json.dumps(job))
        return folder / "job.json"


def _neutral(rows: Sequence[JsonObject]) -> list[JsonObject]:
    """The texts as the judge may see them: nothing in them is a placeholder or a mark of the package."""
    return [{name: neutralise(str(text)) for name, text in row.items()} for row in rows]


def _write(place: BenchmarkDir, name: str, rows: object) -> None:
    text = json.dumps(rows, indent=1, ensure_ascii=False)
    place.round_dir.write(place.place(name), text.encode("utf-8", "replace"))


def _environment(folder: Path, loopback: Loopback, concurrency: int) -> dict[str, str]:
    """The package's environment: the way to the judge, no network beside it, and no secrets."""
    client = {"api_key": loopback.token, "base_url": loopback.url, "timeout": 24 * 3600.0, "max_retries": 0}
    file = folder / "client.yaml"
    file.write_text(yaml.safe_dump({"default": [client]}))
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("OPENAI_") and not any(word in name.upper() for word in SECRETS)
    }
    own = {
        "OPENAI_CLIENT_CONFIG_PATH": str(file),
        "OPENAI_MAX_CONCURRENCY": str(concurrency),
        "IS_ALPACA_EVAL_2": "False",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    return {**kept, **own}


def _run_package(job: Path, environment: dict[str, str]) -> None:
    """Run the package to its end.

    Raises:
        ActorFailedError: it failed; what it was told until then is in its cache.
    """
    log = job.with_name("log.txt")
    with (
        log.open("wb") as output,
        _process([sys.executable, "-m", CHILD, str(job)], environment, output.fileno()) as child,
    ):
        while child.poll() is None:
            stopping.sleep(stopping.POLL_S)
    if child.returncode:
        lines = log.read_text(errors="replace").strip().splitlines()
        print("\n".join(lines), file=sys.stderr)
        raise ActorFailedError(
            f"the alpaca-eval package ended with code {child.returncode}",
            " / ".join(line.strip() for line in lines[-TOLD_LINES:]),
            "see the driver's log for all it said; the same command goes on with what it was told until then",
        )


@contextmanager
def _process(command: Sequence[str], environment: dict[str, str], output: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, which ends with the block."""
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
