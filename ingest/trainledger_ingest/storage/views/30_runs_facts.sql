-- One row: a run, a parameter and a change of it.
CREATE OR REPLACE VIEW {views}.params (
  run_id UUID COMMENT 'the run',
  key String COMMENT 'the parameter; nested keys joined with /',
  value String COMMENT 'plain text for strings, JSON otherwise',
  value_number Nullable(Float64) COMMENT 'the value as a number, where it is one',
  attempt UInt16 COMMENT 'attempt that set it',
  set_at DateTime64(6, 'UTC') COMMENT 'when it was set, UTC',
  is_current Bool COMMENT 'whether it is the newest value of this key'
) AS
SELECT run_id, key, value, value_number, attempt, set_at, is_current FROM {generation}.param_changes FINAL WHERE NOT gone;

-- One row: a run and an attempt.
CREATE OR REPLACE VIEW {views}.provenance (
  run_id UUID COMMENT 'the run',
  attempt UInt16 COMMENT 'attempt of the run',
  vcs Nullable(String) COMMENT 'git, svn, or NULL for a plain folder',
  repository Nullable(String) COMMENT 'remote address without credentials, or the folder',
  commit Nullable(String) COMMENT 'commit id',
  branch Nullable(String) COMMENT 'branch; NULL when detached',
  dirty Nullable(Bool) COMMENT 'whether files differ from the commit',
  snapshot_id Nullable(String) COMMENT 'id of the stored code state',
  patch_sha256 Nullable(String) COMMENT 'digest of the readable patch',
  patch_bytes Nullable(UInt64) COMMENT 'size of the readable patch, bytes',
  left_out Nullable(UInt64) COMMENT 'files not stored because of limits',
  entry_point Nullable(String) COMMENT 'script or module',
  argv Array(String) COMMENT 'command line, secrets removed',
  python Nullable(String) COMMENT 'interpreter and version',
  packages Map(String, String) COMMENT 'distribution to version',
  lock_sha256 Nullable(String) COMMENT 'SHA-256 of the lock file that comes first, stored as a blob',
  image_digest Nullable(String) COMMENT 'sha256: and the digest of the container image, or of what is installed where that is all that is known',
  image_source Nullable(String) COMMENT 'how it is known: runtime (the container runtime said so), declared (TRAINLEDGER_IMAGE) or fingerprint (of system packages and package_ids)',
  os Nullable(String) COMMENT 'operating system and kernel',
  driver Nullable(String) COMMENT 'GPU driver version',
  cuda Nullable(String) COMMENT 'CUDA runtime version: of the library that was loaded, else of the one that is installed',
  nccl Nullable(String) COMMENT 'NCCL version: of the library that was loaded, else of the one that is installed',
  snapshot_sha256 Nullable(String) COMMENT 'digest of the stored document from which the code is restored',
  left_out_files Array(String) COMMENT 'the first of the files that are not stored, with the reasons',
  code_root Nullable(String) COMMENT 'folder of the outermost repository',
  cwd Nullable(String) COMMENT 'working folder of the process',
  launcher Array(String) COMMENT 'command line of the outermost launcher; empty without one',
  variables Map(String, String) COMMENT 'environment variables that matter to a result, by an allow-list',
  program Nullable(String) COMMENT 'file that the first word of the command line stands for',
  reasons Array(String) COMMENT 'what could not be captured, and why',
  package_ids Map(String, String) COMMENT 'distribution to the SHA-256 of what is installed of it: the same for the same build',
  package_sources Map(String, String) COMMENT 'distribution to where it was installed from, where it is no package index',
  lock_files Map(String, String) COMMENT 'path of each lock file near the code to the SHA-256 of its stored bytes',
  cudnn Nullable(String) COMMENT 'cuDNN version: of the library that was loaded, else of the one that is installed',
  system Map(String, String) COMMENT 'processor, C library, limits and other facts of the machine, by name',
  libraries Map(String, String) COMMENT 'numerical libraries that the process had loaded at its end: version, path or number of threads',
  randomness Map(String, String) COMMENT 'seeds and determinism flags of the process, by name'
) AS
SELECT p.run_id AS run_id, p.attempt AS attempt, p.vcs AS vcs, p.repository AS repository, p.commit AS commit,
  p.branch AS branch, p.dirty AS dirty,
  p.snapshot_id AS snapshot_id, p.patch_sha256 AS patch_sha256, p.patch_bytes AS patch_bytes, p.left_out AS left_out,
  p.entry_point AS entry_point, p.argv AS argv, p.python AS python, p.packages AS packages,
  p.lock_sha256 AS lock_sha256, p.image_digest AS image_digest, p.image_source AS image_source, p.os AS os,
  p.driver AS driver, p.cuda AS cuda, p.nccl AS nccl,
  p.snapshot_sha256 AS snapshot_sha256, p.left_out_files AS left_out_files, p.code_root AS code_root, p.cwd AS cwd,
  p.launcher AS launcher, p.variables AS variables, p.program AS program, p.reasons AS reasons,
  p.package_ids AS package_ids, p.package_sources AS package_sources, p.lock_files AS lock_files, p.cudnn AS cudnn,
  p.system AS system, p.libraries AS libraries, p.randomness AS randomness
