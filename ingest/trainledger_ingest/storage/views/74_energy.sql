-- One row: what a kilowatt-hour at some nodes comes to, as it was set.
CREATE OR REPLACE VIEW {views}.energy_factors (
  node String COMMENT 'pattern of node names',
  from_hour DateTime('UTC') COMMENT 'whole hour from which it counts, UTC',
  pue Nullable(Decimal(18, 6)) COMMENT 'energy of the building for each unit at the machines; NULL if not known',
  grid_g_per_kwh Nullable(Decimal(18, 6)) COMMENT 'grams of CO2e a kilowatt-hour of the grid at that place; NULL if not known',
  year Nullable(Int32) COMMENT 'year that the number of the grid is of',
  source Nullable(String) COMMENT 'where the numbers are from',
  set_at DateTime64(6, 'UTC') COMMENT 'when it was set, UTC',
  set_by String COMMENT 'who set it',
  note Nullable(String) COMMENT 'why'
) AS
SELECT JSONExtractString(body, 'pattern') AS node,
  toDateTime(intDiv(JSONExtractInt(body, 'from_hour_us'), 1000000), 'UTC') AS from_hour,
  CAST(toDecimal64(JSONExtract(body, 'pue_micro', 'Nullable(Int64)'), 6) / 1000000 AS Nullable(Decimal(18, 6))) AS pue,
  CAST(toDecimal64(JSONExtract(body, 'grid_micro', 'Nullable(Int64)'), 6) / 1000000 AS Nullable(Decimal(18, 6))) AS grid_g_per_kwh,
  JSONExtract(body, 'year', 'Nullable(Int32)') AS year, JSONExtract(body, 'source', 'Nullable(String)') AS source,
  at AS set_at, JSONExtractString(body, 'set_by') AS set_by, JSONExtract(body, 'note', 'Nullable(String)') AS note
FROM {generation}.admin_events WHERE type = 'energy_factor_set';

-- Of the factors whose pattern matches a node and that have begun, the first of this list counts: an exact name, then the
-- longest text before the first * or ?, then the latest beginning, then the one set last.
-- One row: an hour, a device and a run on it, or what the device took beside its runs.
CREATE OR REPLACE VIEW {views}.energy (
  usage_hour DateTime('UTC') COMMENT 'start of the hour in which it was measured, UTC',
  node_id String COMMENT 'the node',
  device_id String COMMENT 'UUID of the device',
  run_id Nullable(UUID) COMMENT 'the run; NULL for what the device took while idle, for others, or when nobody saw for whom',
  team Nullable(String) COMMENT 'the team that pays',
  project Nullable(String) COMMENT 'project of the run',
  user Nullable(String) COMMENT 'user who started the run',
  energy_mj Nullable(UInt64) COMMENT 'energy, millijoules; NULL where not measured',
  estimated_mj UInt64 COMMENT 'of this, what is divided by an estimate: of a shared device, or power times time',
  observed_s Float64 COMMENT 'seconds in which the run was seen on the device; 0 without a run',
  unknown_s Float64 COMMENT 'of these seconds, those without a measurement of energy',
  pue Nullable(Decimal(18, 6)) COMMENT 'energy of the building for each unit at the machine; NULL if not known',
  grid_g_per_kwh Nullable(Decimal(18, 6)) COMMENT 'grams of CO2e a kilowatt-hour of the grid; NULL if not known',
  factor_year Nullable(Int32) COMMENT 'year that the number of the grid is of',
  factor_source Nullable(String) COMMENT 'where the numbers are from',
  kgco2e Nullable(Decimal(38, 12)) COMMENT 'kilograms of CO2e: energy x pue x grid, location-based, cut at 10^-12; NULL if one is not known'
) AS
WITH (
  SELECT groupArray((pattern, from_hour, pue_micro, grid_micro, year, source)) FROM (
    SELECT concat('^', replaceAll(replaceAll(regexpQuoteMeta(node), '\\*', '.*'), '\\?', '.'), '$') AS pattern, from_hour,
      toInt64OrNull(toString(pue * 1000000)) AS pue_micro, toInt64OrNull(toString(grid_g_per_kwh * 1000000)) AS grid_micro,
      year, source
    FROM {views}.energy_factors
    ORDER BY if(match(node, '[*?]'), length(extract(node, '^[^*?]*')), 1000000) DESC, from_hour DESC, set_at DESC
  )
) AS factors
SELECT e.usage_hour AS usage_hour, e.node_id AS node_id, e.device_id AS device_id, e.run_id AS run_id,
  if(l.node_id = '', r.team, l.team) AS team,
  r.project AS project, r.user AS user, e.energy_mj AS energy_mj, e.estimated_mj AS estimated_mj, e.observed_s AS observed_s,
  e.unknown_s AS unknown_s,
  CAST(toDecimal64((arrayFirst(f -> f.2 <= e.usage_hour AND match(e.node_id, f.1), factors) AS factor).3, 6) / 1000000
    AS Nullable(Decimal(18, 6))) AS pue,
  CAST(toDecimal64(factor.4, 6) / 1000000 AS Nullable(Decimal(18, 6))) AS grid_g_per_kwh, factor.5 AS factor_year,
  factor.6 AS factor_source,
  CAST(toDecimal128(intDiv(toInt256(e.energy_mj) * factor.3 * factor.4, 3600000000000), 12) / 1000000000000
    AS Nullable(Decimal(38, 12))) AS kgco2e
