-- An attempt that another one followed was repeated, whatever became of the run.
-- One row: an hour, kind, team, project, experiment and what came of it.
CREATE OR REPLACE VIEW {views}.cost_outcomes (
  usage_hour DateTime('UTC') COMMENT 'start of the hour, UTC',
  kind String COMMENT 'run, untracked, idle, system or unknown',
  outcome Nullable(String) COMMENT 'state of the run, or retried for attempts before its last; NULL unless kind is run',
  team Nullable(String) COMMENT 'the team that pays',
  project Nullable(String) COMMENT 'project',
  experiment Nullable(String) COMMENT 'experiment',
  runs UInt64 COMMENT 'different runs',
  held_hours Float64 COMMENT 'hours of whole nodes that were held',
  cost Nullable(Decimal(38, 9)) COMMENT 'money; NULL without a price',
  currency Nullable(String) COMMENT 'ISO 4217; NULL without a price'
) AS
SELECT l.usage_hour AS usage_hour, l.kind AS kind,
  if(l.kind != 'run', NULL, if(l.attempt < r.attempts, 'retried', toNullable(toString(r.state)))) AS outcome,
  l.team AS team, l.project AS project, l.experiment AS experiment, uniqExact(l.run_id) AS runs,
  sum(l.held_hours) AS held_hours, sumOrNull(l.cost) AS cost, l.currency AS currency
FROM {views}.cost_lines AS l
LEFT ANY JOIN (SELECT toNullable(run_id) AS run_id, state, attempts FROM {generation}.run_states FINAL) AS r
  ON r.run_id = l.run_id
GROUP BY usage_hour, kind, outcome, team, project, experiment, currency;
