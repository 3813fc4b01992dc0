"""Bytes of each process: generator replicas and learner ranks.

On a GPU they are bytes of the GPU. On CPU they are what the process has resident at its peak, libraries included.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from rayalign.config.run import RunConfig
from rayalign.learning.attention import SMALL_TREE
from rayalign.learning.engine_cache import CacheNeed, bytes_per_number, cache_need, sequence_bytes
from rayalign.learning.shape import ModelShape
from rayalign.losses.logprobs import CHUNK_LOGITS
from rayalign.planning.devices import MIB, Device
from rayalign.planning.load import Group, Lengths

UTILIZATION = 0.92
"""vLLM's own `gpu_memory_utilization`: all that an engine takes of a whole GPU where the config does not say."""
CUDA_CONTEXT = 600 * MIB
"""What CUDA and its libraries take of a GPU for a process."""
ENGINE_PEAK_TOKENS = 2048
"""Tokens of one forward pass of an engine on a GPU (vLLM's `max_num_batched_tokens`)."""
LEARNER_PROCESS = 750 * MIB
GENERATOR_PROCESS = 1215 * MIB
"""Resident on CPU before the model is loaded: Python, torch, Ray and the libraries of the part (docs/log.md)."""
CPU_HEAP = 1.4
"""Bytes resident on CPU for each byte of activations that is counted here: fitted to the runs of docs/log.md, whose
micro-batches of many sizes seem to leave room in the heap."""
CPU_COPIES = 3
"""Of a model's weights in an engine on CPU: as loaded, as packed for its products, and those that take their place."""
LIVE = 10**9
"""Parameters that a worker of ZeRO-3 has whole at a time at most (DeepSpeed's `stage3_max_live_parameters`)."""
NF4_BYTES, INT8_BYTES = 0.5 + 4 / 64, 1.0
"""Of one quantised weight; NF4 keeps a float32 scale for each 64."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, by what they hold. `sum` is what must fit."""

    weights: float = 0
    adapter: float = 0
    """LoRA weights."""
    optimizer: float = 0
    """Gradients, AdamW's two moments and DeepSpeed's copy of what it steps."""
    activations: float = 0
    """Kept for the backward pass, and temporaries of it."""
    head: float = 0
    """Logits of a chunk, and d logp / d hidden."""
    cache: float = 0
    """Keys and values."""
    process: float = 0

    @property
    def sum(self) -> float:
        return sum(getattr(self, field.name) for field in fields(self))


def learner_memory(config: RunConfig, shape: ModelShape, device: Device, lengths: Lengths) -> Memory:
    """Of one learner rank, in the largest micro-batch: as many groups of these lengths as the budget takes.

    Args:
        lengths: of the longest group.
    """
    training, workers = config.training, config.training.workers
    size = bytes_per_number(config.model.dtype)
    trained = shape.total if config.model.full else shape.lora
    # DeepSpeed's ZeRO keeps, per trained number: its gradient (4 bytes on each rank), and on the rank that steps it the
    # two moments and a copy in float32. Stage 2 gives gradients away as they come, stage 1 at the step.
    gradients = trained * 4 / (workers if training.zero_stage >= 2 else 1)
    away = offloaded(config, shape) if device.gpu else Offloaded(0, 0)
    base_copy = shape.total * 4 if config.model.full else 0
    group, tokens = Group(lengths, config.sampling.responses), micro_batch_tokens(config, lengths)
    targets = group.targets * tokens / group.tokens
    chunk = max(64 * shape.vocabulary, CHUNK_LOGITS)
    exact = shape.head * 4 if size < 4 and not device.gpu else 0
    kept = activation_bytes(config, shape, device, tokens, group.tokens)
    return Memory(
        weights=learner_weights(config, shape) + base_copy - away.weights,
        adapter=0 if config.model.full else 4 * shape.lora / (workers if training.zero_stage == 3 else 1),
        optimizer=gradients + trained * 12 / workers - away.optimizer,
        activations=kept * (1 if device.gpu else CPU_HEAP),
        head=min(chunk, targets * shape.vocabulary) * 4 * 3 + targets * shape.hidden * size * 2 + exact,
        process=CUDA_CONTEXT if device.gpu else LEARNER_PROCESS,
    )


@dataclass(frozen=True, slots=True)
class Offloaded:
    """Bytes that a learner rank on a GPU keeps in main memory."""

    weights: float
    optimizer: float


def offloaded(config: RunConfig, shape: ModelShape) -> Offloaded:
    """What `training.offload` takes from each rank's GPU: its part of the base, the moments and copy that it steps."""
    offload, workers = config.training.offload, config.training.workers
    trained = shape.total if config.model.full else shape.lora
    return Offloaded(
        weights=stored_weights(config, shape) / workers if "parameters" in offload else 0,
        optimizer=trained * 12 / workers if "optimizer" in offload else 0,
    )


