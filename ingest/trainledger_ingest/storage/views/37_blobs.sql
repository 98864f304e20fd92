-- One row: a run, a blob that it names and a store of all machines where that lies.
CREATE OR REPLACE VIEW {views}.blob_places (
  run_id UUID COMMENT 'the run',
  sha256 String COMMENT 'the file, the top node of a manifest, or the document of stored code',
  place String COMMENT 'address of the store: s3://bucket/prefix',
  blobs UInt64 COMMENT 'blobs that are there by it: it and all that it names',
  new_bytes UInt64 COMMENT 'bytes that were sent when it was stored first; the others were there',
  missing UInt64 COMMENT 'blobs that were neither on the node nor in the store when it was told last',
  stored_at DateTime64(6, 'UTC') COMMENT 'when it was stored first, UTC',
  reasons Array(String) COMMENT 'why some are missing'
) AS
SELECT run_id, sha256, place, argMax(kept, offset) AS blobs, argMin(sent, offset) AS new_bytes,
  argMax(gone, offset) AS missing, min(at) AS stored_at, argMax(why, offset) AS reasons
FROM (
  SELECT run_id, at, offset, JSONExtractString(body, 'sha256') AS sha256, JSONExtractString(body, 'place') AS place,
    JSONExtractUInt(body, 'blobs') AS kept, JSONExtractUInt(body, 'new_bytes') AS sent,
    JSONExtractUInt(body, 'missing') AS gone, JSONExtract(body, 'reasons', 'Array(String)') AS why
  FROM {homed}run_events WHERE type = 'blobs_stored'
) GROUP BY run_id, sha256, place;

-- One row: a run and a blob that an event of it names.
CREATE OR REPLACE VIEW {views}.blob_references (
  run_id UUID COMMENT 'the run',
  sha256 String COMMENT 'the blob',
  kind String COMMENT 'file, tree (a manifest), tree with files, or snapshot (the document of stored code)',
  what String COMMENT 'the type of the event that names it',
  name String COMMENT 'what people call it; empty for code',
  at DateTime64(6, 'UTC') COMMENT 'when the event says it was, UTC'
) AS
SELECT DISTINCT run_id, named.1 AS sha256, named.2 AS kind, toString(type) AS what,
  JSONExtractString(body, 'name') AS name, at
FROM {homed}run_events
ARRAY JOIN multiIf(
  type = 'provenance', arrayConcat(
    [(JSONExtractString(body, 'snapshot_sha256'), 'snapshot'), (JSONExtractString(body, 'patch_sha256'), 'file')],
    arrayMap(file -> (file.2, 'file'), JSONExtractKeysAndValues(body, 'lock_files', 'String'))),
  type = 'dataset_used', [(JSONExtractString(body, 'manifest_sha256'), 'tree')],
  JSONExtractString(body, 'manifest_sha256') != '', [(JSONExtractString(body, 'manifest_sha256'), 'tree with files')],
  [(if(JSONExtractBool(body, 'is_stored'), replaceOne(JSONExtractString(body, 'digest'), 'sha256:', ''), ''), 'file')]
) AS named
WHERE type IN ('provenance', 'dataset_used', 'artifact_logged') AND match(named.1, '^[0-9a-f]{64}$');