FROM (SELECT * FROM {generation}.provenance_facts FINAL) AS p
LEFT ANY JOIN (SELECT run_id, version FROM {generation}.run_states FINAL) AS r ON r.run_id = p.run_id
-- A row older than its run is of an attempt that later evidence took back.
WHERE p.version >= r.version;

-- One row: a run that was repeated and its repetition.
CREATE OR REPLACE VIEW {views}.reproductions (
  run_id UUID COMMENT 'the run that was repeated',
  repetition UUID COMMENT 'the run that repeated it',
  outcome String COMMENT 'identical, within tolerance, equivalent, different or failed',
  metrics UInt64 COMMENT 'metrics that were compared',
  points UInt64 COMMENT 'points that were compared',
  first_difference Nullable(String) COMMENT 'the first point beyond the tolerance',
  rtol Float64 COMMENT 'tolerance, relative',
  atol Float64 COMMENT 'tolerance, absolute',
  hardware String COMMENT 'what it was repeated on',
  at DateTime64(6, 'UTC') COMMENT 'when it was compared, UTC',
  set_by String COMMENT 'who repeated it',
  proves Bool COMMENT 'whether it shows that the run can be repeated: the same code, command and number of ranks',
  deviations Array(String) COMMENT 'what else than the results differed: code, packages, ranks, inputs',
  artifacts UInt64 COMMENT 'stored outputs that were compared by their digests',
  evidence Nullable(String) COMMENT 'of outcome equivalent: how that was tested'
) AS
SELECT toUUIDOrZero(JSONExtractString(body, 'run_id')) AS run_id,
  toUUIDOrZero(JSONExtractString(body, 'repetition')) AS repetition, JSONExtractString(body, 'outcome') AS outcome,
  JSONExtractUInt(body, 'metrics') AS metrics, JSONExtractUInt(body, 'points') AS points,
  JSONExtract(body, 'first_difference', 'Nullable(String)') AS first_difference,
  JSONExtractFloat(body, 'rtol') AS rtol, JSONExtractFloat(body, 'atol') AS atol,
  JSONExtractString(body, 'hardware') AS hardware, at, JSONExtractString(body, 'set_by') AS set_by,
  coalesce(JSONExtract(body, 'proves', 'Nullable(Bool)'), true) AS proves,
  JSONExtract(body, 'deviations', 'Array(String)') AS deviations, JSONExtractUInt(body, 'artifacts') AS artifacts,
  JSONExtract(body, 'evidence', 'Nullable(String)') AS evidence
