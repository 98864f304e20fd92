-- One row: a day, team, project, experiment, user, kind and currency.
CREATE OR REPLACE VIEW {views}.cost_daily (
  day Date COMMENT 'UTC day',
  team Nullable(String) COMMENT 'the team that pays',
  project Nullable(String) COMMENT 'project',
  experiment Nullable(String) COMMENT 'experiment',
  user Nullable(String) COMMENT 'owner of the processes',
  kind String COMMENT 'run, untracked, idle, system or unknown',
  runs UInt64 COMMENT 'different runs',
  gpu_hours_held Float64 COMMENT 'hours of devices held',
  gpu_hours_used Nullable(Float64) COMMENT 'of these hours used; NULL where not measured',
  cost Nullable(Decimal(38, 9)) COMMENT 'money of the priced part; NULL if none is priced',
  cost_failed Nullable(Decimal(38, 9)) COMMENT 'of this, money for runs that failed, were killed or crashed',
  cost_held_unused Nullable(Decimal(38, 9)) COMMENT 'of this, money for what was held and measured as not used; NULL where use is not measured',
  currency Nullable(String) COMMENT 'ISO 4217; NULL without a price',
  unpriced_hours Float64 COMMENT 'node-hours without a price'
) AS
SELECT toDate(l.usage_hour, 'UTC') AS day, l.team AS team, l.project AS project, l.experiment AS experiment, l.owner AS user,
  l.kind AS kind, uniqExact(l.run_id) AS runs, ifNull(sum(l.device_hours), 0) AS gpu_hours_held,
  sumOrNullIf(l.device_hours * l.used_hours / l.held_hours, l.held_hours > 0) AS gpu_hours_used, sumOrNull(l.cost) AS cost,
  sumOrNullIf(l.cost, l.kind = 'run' AND r.state IN ('failed', 'killed', 'crashed')) AS cost_failed,
  sumOrNullIf(l.cost_unused, l.used_hours IS NOT NULL AND l.held_hours > 0) AS cost_held_unused,
  l.currency AS currency, sumIf(l.held_hours, l.cost IS NULL) AS unpriced_hours
FROM {views}.cost_lines AS l
LEFT ANY JOIN (SELECT toNullable(run_id) AS run_id, state FROM {generation}.run_states FINAL) AS r ON r.run_id = l.run_id
GROUP BY day, team, project, experiment, user, kind, currency;