FROM (
  SELECT toStartOfHour(start_at) AS usage_hour, toString(node_id) AS node_id, toString(device_id) AS device_id,
    toNullable(w.run_id) AS run_id, sumOrNull(w.energy_mj) AS energy_mj,
    sumIf(ifNull(w.energy_mj, 0), w.quality != 'exclusive') AS estimated_mj, sum(w.observed_us) / 1e6 AS observed_s,
    sumIf(w.observed_us, w.energy_mj IS NULL) / 1e6 AS unknown_s
  FROM {homed}run_gpu_windows AS w GROUP BY usage_hour, node_id, device_id, run_id
  UNION ALL
  SELECT usage_hour, node_id, device_id, CAST(NULL AS Nullable(UUID)) AS run_id,
    toNullable(toUInt64(greatest(0, sum(whole_mj) - sum(run_mj)))) AS energy_mj,
    if(max(is_estimated), ifNull(energy_mj, 0), 0) AS estimated_mj, 0. AS observed_s, 0. AS unknown_s
  FROM (
    SELECT toStartOfHour(start_at) AS usage_hour, toString(node_id) AS node_id, toString(device) AS device_id,
      toInt64(round(sum(mean * samples) * 1000)) AS whole_mj, toInt64(0) AS run_mj, max(quality = 'estimated') AS is_estimated,
      true AS is_whole
    FROM {generation}.hardware_stats WHERE name = 'energy_j' GROUP BY usage_hour, node_id, device_id
    UNION ALL
    SELECT toStartOfHour(start_at) AS usage_hour, toString(node_id), toString(device_id), toInt64(0),
      toInt64(sum(ifNull(energy_mj, 0))), false, false
    FROM {homed}run_gpu_windows GROUP BY usage_hour, node_id, device_id
  ) GROUP BY usage_hour, node_id, device_id HAVING max(is_whole)
) AS e
LEFT ANY JOIN (
  SELECT toNullable(run_id) AS run_id, toNullable(project) AS project, team, user FROM {generation}.run_states FINAL
) AS r ON r.run_id = e.run_id
-- Who pays, as the lines of that hour say; the team that the run declares while there are none.
LEFT ANY JOIN (
  SELECT usage_hour, node_id, run_id, any(c.team) AS team FROM {views}.cost_lines AS c WHERE kind = 'run'
  GROUP BY usage_hour, node_id, run_id
) AS l ON l.usage_hour = e.usage_hour AND l.node_id = e.node_id AND l.run_id = e.run_id;
