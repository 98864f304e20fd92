-- One row: a decision that processes of one run are of another (`admin run split`, `admin run merge`).
CREATE OR REPLACE VIEW {views}.writer_moves (
  change_id UUID COMMENT 'the decision',
  from_run_id UUID COMMENT 'the run that the processes were of',
  to_run_id UUID COMMENT 'the run that they are of since',
  writer_ids Array(UUID) COMMENT 'the processes, each with its children; empty: all of the run, also those heard of later',
  at DateTime64(6, 'UTC') COMMENT 'when it was decided, UTC',
  set_by String COMMENT 'who decided it',
  note Nullable(String) COMMENT 'why',
  undone_at Nullable(DateTime64(6, 'UTC')) COMMENT 'when it was taken back, UTC; NULL while it holds',
  undone_by Nullable(String) COMMENT 'who took it back'
) AS
SELECT d.change_id AS change_id, d.from_run_id AS from_run_id, d.to_run_id AS to_run_id, d.writer_ids AS writer_ids, d.at AS at,
  d.set_by AS set_by, d.note AS note, u.undone_at AS undone_at, u.undone_by AS undone_by
FROM (
  SELECT toUUIDOrZero(JSONExtractString(body, 'change_id')) AS change_id,
    toUUIDOrZero(JSONExtractString(body, 'from_run_id')) AS from_run_id,
    toUUIDOrZero(JSONExtractString(body, 'to_run_id')) AS to_run_id,
    JSONExtract(body, 'writer_ids', 'Array(UUID)') AS writer_ids, at, JSONExtractString(body, 'set_by') AS set_by,
    JSONExtract(body, 'note', 'Nullable(String)') AS note
  FROM {generation}.admin_events WHERE type = 'writers_moved' AND JSONExtractString(body, 'undoes') = ''
) AS d
LEFT ANY JOIN (
  SELECT toUUIDOrZero(JSONExtractString(body, 'undoes')) AS change_id, toNullable(at) AS undone_at,
    toNullable(JSONExtractString(body, 'set_by')) AS undone_by
  FROM {generation}.admin_events WHERE type = 'writers_moved' AND JSONExtractString(body, 'undoes') != ''
) AS u ON u.change_id = d.change_id;