FROM {generation}.admin_events WHERE type = 'reproduction_result';

-- One row: a line of output.
CREATE OR REPLACE VIEW {views}.logs (
  run_id UUID COMMENT 'the run',
  attempt UInt16 COMMENT 'attempt of the run',
  rank Nullable(UInt32) COMMENT 'rank of the process; NULL for a single process',
  stream String COMMENT 'stdout or stderr',
  line_no UInt64 COMMENT 'number of the line in its stream, from 1',
  at DateTime64(6, 'UTC') COMMENT 'when it was read, UTC',
  text String COMMENT 'the line, without its end',
  writer_id UUID COMMENT 'the process that wrote it; line_no counts the lines of its stream'
) AS
SELECT l.run_id AS run_id, w.attempt AS attempt, w.rank AS rank, toString(l.stream) AS stream, l.line_no AS line_no,
  l.at AS at, l.text AS text, l.writer_id AS writer_id
FROM {homed}log_lines AS l
LEFT ANY JOIN (SELECT writer_id, attempt, rank FROM {generation}.writer_states FINAL WHERE NOT gone) AS w ON w.writer_id = l.writer_id;

-- One row: a node and a minute.
CREATE OR REPLACE VIEW {views}.host_minutes (
  node_id String COMMENT 'the node',
  minute DateTime('UTC') COMMENT 'start of the minute, UTC',
  cpu_pct Nullable(Float64) COMMENT 'mean share of all cores that was busy, percent',
  mem_used_bytes Nullable(Float64) COMMENT 'mean memory in use, bytes',
  mem_total_bytes Nullable(Float64) COMMENT 'memory, bytes',
  disk_read_bytes Nullable(Float64) COMMENT 'bytes read from disks in the minute',
  disk_write_bytes Nullable(Float64) COMMENT 'bytes written to disks in the minute',
  net_rx_bytes Nullable(Float64) COMMENT 'bytes received in the minute',
  net_tx_bytes Nullable(Float64) COMMENT 'bytes sent in the minute',
  observed_s Float64 COMMENT 'seconds of the minute that were measured'
) AS
SELECT toString(node_id) AS node_id, toStartOfMinute(start_at) AS minute,
  sumIf(mean * samples, name = 'cpu_pct') / nullIf(sumIf(samples, name = 'cpu_pct'), 0) AS cpu_pct,
  sumIf(mean * samples, name = 'mem_used_bytes') / nullIf(sumIf(samples, name = 'mem_used_bytes'), 0) AS mem_used_bytes,
  maxOrNullIf(maximum, name = 'mem_total_bytes') AS mem_total_bytes,
  sumOrNullIf(mean * samples, name = 'disk_read_bytes') AS disk_read_bytes,
  sumOrNullIf(mean * samples, name = 'disk_write_bytes') AS disk_write_bytes,
  sumOrNullIf(mean * samples, name = 'net_rx_bytes') AS net_rx_bytes,
  sumOrNullIf(mean * samples, name = 'net_tx_bytes') AS net_tx_bytes,
  sumIf(dateDiff('millisecond', start_at, end_at), name = 'cpu_pct') / 1000 AS observed_s
FROM {generation}.hardware_stats WHERE device = 'host' GROUP BY node_id, minute;

