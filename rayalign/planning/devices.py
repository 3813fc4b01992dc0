"""What devices can do on paper, and which share of it our stages reach: the table that `--calibrate` replaces.

Figures of GPUs are those of their makers' data sheets: dense tensor rates (sheets also give those with sparsity, twice
as high), and memory as the driver reports it (nvidia-smi). Prices are lists of one day and change: `usd_per_hour` of a
nodes file takes their place.
"""

from __future__ import annotations

from dataclasses import dataclass

from rayalign.errors import ConfigError

GIB = 2**30
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Device:
    """What one process computes on: a GPU, or one core of a CPU with the machine's memory."""

    name: str
    memory: float
    """Bytes."""
    bfloat16: float
    """FLOP/s of dense matrix products."""
    float32: float
    """FLOP/s of matrix products; on GPUs without TF32, which torch leaves off."""
    bandwidth: float
    """Bytes per second between the device and its memory."""
    usd_per_hour: float | None = None
    source: str = ""
    price_source: str = ""
    gpu: bool = True

    def flops(self, dtype: str) -> float:
        """Of products in the model's data type, FLOP/s."""
        return self.bfloat16 if dtype == "bfloat16" else self.float32


def _gpu(mib: int, bfloat16: float, float32: float, gbs: float, source: str, price: str = "") -> Device:
    """From MiB, TFLOP/s, TFLOP/s and GB/s; a price is `USD SOURCE`."""
    usd, _, price_source = price.partition(" ")
    return Device("", mib * MIB, bfloat16 * 1e12, float32 * 1e12, gbs * 1e9, float(usd) if usd else None, source,
                  price_source)  # fmt: skip


_MODAL = "Modal's price list of May 2026, as quoted by techbytes.app"
_TABLE = {
    "A10G": _gpu(23028, 70, 35, 600, "NVIDIA A10G data sheet", "1.006 AWS on demand, g5.xlarge, June 2026"),
    "L4": _gpu(23034, 121, 30.3, 300, "NVIDIA L4 data sheet", f"0.7992 {_MODAL}"),
    "RTX-3090": _gpu(24576, 71, 35.6, 936, "NVIDIA Ampere GA102 white paper"),
    "RTX-4090": _gpu(24564, 165.2, 82.6, 1008, "NVIDIA Ada white paper"),
    "A40": _gpu(46068, 149.7, 37.4, 696, "NVIDIA A40 data sheet"),
    "RTX-A6000": _gpu(49140, 154.8, 38.7, 768, "NVIDIA RTX A6000 data sheet"),
    "L40S": _gpu(46068, 362, 91.6, 864, "NVIDIA L40S data sheet", f"1.9512 {_MODAL}"),
    "A100-40GB": _gpu(40960, 312, 19.5, 1555, "NVIDIA A100 data sheet", "1.48 Lambda's price list of May 2026"),
    "A100-80GB": _gpu(81920, 312, 19.5, 2039, "NVIDIA A100 data sheet (SXM)", f"2.4984 {_MODAL}"),
    "H100-80GB": _gpu(81559, 989, 67, 3350, "NVIDIA H100 data sheet (SXM)", f"3.9492 {_MODAL}"),
    "H200": _gpu(143771, 989, 67, 4800, "NVIDIA H200 data sheet (SXM)", "5.408 AWS capacity blocks, Ohio, end of 2024"),
    "B200": _gpu(183359, 2250, 75, 8000, "NVIDIA B200 data sheet (HGX)"),
}
GPUS = {name: Device(name, d.memory, d.bfloat16, d.float32, d.bandwidth, d.usd_per_hour, d.source, d.price_source)
        for name, d in _TABLE.items()}  # fmt: skip


def gpu_named(name: str, key: str, known: dict[str, Device] = GPUS) -> Device:
    """The figures of a GPU, by its name in the table; the case of letters, and spaces for dashes, do not matter.

    Args:
        key: what gave the name, for the error.

    Raises:
        ConfigError: there is none of that name.
    """
    found = {_plain(one): device for one, device in known.items()}.get(_plain(name))
    if found is None:
        meant = [one for one in known if _plain(one).startswith(_plain(name))]
        raise ConfigError(
            f"{key}: {name}" + (f" (did you mean {' or '.join(meant)}?)" if meant else ""),
            "there are no figures of such a GPU",
            f"use one of {', '.join(known)}, or give its figures under `devices` in a nodes file (docs/plan.md)",
        )
    return found


def gpu_of_driver(name: str) -> Device | None:
    """The figures of a GPU by the name that its driver gives, such as `NVIDIA A100-SXM4-80GB`; None where the table has
    none."""
    words = set(_plain(name).upper().split("-"))
    return next((device for key, device in GPUS.items() if set(key.upper().split("-")) <= words), None)


def _plain(name: str) -> str:
    return name.lower().removeprefix("nvidia ").replace(" ", "-")


def cpu_core(memory: float) -> Device:
    """One core: each actor computes on one.

    Args:
        memory: of the machine, bytes.
    """
    return Device("CPU core", memory, 187e9, 82e9, 12e9, source="docs/log.md: an AVX512-BF16 server core", gpu=False)
