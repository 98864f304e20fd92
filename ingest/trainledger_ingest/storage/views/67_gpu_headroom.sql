-- Fractions of memory and names of MIG profiles are those of NVIDIA's MIG User Guide, "Supported MIG Profiles"
-- (docs.nvidia.com/datacenter/tesla/mig-user-guide, read 2026-11). A slice has at least 95 % of its fraction of the memory
-- (of an A100 40 GB, 1/8 are 4864 MiB of 5120), and a tenth of it is left free. Of the profiles with one fraction the one
-- with most compute counts, but 3g before 4g, of which a device takes only one.
-- One row: a run and a GPU (or MIG instance) that it was on.
CREATE OR REPLACE VIEW {views}.gpu_headroom (
  run_id UUID COMMENT 'the run',
  node_id String COMMENT 'the node',
  device_id String COMMENT 'UUID of the device, or of the MIG instance',
  model Nullable(String) COMMENT 'name of the device; NULL if not told',
  mig_profile Nullable(String) COMMENT 'profile of the MIG instance; NULL for a whole device',
  mem_total_bytes Nullable(UInt64) COMMENT 'memory of the device or instance, bytes; NULL if not told',
  mem_peak_bytes Nullable(UInt64) COMMENT 'highest memory of the processes of the run on it, bytes, looked at each two seconds; NULL if not measured',
  used_pct Nullable(Float64) COMMENT 'the peak of the memory, percent',
  busy_pct Nullable(Float64) COMMENT 'mean share of the time that it was busy for the run, percent; NULL if not measured',
  observed_s Float64 COMMENT 'seconds in which the run was seen on it',
  unmeasured_s Float64 COMMENT 'of these seconds, those without a measurement of memory; the peak is a lower bound if there are any',
  fits_profile Nullable(String) COMMENT 'smallest MIG profile of the device whose memory is enough; NULL if there is none, or not all was measured',
  fits_part Nullable(Float64) COMMENT 'part of the device that this profile takes, 0 to 1',
  fits_compute Nullable(Float64) COMMENT 'part of the multiprocessors that it has, 0 to 1',
  fits_gpu_gib Nullable(UInt16) COMMENT 'memory of the smallest common GPU that is enough and smaller than this one, GiB; NULL as above',
  first_at DateTime64(6, 'UTC') COMMENT 'when the run was first seen on it, UTC',
  last_at DateTime64(6, 'UTC') COMMENT 'when it was seen last, UTC'
) AS
SELECT run_id, node_id, place_id AS device_id, nullIf(model, '') AS model, mig_profile,
  nullIf(memory_bytes, 0) AS mem_total_bytes, peak AS mem_peak_bytes, 100 * peak / nullIf(memory_bytes, 0) AS used_pct,
  100 * busy_us / nullIf(known_us, 0) AS busy_pct, seen_us / 1e6 AS observed_s, blind_us / 1e6 AS unmeasured_s,
  if(place = 0, NULL, toNullable(splitByChar(',', names)[place])) AS fits_profile,
  if(place = 0, NULL, toNullable(slices[place].1)) AS fits_part,
  if(place = 0, NULL, toNullable(slices[place].2)) AS fits_compute,
  if(is_sure, nullIf(toUInt16(arrayFirst(gib -> ifNull(peak, 0) <= gib * 1073741824. * 0.9
    AND gib < memory_bytes / 1073741824. * 0.9, [8, 16, 24, 32, 40, 48, 80])), 0), NULL) AS fits_gpu_gib, first_at, last_at
FROM (
WITH
  [('A100.*40GB', '1g.5gb,2g.10gb,3g.20gb'), ('(A100|H100|A800|H800).*80GB', '1g.10gb,2g.20gb,3g.40gb'),
    ('H100 NVL', '1g.12gb,2g.24gb,3g.47gb'), ('H100.*96GB', '1g.12gb,2g.24gb,3g.48gb'),
    ('(^|[^G])H200', '1g.18gb,2g.35gb,3g.71gb'), ('(^|[^G])B200', '1g.23gb,2g.45gb,3g.90gb'),
    ('A30($|[^0-9])', '1g.6gb,2g.12gb')] AS profiles
SELECT h.run_id AS run_id, h.node_id AS node_id, h.place_id AS place_id, d.model AS model, d.mig_profile AS mig_profile,
  d.memory_bytes AS memory_bytes, h.peak AS peak, h.blind_us AS blind_us, h.seen_us AS seen_us, h.busy_us AS busy_us,
  h.known_us AS known_us, h.first_at AS first_at, h.last_at AS last_at,
  arrayFirst(known -> match(d.model, known.1), profiles).2 AS names,
  h.blind_us = 0 AND h.peak IS NOT NULL AND d.memory_bytes > 0 AND d.mig_profile IS NULL AS is_sure,
  -- Part of the memory and part of the multiprocessors.
  if(length(splitByChar(',', names)) = 2, [(0.25, 0.25), (0.5, 0.5)], [(0.125, 1 / 7), (0.25, 2 / 7), (0.5, 3 / 7)]) AS slices,
  if(is_sure AND names != '', arrayFirstIndex(slice -> h.peak <= slice.1 * d.memory_bytes * 0.95 * 0.9, slices), 0) AS place
FROM (
  SELECT run_id, node_id, place_id, max(memory) AS peak, sum(blind) AS blind_us, sum(seen) AS seen_us, sum(busy) AS busy_us,
    sum(known) AS known_us, min(start_at) AS first_at, max(end_at) AS last_at
  FROM (
    -- The processes of a run in one window: their peaks may lie at other times, so the sum is an upper bound.
    SELECT w.run_id AS run_id, toString(w.node_id) AS node_id, toString(if(w.part_id = '', w.device_id, w.part_id)) AS place_id,
      w.start_at AS start_at, max(w.end_at) AS end_at, sumOrNull(w.memory_peak_bytes) AS memory, max(w.observed_us) AS seen,
      if(countIf(w.memory_peak_bytes IS NULL) > 0, seen, 0) AS blind, sum(ifNull(w.busy_us, 0)) AS busy,
      if(countIf(w.busy_us IS NULL) > 0, 0, seen) AS known
    FROM {homed}run_gpu_windows AS w GROUP BY run_id, node_id, place_id, start_at
  ) GROUP BY run_id, node_id, place_id
) AS h
LEFT ANY JOIN (
  SELECT toString(node_id) AS node_id, device.1 AS place_id, argMax(device.2, at) AS model, argMax(device.3, at) AS memory_bytes,
    nullIf(argMax(ifNull(device.4, ''), at), '') AS mig_profile
  FROM {generation}.node_events
  ARRAY JOIN JSONExtract(body, 'devices', 'Array(Tuple(device_id String, model String, memory_bytes UInt64,
    mig_profile Nullable(String)))') AS device
  WHERE type = 'devices' GROUP BY node_id, place_id
) AS d ON d.node_id = h.node_id AND d.place_id = h.place_id
);
