-- Internal. Of each node that was heard of in the last seven days: the newest time of an event, and its newest list of
-- devices; a device that is cut into MIG instances is left to those.
CREATE OR REPLACE VIEW {generation}.gpu_places AS
SELECT n.node_id AS node_id, n.as_of AS as_of, n.present_at AS present_at, device.1 AS place_id,
  ifNull(device.5, device.1) AS device_id, device.2 AS model, device.3 AS memory_bytes, device.4 AS mig_profile,
  device.6 AS problem
FROM (
  SELECT toString(node_id) AS node_id, max(at) AS as_of, maxIf(at, type = 'node_present') AS present_at
  FROM {generation}.node_events WHERE at >= now() - INTERVAL 7 DAY AND month >= toYYYYMM(now() - INTERVAL 40 DAY)
  GROUP BY node_id
) AS n
INNER JOIN (
  SELECT toString(node_id) AS node_id, argMax(JSONExtract(body, 'devices', 'Array(Tuple(device_id String, model String,
    memory_bytes UInt64, mig_profile Nullable(String), parent_id Nullable(String), problem Nullable(String)))'), at) AS devices
  FROM {generation}.node_events WHERE type = 'devices' GROUP BY node_id
) AS d ON d.node_id = n.node_id
ARRAY JOIN d.devices AS device
WHERE NOT arrayExists(other -> ifNull(other.5, '') = device.1, d.devices);

-- Internal. Who holds each place by the newest allocation of its node, and since when without a break: as far as that can
-- be seen in the last seven days. Allocations are repeated each five minutes.
CREATE OR REPLACE VIEW {generation}.gpu_holders AS
SELECT node_id, told_at, holder.1 AS device_id, holder.2 AS part_id, holder.3 AS kind, holder.4 AS run_id, holder.5 AS owner,
  holder.6 AS is_claim, backwards[if(place = 0, length(backwards), place - 1)].1 AS since,
  place = 0 AS is_longer