def learner_weights(config: RunConfig, shape: ModelShape) -> float:
    """Bytes of the base's weights on one rank: whole, or under ZeRO-3 its part and what is whole while it is used."""
    whole, workers = stored_weights(config, shape), config.training.workers
    if config.training.zero_stage < 3 or (workers == 1 and "parameters" not in config.training.offload):
        return whole
    return whole / workers + whole * min(1.0, LIVE / shape.total)


def stored_weights(config: RunConfig, shape: ModelShape) -> float:
    """Bytes of all of the base's weights."""
    size = bytes_per_number(config.model.dtype)
    small = {"none": size, "int8": INT8_BYTES, "nf4": NF4_BYTES}[config.model.quantization]
    return (shape.total - shape.quantised) * size + shape.quantised * small


def micro_batch_tokens(config: RunConfig, lengths: Lengths) -> float:
    """Tokens of the largest micro-batch: groups up to the budget, one at least, of those that a rank has in a step."""
    training, group = config.training, Group(lengths, config.sampling.responses).tokens
    most = -(-training.group_batch // training.workers)
    return min(most, max(1, int(training.tokens_per_micro_batch // group))) * group


def activation_bytes(config: RunConfig, shape: ModelShape, device: Device, tokens: float, group: float) -> float:
    """What the backward pass of packed tokens needs: numbers kept per token and layer, times layers, and temporaries.

    Per layer: both norms keep their input (float32) and their result; attention keeps queries, keys and values (on CPU
    with a key for every head), and its result twice (as made and as joined); a gated feed-forward block keeps four
    numbers per unit, a plain one two; each adapted module its r thin ones. Where a LoRA layer is not fused
    (`learning.lora`) it also keeps its input in float32. A layer that checkpointing remakes keeps its input alone; if
    all are remade, one layer is whole at a time beside them.

    Args:
        group: tokens of one group; on CPU small ones keep a mask of float32 in each layer (`learning.attention`).
    """
    size = bytes_per_number(config.model.dtype)
    width = shape.heads * shape.head_dim
    block = (4 if shape.gated else 2) * shape.feed_forward
    keys = 2 * shape.kv_heads * shape.head_dim if device.gpu else 2 * width
    layer = 2 * shape.hidden * (4 + size) + (3 * width + keys + block + shape.lora_modules * shape.lora_rank) * size
    if not device.gpu and group <= SMALL_TREE:
        layer += group * 4
    if not fuses(config):
        layer += shape.lora_inputs * 4
    last_norm, backward = shape.hidden * 4, (2 * width + 3 * shape.feed_forward) * size
    remade = config.training.remade(shape.layers)
    whole = max(1, shape.layers - remade)
    return tokens * (remade * shape.hidden * size + whole * layer + last_norm + backward)


def fuses(config: RunConfig) -> bool:
    """Whether LoRA layers compute without temporaries of their own."""
    model = config.model
    plain = model.quantization == "none" and not model.lora.dropout
    return plain and not model.full and config.training.zero_stage < 3


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """A generator replica on one device."""

    memory: Memory
    limit: float
    """Bytes that the engine may take."""
    cache_tokens: float
    """Tokens that the key-value cache has room for in sequences of the longest kind, or in short ones if no longest one
    fits; may be negative where nothing is left."""
    need: CacheNeed | None = None
    """What the cache is to hold; None on a GPU, where it is what is left."""


def generator_memory(config: RunConfig, shape: ModelShape, device: Device, engines: int = 1) -> EngineMemory:
    """Of each device of a replica. On a GPU vLLM takes its share whole, and the cache is what is left of it; on CPU the
    cache has a size of its own, which an engine that starts finds in the same way.

    Args:
        engines: processes of engines on one node.
    """
    engine = config.cluster.engine
    size, parts = bytes_per_number(config.model.dtype), engine.tensor_parallel
    weights = shape.total * size / parts
    adapter = 0 if config.merges else shape.lora * size / parts
    if not device.gpu:
        limit = device.memory
        need = cache_need(config, shape)
        cache = engine.cache_bytes(device.memory, need.bytes(device.memory, engines))
        memory = Memory(CPU_COPIES * weights, adapter, cache=cache, process=GENERATOR_PROCESS)
        return EngineMemory(memory, limit, _cache_tokens(config, shape, device, cache), need)
    limit = engine.gpu_bytes(device.memory) or UTILIZATION * device.memory
    peak = ENGINE_PEAK_TOKENS * (4 * shape.hidden + 2 * shape.feed_forward / parts) * size + 128 * shape.vocabulary * 8
    cache = limit - weights - adapter - peak - CUDA_CONTEXT
    memory = Memory(weights, adapter, activations=peak, cache=max(0, cache), process=CUDA_CONTEXT)
    return EngineMemory(memory, limit, _cache_tokens(config, shape, device, cache))


def _cache_tokens(config: RunConfig, shape: ModelShape, device: Device, cache: float) -> float:
    """Tokens that a cache of so many bytes has room for."""
    longest = config.max_sequence_tokens + 1
    needed = sequence_bytes(config, shape, longest, gpu=device.gpu)
    return cache * longest / needed if cache >= needed else cache / sequence_bytes(config, shape, 1, gpu=device.gpu)
