-- The rule: of windows (ten seconds) in which the run was alone on a GPU and its use was measured, those are low in which
-- the GPU was busy for less than half. A low window has evidence of waiting for input if (cpu) the run's processes used
-- 0.9 cores or more for each of its GPUs there, (read) the node read 20 MiB a second or more from disks and network, or
-- (swing) the use of the GPU swung between 10 % or less and 80 % or more within the window. A run is starved if windows
-- with evidence are a fifth or more of at least five minutes.
-- One row: a run and a node on which it was alone on a GPU.
CREATE OR REPLACE VIEW {views}.input_waits (
  run_id UUID COMMENT 'the run',
  node_id String COMMENT 'the node',
  gpus UInt64 COMMENT 'GPUs on which it was alone',
  is_starved Nullable(Bool) COMMENT 'whether it waits for input, by the rule of docs/waste.md; NULL with less than five minutes measured',
  evidence Array(String) COMMENT 'cpu, read, swing: what held in at least half of its low time',
  busy_pct Float64 COMMENT 'mean share of the time that its GPUs were busy, percent',
  observed_s Float64 COMMENT 'seconds that were measured with it alone on them, summed over GPUs',
  low_s Float64 COMMENT 'of these, seconds of windows in which a GPU was busy for less than half',
  cpu_s Float64 COMMENT 'of the low ones, seconds in which its processes used 0.9 cores for each GPU',
  read_s Float64 COMMENT 'of the low ones, seconds in which the node, whoever it was, read 20 MiB a second from disks and network',
  swing_s Float64 COMMENT 'of the low ones, seconds in which the use swung from 10 % to 80 % within a window',
  starved_s Float64 COMMENT 'of the low ones, seconds with one of the three',
  unseen_s Float64 COMMENT 'of the low ones, seconds without one of the three measurements and without evidence from the others',
  low_cores Nullable(Float64) COMMENT 'mean cores that its processes used in low windows; NULL if not measured',
  low_read_bytes Nullable(Float64) COMMENT 'mean bytes a second that the node read in low windows; NULL if not measured',
  cost_waited Nullable(Decimal(38, 9)) COMMENT 'money for these GPUs while they waited: their cost x time not busy in windows with evidence / time measured',
  currency Nullable(String) COMMENT 'ISO 4217; NULL without a price'
) AS
SELECT s.run_id AS run_id, s.node_id AS node_id, s.gpus AS gpus,
  if(s.observed_us < 300000000, NULL, 5 * s.starved_us >= s.observed_us) AS is_starved,
  arrayFilter((name, held_us) -> s.low_us > 0 AND 2 * held_us >= s.low_us, ['cpu', 'read', 'swing'],
    [s.cpu_low_us, s.read_low_us, s.swing_low_us]) AS evidence,
  100 * s.busy_us / s.observed_us AS busy_pct, s.observed_us / 1e6 AS observed_s, s.low_us / 1e6 AS low_s,
  s.cpu_low_us / 1e6 AS cpu_s, s.read_low_us / 1e6 AS read_s, s.swing_low_us / 1e6 AS swing_s, s.starved_us / 1e6 AS starved_s,
  s.unseen_us / 1e6 AS unseen_s, s.low_cores AS low_cores, s.low_read_bytes AS low_read_bytes,
  CAST(toDecimal128(intDiv(toInt256(c.nano) * s.idle_us, s.observed_us), 9) / 1000000000 AS Nullable(Decimal(38, 9)))
    AS cost_waited, c.money AS currency
FROM (
  SELECT run_id, node_id, uniqExact(device_id) AS gpus, sum(seen) AS observed_us, sum(busy) AS busy_us, sumIf(seen, is_low) AS low_us,
    sumIf(seen, is_low AND is_cpu) AS cpu_low_us, sumIf(seen, is_low AND is_read) AS read_low_us,
    sumIf(seen, is_low AND is_swing) AS swing_low_us, sumIf(seen, is_low AND has_evidence) AS starved_us,
    sumIf(seen, is_low AND NOT has_evidence AND is_blind) AS unseen_us,
    sumIf(seen - busy, is_low AND has_evidence) AS idle_us,
    avgOrNullIf(cores, is_low AND cores IS NOT NULL) AS low_cores,
    avgOrNullIf(read_rate, is_low AND read_rate IS NOT NULL) AS low_read_bytes
  FROM (
    SELECT w.run_id AS run_id, w.node_id AS node_id, w.device_id AS device_id, w.seen AS seen, w.busy AS busy,
      2 * w.busy < w.seen AS is_low, u.cpu_us / w.length_us AS cores, h.read_bytes * 1000000 / w.length_us AS read_rate,
      ifNull(cores >= 0.9 * w.gpus_then, false) AS is_cpu, ifNull(read_rate >= 20971520, false) AS is_read,
      ifNull(d.lowest <= 10 AND d.highest >= 80, false) AS is_swing, is_cpu OR is_read OR is_swing AS has_evidence,
      isNull(cores) OR isNull(read_rate) OR isNull(d.lowest) AS is_blind
    FROM (
      SELECT run_id, toString(node_id) AS node_id, toString(device_id) AS device_id, start_at, toInt64(observed_us) AS seen,
        toInt64(assumeNotNull(busy_us)) AS busy, greatest(1, dateDiff('microsecond', start_at, end_at)) AS length_us,
        count() OVER (PARTITION BY run_id, node_id, start_at) AS gpus_then
      FROM {homed}run_gpu_windows
      WHERE quality = 'exclusive' AND part_id = '' AND busy_us IS NOT NULL AND observed_us > 0
    ) AS w
    LEFT JOIN (
      SELECT run_id, toString(node_id) AS node_id, start_at, toNullable(sum(x.cpu_us)) AS cpu_us
      FROM {homed}run_usage_windows AS x GROUP BY run_id, node_id, start_at
    ) AS u ON u.run_id = w.run_id AND u.node_id = w.node_id AND u.start_at = w.start_at
    LEFT JOIN (
      SELECT toString(node_id) AS node_id, start_at, sumOrNull(mean * samples) AS read_bytes FROM {generation}.hardware_stats
      WHERE device = 'host' AND name IN ('disk_read_bytes', 'net_rx_bytes') GROUP BY node_id, start_at
    ) AS h ON h.node_id = w.node_id AND h.start_at = w.start_at
    LEFT JOIN (
      SELECT toString(node_id) AS node_id, toString(device) AS device_id, start_at, toNullable(min(minimum)) AS lowest,
        toNullable(max(maximum)) AS highest
      FROM {generation}.hardware_stats WHERE name = 'gpu_util_pct' GROUP BY node_id, device_id, start_at
    ) AS d ON d.node_id = w.node_id AND d.device_id = w.device_id AND d.start_at = w.start_at
  ) GROUP BY run_id, node_id
) AS s
LEFT JOIN (
  SELECT assumeNotNull(run_id) AS run_id, node_id, currency AS money, toInt256(sumOrNull(cost) * 1000000000) AS nano
  FROM {views}.cost_lines WHERE kind = 'run' AND startsWith(resource, 'device:') AND cost IS NOT NULL
  GROUP BY run_id, node_id, money
) AS c ON c.run_id = s.run_id AND c.node_id = s.node_id;
