-- One row: a run.
CREATE OR REPLACE VIEW {views}.runs (
  run_id UUID COMMENT 'the run',
  project String COMMENT 'the project',
  experiment Nullable(String) COMMENT 'the experiment',
  name Nullable(String) COMMENT 'name given to the run',
  team Nullable(String) COMMENT 'declared team',
  user Nullable(String) COMMENT 'user who started it',
  state String COMMENT 'running, finished, failed, killed, crashed, lost or retracted',
  state_reason String COMMENT 'the evidence for the state',
  attempts UInt16 COMMENT 'number of attempts',
  ranks UInt32 COMMENT 'ranks of the newest attempt',
  nodes UInt32 COMMENT 'nodes of the newest attempt',
  started_at Nullable(DateTime64(6, 'UTC')) COMMENT 'start, UTC',
  ended_at Nullable(DateTime64(6, 'UTC')) COMMENT 'end, UTC; NULL while it runs or is lost',
  last_seen_at DateTime64(6, 'UTC') COMMENT 'newest evidence of it, UTC',
  duration_s Nullable(Float64) COMMENT 'seconds from start to end, or to the newest evidence',
  eta_s Nullable(Float64) COMMENT 'estimated seconds to completion; NULL if unknown',
  gpu_hours Nullable(Float64) COMMENT 'hours of devices held; NULL if unknown',
  cost Nullable(Decimal(38, 9)) COMMENT 'money so far; NULL while any part is unpriced or not observed',
  currency Nullable(String) COMMENT 'ISO 4217; NULL without a price',
  payer_evidence Nullable(String) COMMENT 'where the paying team is known from',
  grade Nullable(String) COMMENT 'how well it can be repeated, A to E; NULL if not judged',
  tags Array(String) COMMENT 'tags',
  run_group Nullable(String) COMMENT 'group given to init, as of a sweep'
) AS
SELECT r.run_id AS run_id, r.project AS project, r.experiment AS experiment, r.name AS name, r.team AS team,
  r.user AS user,
  -- Lost when nobody who is left is heard of; one silent node beside others that run is a reason, no state.
  if(r.state = 'running' AND w.heard = 0 AND (w.silent > 0 OR greatest(r.last_event_at, w.seen_at)
     < now64(6, 'UTC') - INTERVAL 90 SECOND), 'lost', toString(r.state)) AS state,
  multiIf(r.state != 'running', r.state_reason,
     w.silent > 0 AND r.nodes > 1, concat('no word for 90 s from ', w.silent_places),
     w.silent > 0 OR (w.heard = 0 AND greatest(r.last_event_at, w.seen_at) < now64(6, 'UTC') - INTERVAL 90 SECOND),
     'no word from its node for 90 s', r.state_reason) AS state_reason,
  r.attempts AS attempts, r.ranks AS ranks, r.nodes AS nodes, r.started_at AS started_at, r.ended_at AS ended_at,
  greatest(r.last_event_at, w.seen_at) AS last_seen_at,
  dateDiff('millisecond', r.started_at, coalesce(r.ended_at, greatest(r.last_event_at, w.seen_at))) / 1000 AS duration_s,
  if(state = 'running', e.eta_s, NULL) AS eta_s, c.gpu_hours AS gpu_hours, c.cost AS cost, c.currency AS currency,
  coalesce(c.payer_evidence, if(r.team IS NULL, NULL, 'declared team')) AS payer_evidence,
  if(p.is_same, r.grade_if_repeated, r.grade) AS grade, r.tags AS tags,
  r.run_group AS run_group
FROM (SELECT * FROM {generation}.run_states FINAL WHERE NOT gone) AS r
LEFT ANY JOIN (
  SELECT run_id, attempt, max(last_seen_at) AS seen_at,
    countIf(decides AND state = 'running') AS heard, countIf(decides AND state = 'lost') AS silent,
    arrayStringConcat(arraySlice(arraySort(groupUniqArrayIf(
      concat(if(rank IS NULL, '', concat('rank ', toString(rank), ' on ')), 'node ', node_id),
      decides AND state = 'lost')), 1, 8), ', ') AS silent_places
  FROM {views}.run_writers GROUP BY run_id, attempt
) AS w ON w.run_id = r.run_id AND w.attempt = r.attempts
LEFT ANY JOIN (
  SELECT run_id, if(unpriced = 0 AND currencies = 1, total, NULL) AS cost, if(unpriced = 0 AND currencies = 1, one, NULL)
    AS currency, gpu_hours, payer_evidence
  FROM (
    SELECT run_id, countIf(cost IS NULL) AS unpriced, uniqExact(currency) AS currencies, sum(cost) AS total,
      any(currency) AS one, sumOrNull(device_hours) AS gpu_hours, argMax(payer_evidence, usage_hour) AS payer_evidence
    FROM {views}.cost_lines WHERE run_id IS NOT NULL GROUP BY run_id
  )
) AS c ON c.run_id = r.run_id
LEFT ANY JOIN (SELECT run_id, eta_s FROM {views}.run_progress) AS e ON e.run_id = r.run_id
LEFT ANY JOIN (
  SELECT run_id, true AS is_same FROM {views}.reproductions
  WHERE proves AND outcome IN ('identical', 'within tolerance')
) AS p ON p.run_id = r.run_id;
