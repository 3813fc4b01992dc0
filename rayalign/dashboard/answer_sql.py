"""The statements of the answer store. All values of users and files are parameters or rows of tables."""

from __future__ import annotations

TABLES = (
    """CREATE TABLE answered(
        purpose TEXT, round INTEGER, shard INTEGER, prompt_id TEXT, answers BIGINT, rewarded BIGINT, reward DOUBLE,
        best DOUBLE, worst DOUBLE, length DOUBLE, disagreement DOUBLE)""",
    """CREATE TABLE scored(
        purpose TEXT, round INTEGER, shard INTEGER, prompt_id TEXT, scorer TEXT, status TEXT, n BIGINT,
        reward_sum DOUBLE, rewarded BIGINT)""",
    "CREATE TABLE asked(id TEXT PRIMARY KEY, text TEXT)",
    "CREATE TABLE facts(id TEXT, key TEXT, text TEXT, PRIMARY KEY (id, key))",
)
FORGET = tuple(
    f"DELETE FROM {table} WHERE purpose = $purpose AND round = $round AND shard = $shard"
    for table in ("answered", "scored")
)
ADD_SCORED = """
INSERT INTO scored
SELECT $purpose, $round, shard, prompt_id, score.scorer, score.status, count(*),
       sum(score.reward) FILTER (WHERE isfinite(score.reward)), count(*) FILTER (WHERE isfinite(score.reward))
FROM (SELECT shard, prompt_id, unnest(scores) AS score FROM answers)
GROUP BY ALL
"""
ADD_ANSWERED = """
INSERT INTO answered
WITH one AS (
    SELECT prompt_id, number, s.scorer AS scorer, s.reward AS reward
    FROM (SELECT prompt_id, number, unnest(scores) AS s FROM answers)
    WHERE isfinite(s.reward)
), pair AS (
    SELECT a.prompt_id, a.number AS first, b.number AS second, sign(a.reward - b.reward) AS towards
    FROM one a JOIN one b ON a.prompt_id = b.prompt_id AND a.scorer = b.scorer AND a.number < b.number
    WHERE a.reward <> b.reward
), compared AS (
    SELECT prompt_id, min(towards) <> max(towards) AS opposite
    FROM pair GROUP BY prompt_id, first, second HAVING count(*) > 1
), disagreeing AS (
    SELECT prompt_id, avg(opposite::INTEGER) AS disagreement FROM compared GROUP BY prompt_id
), summed AS (
    SELECT shard, prompt_id, count(*) AS answers,
           count(*) FILTER (WHERE isfinite(reward)) AS rewarded,
           avg(reward) FILTER (WHERE isfinite(reward)) AS reward,
           max(reward) FILTER (WHERE isfinite(reward)) AS best,
           min(reward) FILTER (WHERE isfinite(reward)) AS worst,
           avg(tokens) AS length
    FROM answers GROUP BY ALL
)
SELECT $purpose, $round, summed.*, disagreement FROM summed LEFT JOIN disagreeing USING (prompt_id)
"""
ADD_ASKED = "INSERT OR IGNORE INTO asked SELECT unnest($1), unnest($2)"
ADD_FACTS = "INSERT OR IGNORE INTO facts SELECT unnest($1), unnest($2), unnest($3)"
MATCHES_ANSWERS = "SELECT DISTINCT prompt_id FROM texts WHERE contains(lower(text), lower($text))"

LISTED = """
WITH listed AS (
    SELECT a.prompt_id AS id, coalesce(asked.text, a.prompt_id) AS prompt, a.reward, b.reward AS baseline,
           a.reward - b.reward AS delta, a.best, a.worst, a.best - a.worst AS spread,
           a.rewarded > 1 AND a.best = a.worst AS equal, a.disagreement, a.length, a.answers
    FROM answered a
    LEFT JOIN answered b ON b.purpose = a.purpose AND b.round = $baseline AND b.prompt_id = a.prompt_id
    LEFT JOIN asked ON asked.id = a.prompt_id
    WHERE a.purpose = $purpose AND a.round = $round
)
"""
IN_RANGE = "reward >= $min AND reward <= $max"
SCORER_IN_RANGE = """id IN (
    SELECT prompt_id FROM scored
    WHERE purpose = $purpose AND round = $round AND scorer = $scorer AND status = 'ok'
    GROUP BY prompt_id
    HAVING sum(reward_sum) / sum(rewarded) >= $min AND sum(reward_sum) / sum(rewarded) <= $max)"""
HAS_STATUS = """id IN (
    SELECT prompt_id FROM scored
    WHERE purpose = $purpose AND round = $round AND status = $status AND ($scorer IS NULL OR scorer = $scorer))"""
HAS_TEXT = "id IN (SELECT unnest($matching::TEXT[]))"
ORDERS = {
    "regression": "delta ASC",
    "gain": "delta DESC",
    "disagreement": "disagreement DESC",
    "spread": "spread DESC",
    "length": "length DESC",
    "reward": "reward DESC",
    "prompt": "prompt ASC",
}
STATUSES = """
SELECT prompt_id, status, sum(n)::BIGINT AS n FROM scored
WHERE purpose = $purpose AND round = $round AND list_contains($ids::TEXT[], prompt_id) GROUP BY ALL ORDER BY ALL
"""
SHARDS_OF_PROMPTS = """
SELECT DISTINCT round, shard FROM answered
WHERE purpose = $purpose AND list_contains($ids::TEXT[], prompt_id) ORDER BY round, shard
"""
SCORERS = "SELECT DISTINCT scorer FROM scored ORDER BY scorer"
FACTS = """
SELECT key, text FROM (SELECT DISTINCT key, text FROM facts)
QUALIFY row_number() OVER (PARTITION BY key ORDER BY text) <= 50 ORDER BY key, text
"""
REWARDS = """
SELECT prompt_id, reward FROM answered
WHERE purpose = $purpose AND round = $round AND reward IS NOT NULL ORDER BY prompt_id
"""
RANKED = """
SELECT prompt_id FROM answered WHERE purpose = $purpose AND round = $round ORDER BY reward DESC NULLS FIRST, prompt_id
"""
PROMPTS_ANSWERED = "SELECT count(*) AS n FROM answered WHERE purpose = $purpose AND round = $round"


def has_fact(place: int) -> str:
    """The condition that the metadata is `$text{place}` under `$key{place}`."""
    return f"id IN (SELECT id FROM facts WHERE key = $key{place} AND text = $text{place})"
