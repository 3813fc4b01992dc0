"""Everything that crosses a process, as frozen records.

    Prompt ─► Sample ─► ScoredSample ─► TrainingGroup ─► Adapter ─► EvalReport

`rows`: what is stored row by row. `group`: a prompt with its answers, ready to train on. `shards`: a slice of a round
on its way. `adapter`: what a round made, and what travels to and from the learner. `proof`: what a replica has to show
before it serves. `report`: what a round measured.
`measured`: how fast a machine is. `benchmark`: what a benchmark asks a judge.
"""

from rayalign.records.adapter import (
    ADAPTER_CONFIG as ADAPTER_CONFIG,
    ADAPTER_WEIGHTS as ADAPTER_WEIGHTS,
    FULL_CONFIG as FULL_CONFIG,
    FULL_WEIGHTS as FULL_WEIGHTS,
    Adapter as Adapter,
    AdapterFiles as AdapterFiles,
    ReplicaState as ReplicaState,
    SavedAdapter as SavedAdapter,
    TokenSequence as TokenSequence,
    UpdateResult as UpdateResult,
    Which as Which,
    weights_file as weights_file,
)
from rayalign.records.benchmark import (
    JudgeQuestion as JudgeQuestion,
    JudgeTask as JudgeTask,
    JudgeVerdict as JudgeVerdict,
)
from rayalign.records.group import Groups as Groups, TrainingGroup as TrainingGroup
from rayalign.records.json_types import JsonObject as JsonObject, JsonValue as JsonValue
from rayalign.records.measured import EngineMeasured as EngineMeasured, LearnerMeasured as LearnerMeasured
from rayalign.records.proof import (
    SAME_GAP as SAME_GAP,
    Expected as Expected,
    check_gap as check_gap,
    check_state as check_state,
    mean_difference as mean_difference,
)
from rayalign.records.report import (
    SCHEMA_VERSION as SCHEMA_VERSION,
    EvalReport as EvalReport,
    Metric as Metric,
    MetricDict as MetricDict,
)
from rayalign.records.rows import (
    FROM_DATASET as FROM_DATASET,
    IGNORED as IGNORED,
    NOT_ASKED as NOT_ASKED,
    NOT_SAMPLED as NOT_SAMPLED,
    NOT_SCORED as NOT_SCORED,
    FinishReason as FinishReason,
    Message as Message,
    Prompt as Prompt,
    Sample as Sample,
    Score as Score,
    ScoredSample as ScoredSample,
    ScoreStatus as ScoreStatus,
    Verdict as Verdict,
    prompt_id as prompt_id,
)
from rayalign.records.shards import (
    SHARD_PROMPTS as SHARD_PROMPTS,
    Purpose as Purpose,
    Repeat as Repeat,
    SampledShard as SampledShard,
    SamplingPlan as SamplingPlan,
    ScoredPurpose as ScoredPurpose,
    ScoredShard as ScoredShard,
    Shard as Shard,
    Shards as Shards,
)
