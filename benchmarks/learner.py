"""How fast one update of the learner is, beside the ways others do it: response tokens per second and peak memory.

    ours        packed groups, log-probabilities of response tokens only, reference log-probabilities stored
    release     as the NCA release does it: K padded copies of the prompt, full logits, a reference forward every step
    pass        ours after a reference pass of its own, as in the first epoch of a round that does not take the
                generator's log-probabilities
    trl         TRL's DPOTrainer at K = 2 with precomputed reference log-probabilities

Every way runs in a process of its own (peak memory is the process's), on the same groups, weights and settings; both
sides use PyTorch's fused attention and one group per micro-batch (`--budget`, tokens, gives ours more). They take turns
group by group, after a warm-up, and of each group the fastest of its repeats counts: a shared machine's speed drifts.
Short and long prompts are taken at K = 4, 8 and 16, with fewer groups for a larger K. The release's side holds four
rows at a time, with operations and gradients of all at once: sixteen would take four times the memory.

    .venv/bin/python benchmarks/learner.py [--device cuda] [--quick] [--dtype bfloat16] [--ours]

Beside each measured ratio to the release stands `bound`: the release's operations over ours, counted by hand
(`learner_parts/operations.py`). The share of it that is reached says what ours loses to anything but operations; where
other processes share the cores, that of processor time says it better. `mfu` is the share of the measured peak of
matrix products, in the same type, that the useful operations reach. What bounds it is measured beside it on CPU: the
shares of a step's time that go to matrix products and attention, and the shares of that peak that they reach in it.
With `--dtype bfloat16` (the base; LoRA stays float32) ours is measured on CPU in float32 too, and on a processor
without bfloat16 instructions nothing else. `--ours` leaves the other ways out. The last line is JSON; rates are
response tokens per second, and `missed` names what is below what is asked.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.learner_parts.cases import make_groups  # noqa: E402
from benchmarks.learner_parts.operations import Flops, in_software, ours_flops, release_flops  # noqa: E402
from benchmarks.learner_parts.turns import Work, in_turns, trl_in_process  # noqa: E402

SIZES = (4, 8, 16)
"""K."""
BOUND_SHARE, MFU, BFLOAT16 = 0.9, 0.6, 1.7
"""What is asked: of the bound at every K; of the peak in float32; bfloat16's rate over float32's."""


def compared(args: argparse.Namespace) -> dict[str, Any]:
    """All cases, beside the other ways."""
    found: dict[str, Any] = {}
    for case, k in [*((case, k) for case in ("short", "long") for k in SIZES), ("small_vocab", SIZES[0])]:
        found |= beside_release(case, k, args)
    if args.device == "cpu" and args.dtype == "bfloat16":
        plain = in_turns(["ours"], work(args, "long", SIZES[0], dtype="float32"), args.repeats)["ours"]
        found["bfloat16_vs_float32"] = round(found["rate_long_k4"] / plain["rate"], 2)
    if args.device == "cpu" and not args.ours:
        pairs = work(args, "long", 2)
        ours, trl = in_turns(["ours"], pairs, args.repeats)["ours"], trl_in_process(pairs, args.repeats)
        found["vs_trl_k2_long"] = round(ours["rate"] / trl["rate"], 2)
    return found


def beside_release(case: str, k: int, args: argparse.Namespace) -> dict[str, Any]:
    """The ratio to the release's way beside its bound; at K = 4 under the names without K too."""
    first, asked = k == SIZES[0], work(args, case, k)
    utilised = first and case == "long"
    names = ["ours"] if args.ours else ["ours", "pass", "release"] if first else ["ours", "release"]
    sides = in_turns(names, asked, args.repeats, shares=utilised and args.device == "cpu")
    ours, release, label = sides["ours"], sides.get("release"), f"{case}_k{k}"
    found = {f"rate_{label}": round(ours["rate"], 1)}
    groups = make_groups(case, k, asked.groups)
    if release:
        ratio = ours["rate"] / release["rate"]
        bound = release_flops(case, args.device, groups).useful / ours_flops(case, args.device, groups).useful
        found |= {
            f"vs_release_{label}": round(ratio, 2),
            f"bound_{label}": round(bound, 2),
            f"share_of_bound_{label}": round(ratio / bound, 3),
            f"share_of_bound_{label}_by_cpu_time": round(release["cpu"] / ours["cpu"] / bound, 3),
        }
        if first:
            found[f"vs_release_{case}"] = round(ratio, 2)
            found[f"vs_release_{case}_with_reference_pass"] = round(sides["pass"]["rate"] / release["rate"], 2)
        if utilised:
            found["memory_vs_release_long"] = round(ours["memory"] / release["memory"], 3)
    return found | (utilisation(ours, ours_flops(case, args.device, groups)) if utilised else {})


def utilisation(ours: dict[str, Any], flops: Flops) -> dict[str, Any]:
    """The share of the peak, and what bounds it."""
    found: dict[str, Any] = {"mfu": round(flops.useful / ours["seconds"] / ours["peak"], 3)}
    if shares := ours.get("shares"):
        spent = {"matmul": flops.linear + flops.head + flops.lora, "attention": flops.attention}
        found["time_shares"] = {kind: round(share, 3) for kind, share in shares.items()}
        found["of_peak_in_step"] = {
            kind: round(amount / (shares[kind] * ours["seconds"]) / ours["peak"], 3) for kind, amount in spent.items()
        }
    return found


def emulated(args: argparse.Namespace) -> dict[str, Any]:
    """bfloat16 where a step takes minutes: one group of the short case in either type."""
    print("this processor has no instructions for bfloat16 products, which are made in software: one group", flush=True)
    rates = {
        dtype: in_turns(["ours"], work(args, "short", SIZES[0], groups=1, dtype=dtype), 1)["ours"]["rate"]
        for dtype in ("float32", "bfloat16")
    }
    return {
        "bfloat16_instructions": False,
        "bfloat16_vs_float32": round(rates["bfloat16"] / rates["float32"], 3),
        **{f"rate_short_k4_{dtype}": round(rate, 1) for dtype, rate in rates.items()},
    }


def work(args: argparse.Namespace, case: str, k: int, **changed: Any) -> Work:
    groups = args.groups if k <= SIZES[0] else max(1, args.groups * 2 // k)
    asked = {"groups": groups, "device": args.device, "dtype": args.dtype, "budget": args.budget}
    return Work(case, k, **(asked | changed))


def missed(found: dict[str, Any], dtype: str) -> list[str]:
    """Names of the figures that are below what is asked of them."""
    asked = {f"share_of_bound_{case}_k{k}": BOUND_SHARE for case in ("short", "long") for k in SIZES}
    asked |= {"mfu": MFU} if dtype == "float32" else {"bfloat16_vs_float32": BFLOAT16}
    return [name for name, least in asked.items() if name in found and found[name] < least]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="of the base; float32, on CUDA bfloat16")
    parser.add_argument("--quick", action="store_true", help="fewer groups and repeats")
    parser.add_argument("--ours", action="store_true", help="our side only")
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--budget", type=int, default=1, help="tokens per micro-batch; at least one group")
    args = parser.parse_args()
    args.dtype = args.dtype or ("float32" if args.device == "cpu" else "bfloat16")
    if args.quick:
        args.groups, args.repeats = 4, 1
    found = {"dtype": args.dtype, **(emulated(args) if in_software(args.device, args.dtype) else compared(args))}
    found["missed"] = missed(found, args.dtype)
    print(json.dumps({**found, "passed": not found["missed"]}))


if __name__ == "__main__":
    main()