-- One row: a run, an attempt and a rank.
CREATE OR REPLACE VIEW {views}.run_usage (
  run_id UUID COMMENT 'the run',
  attempt UInt16 COMMENT 'attempt of the run',
  rank Nullable(UInt32) COMMENT 'rank of the process; NULL for a single process',
  cpu_seconds Float64 COMMENT 'CPU time of its processes, seconds',
  mem_peak_bytes UInt64 COMMENT 'highest resident memory of its processes, bytes',
  gpu_busy_s Nullable(Float64) COMMENT 'seconds its devices were busy for it, summed over devices; NULL without devices or where not known',
  gpu_mem_peak_bytes Nullable(UInt64) COMMENT 'highest device memory of its processes, bytes, summed over devices; NULL without devices',
  energy_j Nullable(Float64) COMMENT 'energy of its devices, joules; NULL where not measured',
  observed_s Float64 COMMENT 'seconds of its life that were measured, summed over nodes',
  gpu_observed_s Nullable(Float64) COMMENT 'seconds its devices were measured with it on them, summed over devices; NULL without devices',
  gpu_quality Nullable(String) COMMENT 'how gpu_busy_s is known at its weakest: exclusive, shared-measured, estimated or unknown; NULL without devices'
) AS
SELECT run_id, attempt, rank, sum(cpu) / 1000000 AS cpu_seconds, max(memory) AS mem_peak_bytes,
  sumOrNull(busy_us) / 1000000 AS gpu_busy_s, max(gpu_memory) AS gpu_mem_peak_bytes,
  sumOrNull(energy_mj) / 1000 AS energy_j, sum(observed_us) / 1000000 AS observed_s,
  sumOrNull(gpu_us) / 1000000 AS gpu_observed_s,
  if(count(gpu_us) = 0, NULL, arrayElement(['exclusive', 'shared-measured', 'estimated', 'unknown'], max(weakness)))
    AS gpu_quality
FROM (
  SELECT u.run_id AS run_id, w.attempt AS attempt, w.rank AS rank, u.node_id, u.start_at, sum(u.cpu) AS cpu,
    sum(u.memory) AS memory,
    -- A window is as long as the node was measured in it; the run was there for a part of the first and the last one.
    greatest(0, ifNull(dateDiff('microsecond',
      minIf(greatest(u.start_at, ifNull(w.started_at, u.start_at), ifNull(r.started_at, u.start_at)), u.is_usage),
      maxIf(least(u.end_at, if(w.state IN ('', 'running'), u.end_at, w.last_event_at), ifNull(r.ended_at, u.end_at)),
        u.is_usage)
    ), 0)) AS observed_us,
    sumOrNull(u.gpu_us) AS gpu_us,
    sumOrNull(u.busy_us) AS busy_us, sumOrNull(u.gpu_memory) AS gpu_memory, sumOrNull(u.energy_mj) AS energy_mj,
    max(u.weakness) AS weakness
  FROM (
    SELECT run_id, writer_id, node_id, start_at, cpu_us AS cpu, memory_peak_bytes AS memory,
      end_at, true AS is_usage, CAST(NULL AS Nullable(UInt64)) AS gpu_us,
      CAST(NULL AS Nullable(UInt64)) AS busy_us, CAST(NULL AS Nullable(UInt64)) AS gpu_memory,
      CAST(NULL AS Nullable(UInt64)) AS energy_mj, 0 AS weakness
    FROM {homed}run_usage_windows
    UNION ALL
    SELECT run_id, writer_id, node_id, start_at, 0, 0, start_at, false, observed_us, busy_us, memory_peak_bytes, energy_mj,
      indexOf(['exclusive', 'shared-measured', 'estimated', 'unknown'], toString(quality))
    FROM {homed}run_gpu_windows
  ) AS u
  LEFT ANY JOIN (SELECT writer_id, attempt, rank, started_at, last_event_at, toString(state) AS state
    FROM {generation}.writer_states FINAL WHERE NOT gone) AS w ON w.writer_id = u.writer_id
  LEFT ANY JOIN (SELECT run_id, started_at, ended_at FROM {generation}.run_states FINAL) AS r ON r.run_id = u.run_id
  GROUP BY run_id, attempt, rank, u.node_id, u.start_at
) GROUP BY run_id, attempt, rank;