FROM (
  SELECT node_id, backwards, backwards[1].1 AS told_at, backwards[1].2 AS holders FROM (
    SELECT node_id, arrayReverseSort(e -> e.1, groupArray((at, holders))) AS backwards FROM (
      SELECT toString(node_id) AS node_id, at, arrayDistinct(arrayMap(
        h -> (substring(h.1, 8), h.5, h.2, toUUIDOrNull(h.3), h.4, h.6 > 0), arrayFilter(
          h -> startsWith(h.1, 'device:'), JSONExtract(body, 'holders', 'Array(Tuple(resource String, kind String,
            run_id String, owner Nullable(String), part_id String, denominator Int64))')))) AS holders
      FROM {generation}.node_events WHERE type = 'allocation' AND at >= now() - INTERVAL 7 DAY
    ) GROUP BY node_id
  )
)
ARRAY JOIN holders AS holder, arrayMap(h -> arrayFirstIndex(e -> NOT has(e.2, h), backwards), holders) AS place;

-- One row: a GPU, or a MIG instance of one, of a node that was heard of in the last seven days, as it was then.
CREATE OR REPLACE VIEW {views}.gpus (
  node_id String COMMENT 'the node',
  device_id String COMMENT 'UUID of the device, or of the MIG instance',
  model Nullable(String) COMMENT 'name of the device; NULL if not told',
  mig_profile Nullable(String) COMMENT 'profile of the MIG instance; NULL for a whole device',
  state String COMMENT 'in use, held (use not measured), held unused, free, lost, or unknown (nobody can say who holds it)',
  holders Array(String) COMMENT 'who holds it: run ids, or user:name for processes without a run',
  run_ids Array(UUID) COMMENT 'the runs of these',
  is_claimed Bool COMMENT 'whether a scheduler or the like gave it to one of them; otherwise they are processes on it',
  held_since Nullable(DateTime64(6, 'UTC')) COMMENT 'since when the first of them holds it without a break, UTC; seven days are looked at',
  util_pct Nullable(Float64) COMMENT 'mean share of time that it was used in the last ten minutes, percent; NULL if not measured',
  observed_s Float64 COMMENT 'seconds of these ten minutes that were measured',
  idle_s Nullable(Float64) COMMENT 'seconds without use up to the newest measurement, of the last 24 hours; NULL if not measured in the last ten minutes',
  mem_used_bytes Nullable(Float64) COMMENT 'memory in use when it was measured last, bytes',
  mem_total_bytes Nullable(Float64) COMMENT 'memory, bytes',
  as_of DateTime64(6, 'UTC') COMMENT 'newest event of the node, UTC: all else is told for this time',
  is_live Bool COMMENT 'whether the node was heard of in the last 90 seconds'
) AS
SELECT p.node_id AS node_id, p.place_id AS device_id, nullIf(p.model, '') AS model, p.mig_profile AS mig_profile,
  multiIf(p.problem IS NOT NULL, 'lost',
    isNull(a.told_at) OR a.told_at < p.as_of - INTERVAL 660 SECOND OR has(h.kinds, 'unknown'), 'unknown',
    empty(h.names), 'free', isNull(m.util_pct), 'held', m.util_pct > 0, 'in use', 'held unused') AS state,
  if(state IN ('unknown', 'lost', 'free'), [], h.names) AS holders, if(empty(holders), [], h.run_ids) AS run_ids,
  notEmpty(holders) AND h.is_claimed AS is_claimed, if(empty(holders), NULL, h.since) AS held_since,
  if(m.observed_s > 0, m.util_pct, NULL) AS util_pct, m.observed_s AS observed_s, m.idle_s AS idle_s,
  m.mem_used_bytes AS mem_used_bytes, toNullable(toFloat64(nullIf(p.memory_bytes, 0))) AS mem_total_bytes, p.as_of AS as_of,
  p.present_at >= now() - INTERVAL 90 SECOND AS is_live
FROM {generation}.gpu_places AS p
LEFT ANY JOIN (
  SELECT toString(node_id) AS node_id, toNullable(max(at)) AS told_at FROM {generation}.node_events
  WHERE type = 'allocation' AND at >= now() - INTERVAL 7 DAY GROUP BY node_id
) AS a ON a.node_id = p.node_id
LEFT ANY JOIN (
  SELECT node_id, if(part_id = '', device_id, part_id) AS place_id, groupUniqArray(kind) AS kinds,
    arraySort(groupUniqArray(ifNull(toString(run_id), concat('user:', ifNull(owner, '?'))))) AS names,
    arraySort(groupUniqArrayIf(assumeNotNull(run_id), run_id IS NOT NULL)) AS run_ids, max(is_claim) AS is_claimed,
    toNullable(min(since)) AS since
  FROM {generation}.gpu_holders GROUP BY node_id, place_id
) AS h ON h.node_id = p.node_id AND h.place_id = p.place_id
LEFT ANY JOIN (
  SELECT s.node_id AS node_id, s.device_id AS device_id,
    sumIf(s.mean * s.samples, s.is_use AND s.is_late) / nullIf(sumIf(s.samples, s.is_use AND s.is_late), 0) AS util_pct,
    ifNull(sumIf(s.mean * s.samples, s.name = 'observed_s' AND s.is_late), 0) AS observed_s,
    if(countIf(s.is_use AND s.is_late) = 0, NULL, dateDiff('millisecond',
      if(countIf(s.is_use AND s.maximum > 0) > 0, maxIf(s.end_at, s.is_use AND s.maximum > 0), minIf(s.start_at, s.is_use)),
      maxIf(s.end_at, s.is_use)) / 1000) AS idle_s,
    argMaxOrNullIf(s.last, s.end_at, s.name = 'mem_used_bytes') AS mem_used_bytes
  FROM (
    SELECT toString(x.node_id) AS node_id, toString(x.device) AS device_id, toString(x.name) AS name, x.start_at AS start_at,
      x.end_at AS end_at, x.mean AS mean, x.maximum AS maximum, x.last AS last, x.samples AS samples,
      x.end_at > n.as_of - INTERVAL 10 MINUTE AS is_late, x.name IN ('gpu_util_pct', 'sm_active_pct') AND (x.name =
        'gpu_util_pct' OR n.mig_profile IS NOT NULL) AS is_use
    FROM {generation}.hardware_stats AS x
    INNER JOIN {generation}.gpu_places AS n ON n.node_id = x.node_id AND n.place_id = x.device
    WHERE x.start_at >= now() - INTERVAL 8 DAY AND x.name IN ('gpu_util_pct', 'sm_active_pct', 'observed_s', 'mem_used_bytes')
      AND x.start_at >= n.as_of - INTERVAL 24 HOUR
  ) AS s GROUP BY node_id, device_id
) AS m ON m.node_id = p.node_id AND m.device_id = p.place_id;

-- One row: an hour, a device, who pays and what became of it.
CREATE OR REPLACE VIEW {views}.gpu_hours (
  usage_hour DateTime('UTC') COMMENT 'start of the hour, UTC',
  node_id String COMMENT 'the node',
  device_id String COMMENT 'UUID of the device',
  kind String COMMENT 'run, untracked, idle (nobody held it), system or unknown (nobody saw who held it)',
  team Nullable(String) COMMENT 'the team that pays',
  project Nullable(String) COMMENT 'project',
  held_hours Float64 COMMENT 'hours of the device; of one device and hour they sum to the time that it was there',
  used_hours Nullable(Float64) COMMENT 'of these hours, those that were measured as used; NULL where nothing was measured',
  unused_hours Nullable(Float64) COMMENT 'of these hours, those that were measured as not used; NULL where nothing was measured',
  unknown_hours Float64 COMMENT 'of these hours, those whose use was not measured'
) AS
SELECT usage_hour, node_id, substring(resource, 8) AS device_id, kind, team, project, sum(device_hours) AS held_hours,
  if(countIf(unknown < device_hours) = 0, NULL, sum(used)) AS used_hours,
  if(countIf(unknown < device_hours) = 0, NULL, sum(unused)) AS unused_hours, sum(unknown) AS unknown_hours
FROM (
  SELECT usage_hour, node_id, resource, kind, team, project, assumeNotNull(device_hours) AS device_hours,
    device_hours * ifNull(used_hours, 0) / held_hours AS used, device_hours * unknown_hours / held_hours AS unknown,
    device_hours * unused_hours / held_hours AS unused
  FROM {views}.cost_lines WHERE startsWith(resource, 'device:') AND held_hours > 0 AND device_hours IS NOT NULL
)
GROUP BY usage_hour, node_id, resource, kind, team, project;
