"""How many of the threads that a process may have it works fastest with, tried once per model and machine.

Small models gain nothing from a second thread: each of their many small steps waits for both. Work that takes long is
of products large enough for all threads, and is not tried. It is tried when all actors have started; while others load,
one thread seems best to all. The answer is kept in the cache, so that a run
that is resumed, and another one, computes with as many threads and gets the same numbers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rayalign.errors import ModelError
from rayalign.store.cache import cache_folder, made_once

if TYPE_CHECKING:
    from rayalign.learning.model import Policy

TRIES, LONG_S = 5, 0.4
"""Of each number of threads, taking turns, of which the quickest one counts; and what is long with all threads."""
TRIAL = 2
"""The version of the trial: answers of others do not count."""

LEARNING = "learning"
"""The kind of work that a learner tries."""
TOKENS, RESPONSES = 32, 4
"""Of a trial of the learner: tokens of prompt and response, and responses to it."""

log = logging.getLogger(__name__)


def threads_for(kind: str, model: Path, dtype: str, most: int, seconds: Callable[[int], float]) -> int:
    """The number of threads, of `most` and its halves, with which the same work takes least time.

    Args:
        kind: of work; each kind has its own answer.
        model: its folder; models of the same architecture and sizes have the same answer.
        seconds: does the work with so many threads and says how long it took.
    """
    if most == 1:
        return 1
    config = (model / "config.json").read_text("utf-8")
    asked = json.dumps([TRIAL, kind, config, dtype, most, _processor()])
    folder = cache_folder() / f"threads-{hashlib.sha256(asked.encode()).hexdigest()[:16]}"

    def make(scratch: Path) -> None:
        (scratch / "model").mkdir()
        (scratch / "model" / "threads.json").write_text(json.dumps(fastest(most, seconds)))

    try:
        return int(json.loads((made_once(folder, make) / "threads.json").read_text()))
    except (ModelError, OSError, ValueError) as error:
        log.warning("the threads of %s are tried anew: %s", kind, error)
        return fastest(most, seconds)


def fastest(most: int, seconds: Callable[[int], float]) -> int:
    """The number of threads that took least; of those within 5 % of it, the fewest."""
    counts = [most]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    seconds(most)  # The first time is not like the others.
    if (whole := seconds(most)) >= LONG_S:
        log.info("%.2f s with all %d threads: no fewer are tried", whole, most)
        return most
    took = dict.fromkeys(counts, math.inf)
    for _ in range(TRIES):
        for count in counts:
            took[count] = min(took[count], seconds(count))
    log.info("seconds by threads: %s", took)
    return min(count for count in counts if took[count] <= 1.05 * min(took.values()))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def use_best_threads(policy: Policy, model: Path, dtype: str) -> None:
    """Let this process train with as many of its threads as are best. Only where it has all the weights."""
    import torch

    prompt, response = [1] * TOKENS, [2] * TOKENS

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        started = time.perf_counter()
        # Not backward, which is for those who count its gradients; the same products are most of it.
        with torch.no_grad():
            policy(policy.collate([(prompt, response)] * RESPONSES))
        return time.perf_counter() - started

    torch.set_num_threads(threads_for(LEARNING, model, dtype, torch.get_num_threads(), seconds))