-- Filter by minute (of a run: between its started_at and ended_at), and only those hours of the tables are read.
-- A device's name and model are in the `devices` events: of each id, whatever was said last.
-- One row: a device and a minute.
CREATE OR REPLACE VIEW {views}.gpu_minutes (
  node_id String COMMENT 'the node',
  device_id String COMMENT 'UUID of the device, or of the MIG instance',
  model Nullable(String) COMMENT 'name of the device; NULL if not told',
  mig_profile Nullable(String) COMMENT 'profile of the MIG instance; NULL for a whole device',
  minute DateTime('UTC') COMMENT 'start of the minute, UTC',
  run_ids Array(UUID) COMMENT 'runs that were on it',
  util_pct Nullable(Float64) COMMENT 'mean share of time that a kernel ran, percent; of a MIG instance: of its multiprocessors that were busy',
  mem_used_bytes Nullable(Float64) COMMENT 'mean memory in use, bytes',
  mem_total_bytes Nullable(Float64) COMMENT 'memory, bytes',
  power_w Nullable(Float64) COMMENT 'mean power, watts',
  energy_j Nullable(Float64) COMMENT 'energy in the minute, joules; read each ten to thirty seconds',
  throttled_s Nullable(Float64) COMMENT 'seconds of the minute at a lowered clock for power or heat',
  observed_s Float64 COMMENT 'seconds of the minute that were measured'
) AS
SELECT s.node_id AS node_id, s.device_id AS device_id, d.model AS model, d.mig_profile AS mig_profile, s.minute AS minute,
  r.run_ids AS run_ids, s.util_pct AS util_pct, s.mem_used_bytes AS mem_used_bytes, s.mem_total_bytes AS mem_total_bytes,
  s.power_w AS power_w, s.energy_j AS energy_j, s.throttled_s AS throttled_s, s.observed_s AS observed_s
FROM (
  SELECT toString(node_id) AS node_id, toString(device) AS device_id, toStartOfMinute(start_at) AS minute,
    coalesce(sumIf(mean * samples, name = 'gpu_util_pct') / nullIf(sumIf(samples, name = 'gpu_util_pct'), 0),
      sumIf(mean * samples, name = 'sm_active_pct') / nullIf(sumIf(samples, name = 'sm_active_pct'), 0)) AS util_pct,
    sumIf(mean * samples, name = 'mem_used_bytes') / nullIf(sumIf(samples, name = 'mem_used_bytes'), 0) AS mem_used_bytes,
    maxOrNullIf(maximum, name = 'mem_total_bytes') AS mem_total_bytes,
    sumIf(mean * samples, name = 'power_w') / nullIf(sumIf(samples, name = 'power_w'), 0) AS power_w,
    sumOrNullIf(mean * samples, name = 'energy_j') AS energy_j,
    sumOrNullIf(mean * samples, name = 'throttled_s') AS throttled_s,
    sumIf(mean * samples, name = 'observed_s') AS observed_s
  FROM {generation}.hardware_stats WHERE device != 'host' GROUP BY node_id, device_id, minute
) AS s
LEFT ANY JOIN (
  SELECT toString(node_id) AS node_id, device.1 AS device_id, toNullable(argMax(device.2, at)) AS model,
    nullIf(argMax(ifNull(device.3, ''), at), '') AS mig_profile
  FROM {generation}.node_events
  ARRAY JOIN JSONExtract(body, 'devices',
    'Array(Tuple(device_id String, model String, mig_profile Nullable(String)))') AS device
  WHERE type = 'devices' GROUP BY node_id, device_id
) AS d ON d.node_id = s.node_id AND d.device_id = s.device_id
LEFT ANY JOIN (
  SELECT toString(node_id) AS node_id, toString(if(part_id = '', device_id, part_id)) AS place_id,
    toStartOfMinute(start_at) AS minute, arraySort(groupUniqArray(run_id)) AS run_ids
  FROM {homed}run_gpu_windows GROUP BY node_id, place_id, minute
) AS r ON r.node_id = s.node_id AND r.place_id = s.device_id AND r.minute = s.minute;
