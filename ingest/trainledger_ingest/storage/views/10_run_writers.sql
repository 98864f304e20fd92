-- `lost` is decided when somebody looks: a writer that nothing ended, on a node that has been silent for 90 s.
-- One row: a process of a run.
CREATE OR REPLACE VIEW {views}.run_writers (
  run_id UUID COMMENT 'the run',
  attempt UInt16 COMMENT 'attempt of the run, from 1',
  writer_id UUID COMMENT 'the process: the id of its journal',
  rank Nullable(UInt32) COMMENT 'rank in the launch; NULL for a single process',
  local_rank Nullable(UInt32) COMMENT 'rank on its node',
  world_size Nullable(UInt32) COMMENT 'ranks in the launch',
  node_id String COMMENT 'the node it ran on',
  pid UInt32 COMMENT 'process id',
  device_ids Array(String) COMMENT 'devices and MIG instances it was on; before it was on one, those that CUDA_VISIBLE_DEVICES names',
  started_at Nullable(DateTime64(6, 'UTC')) COMMENT 'start, UTC',
  last_seen_at DateTime64(6, 'UTC') COMMENT 'newest evidence of it, UTC',
  state String COMMENT 'running, ended, finished, failed, killed, crashed or lost',
  exit_code Nullable(Int32) COMMENT 'exit code, where known',
  signal Nullable(Int32) COMMENT 'signal that ended it, where known',
  gap_points UInt64 COMMENT 'points it could not write down, counted',
  node_rank Nullable(UInt32) COMMENT 'number of its node in the launch, where the launcher says it',
  launcher String COMMENT 'what started it: single, torchrun, slurm, openmpi and so on',
  joined String COMMENT 'how it came to its run: new, strong or weak (by what its launch shares), environment (it was told), parent, wrapper, resume',
  decides Bool COMMENT 'whether its end decides how the run ended; children of a process never do',
  role String COMMENT 'sdk (a training), wrapper (`trainledger run`), or capture (it only describes another)',
  parent_writer Nullable(UUID) COMMENT 'the process that made it, where that is known'
) AS
SELECT
  w.run_id AS run_id, w.attempt AS attempt, w.writer_id AS writer_id, w.rank AS rank, w.local_rank AS local_rank,
  w.world_size AS world_size, toString(w.node_id) AS node_id, w.pid AS pid, w.device_ids AS device_ids,
  w.started_at AS started_at,
  if(w.state = 'running', greatest(w.last_event_at, n.seen_at), w.last_event_at) AS last_seen_at,
  if(w.state = 'running' AND greatest(w.last_event_at, n.seen_at) < now64(6, 'UTC') - INTERVAL 90 SECOND,
     'lost', toString(w.state)) AS state,
  w.exit_code AS exit_code, w.signal AS signal, w.gap_points AS gap_points, w.node_rank AS node_rank,
  toString(w.launcher) AS launcher, toString(w.joined) AS joined, w.decides AS decides,
  toString(w.role) AS role, w.parent_writer AS parent_writer
FROM (SELECT * FROM {generation}.writer_states FINAL WHERE NOT gone) AS w
LEFT JOIN (
  SELECT node_id, max(at) AS seen_at FROM {generation}.node_events
  WHERE hour >= toStartOfHour(now('UTC')) - INTERVAL 1 HOUR GROUP BY node_id
) AS n ON n.node_id = w.node_id;
