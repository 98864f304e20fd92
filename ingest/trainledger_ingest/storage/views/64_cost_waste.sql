-- Each unit of money has one reason: first what nobody held, then what came of the run, then whether it was used.
-- One row: a part of a cost line: what of it was used, not used or not measured, and why it was paid.
CREATE OR REPLACE VIEW {views}.cost_waste (
  usage_hour DateTime('UTC') COMMENT 'start of the hour, UTC',
  node_id String COMMENT 'the node',
  kind String COMMENT 'run, untracked, idle, system or unknown',
  run_id Nullable(UUID) COMMENT 'the run; NULL unless kind is run',
  attempt Nullable(UInt16) COMMENT 'attempt of the run',
  owner Nullable(String) COMMENT 'user who owned the processes',
  team Nullable(String) COMMENT 'the team that pays',
  project Nullable(String) COMMENT 'project of the run',
  experiment Nullable(String) COMMENT 'experiment of the run',
  resource String COMMENT 'host, or a device',
  outcome Nullable(String) COMMENT 'state of the run, or retried for attempts before its last; NULL unless kind is run',
  use String COMMENT 'used, unused (held, measured as not used) or unknown (not measured)',
  why String COMMENT 'used, unused, failed, killed, crashed, retried, idle, system or unknown',
  is_waste Nullable(Bool) COMMENT 'false for used and system; NULL for unknown; true for all else',
  held_hours Float64 COMMENT 'hours of the whole node that this part is',
  device_hours Nullable(Float64) COMMENT 'hours of the device that this part is; NULL for the host',
  cost Nullable(Decimal(38, 9)) COMMENT 'money; NULL without a price; all parts of a node-hour sum to its bill',
  currency Nullable(String) COMMENT 'ISO 4217; NULL without a price',
  account Nullable(String) COMMENT 'account:NAME of a scheduler or namespace:NAME of a pod that the job was for; NULL outside of one'
) AS
SELECT usage_hour, node_id, kind, run_id, attempt, owner, team, project, experiment, resource, outcome, part.1 AS use,
  {why_and_is_waste},
  part.2 AS held_hours, whole_device_hours * part.2 / whole_held_hours AS device_hours, part.3 AS cost, currency, account
FROM (
  SELECT l.usage_hour AS usage_hour, l.node_id AS node_id, l.kind AS kind, l.run_id AS run_id, l.attempt AS attempt,
    l.owner AS owner, l.team AS team, l.project AS project, l.experiment AS experiment, l.resource AS resource,
    if(l.kind != 'run', NULL, if(l.attempt < r.attempts, 'retried', nullIf(toString(r.state), ''))) AS outcome,
    l.held_hours AS whole_held_hours, l.device_hours AS whole_device_hours, l.currency AS currency,
    l.account AS account,
    [('used', ifNull(l.used_hours, 0), l.cost_used), ('unknown', l.unknown_hours, l.cost_unknown),
      ('unused', l.unused_hours, l.cost_unused)] AS parts
  FROM {views}.cost_lines AS l
  LEFT ANY JOIN (SELECT toNullable(run_id) AS run_id, state, attempts FROM {generation}.run_states FINAL) AS r
    ON r.run_id = l.run_id
  WHERE l.held_hours > 0
)
ARRAY JOIN parts AS part
WHERE part.2 > 0 OR part.3 != 0;

-- One row: a part of a row of cost_days: what of it was used, not used or not measured, and why it was paid.
CREATE OR REPLACE VIEW {views}.cost_waste_days (
  day Date COMMENT 'UTC day',
  node_id String COMMENT 'the node',
  kind String COMMENT 'run, untracked, idle, system or unknown',
  run_id Nullable(UUID) COMMENT 'the run; NULL unless kind is run',
  attempt Nullable(UInt16) COMMENT 'attempt of the run',
  owner Nullable(String) COMMENT 'user who owned the processes',
  team Nullable(String) COMMENT 'the team that pays',
  project Nullable(String) COMMENT 'project of the run',
  experiment Nullable(String) COMMENT 'experiment of the run',
  outcome Nullable(String) COMMENT 'state of the run, or retried for attempts before its last; NULL unless kind is run',
  use String COMMENT 'used, unused (held, measured as not used) or unknown (not measured)',
  why String COMMENT 'used, unused, failed, killed, crashed, retried, idle, system or unknown',
  is_waste Nullable(Bool) COMMENT 'false for used and system; NULL for unknown; true for all else',
  held_hours Float64 COMMENT 'hours of the whole node that this part is',
  cost Nullable(Decimal(38, 9)) COMMENT 'money; NULL without a price; all parts of a node-hour sum to its bill',
  currency Nullable(String) COMMENT 'ISO 4217; NULL without a price',
  account Nullable(String) COMMENT 'account:NAME of a scheduler or namespace:NAME of a pod that the job was for; NULL outside of one'
) AS
SELECT day, node_id, kind, run_id, attempt, owner, team, project, experiment, nullIf(whole_outcome, '') AS outcome, part.1 AS use,
  {why_and_is_waste}, part.2 AS held_hours, part.3 AS cost, currency, account
FROM (
  SELECT l.* EXCEPT (held_hours, outcome, cost), l.outcome AS whole_outcome,
    [('used', l.used_hours, l.cost_used), ('unknown', l.unknown_hours, l.cost_unknown),
      ('unused', l.unused_hours, l.cost_unused)] AS parts
  FROM {views}.cost_days AS l WHERE l.held_hours > 0
)
ARRAY JOIN parts AS part
WHERE part.2 > 0 OR part.3 != 0;
