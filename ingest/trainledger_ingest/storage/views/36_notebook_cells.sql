-- One row: a cell of a notebook, or of another session of IPython, that ran; one that ran twice has two.
CREATE OR REPLACE VIEW {views}.notebook_cells (
  run_id UUID COMMENT 'the run',
  attempt UInt16 COMMENT 'attempt of the run, from 1',
  rank Nullable(UInt32) COMMENT 'rank of the process; NULL for a single process',
  ordinal UInt32 COMMENT 'place in the order in which the cells ran, from 0',
  phase String COMMENT 'before (earlier in the session than init), init (init was called in it) or during',
  execution_count Nullable(UInt32) COMMENT 'the number in brackets before the cell',
  cell_id Nullable(String) COMMENT 'id of the cell in its notebook, where it is known',
  source String COMMENT 'what was run, secrets removed; empty for one that is too long to be stored',
  is_whole Bool COMMENT 'whether source is all of it, with nothing taken out',
  status String COMMENT 'finished, failed, begun (its end was not seen) or unknown (it ran before init)',
  error Nullable(String) COMMENT 'name of the exception that ended it',
  at DateTime64(6, 'UTC') COMMENT 'when it began, or when init was called for those before, UTC',
  duration_s Nullable(Float64) COMMENT 'how long it took, seconds; NULL where its end was not seen'
) AS
SELECT c.run_id AS run_id, w.attempt AS attempt, w.rank AS rank, c.ordinal AS ordinal,
  JSONExtractString(c.begun, 'phase') AS phase,
  JSONExtract(c.begun, 'execution_count', 'Nullable(UInt32)') AS execution_count,
  JSONExtract(c.begun, 'cell_id', 'Nullable(String)') AS cell_id,
  arrayStringConcat(JSONExtract(c.begun, 'source', 'Array(String)')) AS source,
  toBool(JSONExtractBool(c.begun, 'is_whole')) AS is_whole,
  JSONExtractString(c.told, 'status') AS status, JSONExtract(c.told, 'error', 'Nullable(String)') AS error,
  c.at AS at, if(c.stage = 0, NULL, (toUnixTimestamp64Micro(c.last_at) - toUnixTimestamp64Micro(c.at)) / 1e6) AS duration_s
FROM (
  SELECT run_id, writer_id, toUInt32(JSONExtractUInt(body, 'ordinal')) AS ordinal,
    argMin(body, tuple(JSONExtractInt(body, 'stage'), offset)) AS begun,
    argMax(body, tuple(JSONExtractInt(body, 'stage'), offset)) AS told, max(JSONExtractInt(body, 'stage')) AS stage,
    argMin(e.at, JSONExtractInt(body, 'stage')) AS at, argMax(e.at, JSONExtractInt(body, 'stage')) AS last_at
  FROM {homed}run_events AS e WHERE type = 'cell_run' GROUP BY run_id, writer_id, ordinal
) AS c
LEFT ANY JOIN (SELECT writer_id, attempt, rank FROM {generation}.writer_states FINAL WHERE NOT gone) AS w ON w.writer_id = c.writer_id;
