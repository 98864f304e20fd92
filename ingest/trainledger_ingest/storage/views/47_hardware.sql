-- What a driver reports of its devices: rare, and the same fault may come as several errors (a lost GPU has an Xid too).
-- One row: an error of a device, or several of one kind that were learned of together.
CREATE OR REPLACE VIEW {views}.hardware_errors (
  at DateTime64(6, 'UTC') COMMENT 'when the agent learned of it, UTC; at most half a minute after the driver',
  node_id String COMMENT 'the node',
  device_id String COMMENT 'UUID of the device',
  model Nullable(String) COMMENT 'name of the device; NULL if not told',
  error String COMMENT 'xid, ecc_uncorrected, row_remap_pending, row_remap_failed or lost; other words may come',
  code Nullable(Int64) COMMENT 'number of the Xid, as in the driver''s manual; NULL for other errors',
  errors UInt64 COMMENT 'how many of them',
  event_ref String COMMENT 'the event: type, topic/partition/offset',
  part_ids Array(String) COMMENT 'MIG instances that the device was cut into when it was listed last'
) AS
SELECT e.at AS at, e.node_id AS node_id, e.device_id AS device_id, d.model AS model, e.error AS error, e.code AS code,
  e.errors AS errors, e.event_ref AS event_ref, d.part_ids AS part_ids
FROM (
  SELECT at, toString(node_id) AS node_id, JSONExtractString(body, 'device_id') AS device_id,
    JSONExtractString(body, 'error') AS error, JSONExtract(body, 'code', 'Nullable(Int64)') AS code,
    JSONExtractUInt(body, 'count') AS errors,
    concat('hardware_error ', toString(topic), '/', toString(partition), '/', toString(offset)) AS event_ref
  FROM {generation}.node_events WHERE type = 'hardware_error'
) AS e
LEFT ANY JOIN (
  SELECT toString(node_id) AS node_id, device.1 AS device_id, toNullable(argMax(device.2, at)) AS model,
    argMax(arrayMap(part -> part.1, arrayFilter(part -> ifNull(part.3, '') = device.1, devices)), at) AS part_ids
  FROM (
    SELECT node_id, at,
      JSONExtract(body, 'devices', 'Array(Tuple(device_id String, model String, parent_id Nullable(String)))') AS devices
    FROM {generation}.node_events
    -- Only of nodes that had an error: each minute somebody looks whether there is a new one.
    WHERE type = 'devices'
      AND node_id IN (SELECT node_id FROM {generation}.node_events WHERE type = 'hardware_error')
  )
  ARRAY JOIN devices AS device
  GROUP BY node_id, device_id
) AS d ON d.node_id = e.node_id AND d.device_id = e.device_id;

-- Everything that an agent measured. Filter by minute, node_id, device_id or name: only their parts of the table are read.
-- One row: a node, a device (or the host), a measurement and a minute.
CREATE OR REPLACE VIEW {views}.hardware_minutes (
  node_id String COMMENT 'the node',
  device_id String COMMENT 'UUID of the device or of its MIG instance; host for the node itself',
  name String COMMENT 'what was measured, its unit last (docs/cost.md, Measurements)',
  minute DateTime('UTC') COMMENT 'start of the minute, UTC',
  mean Float64 COMMENT 'mean of the samples, in the unit that the name ends with',
  minimum Float64 COMMENT 'smallest sample',
  maximum Float64 COMMENT 'largest sample',
  last Float64 COMMENT 'last sample; of counts of errors: how many in all',
  samples UInt64 COMMENT 'how many samples',
  quality String COMMENT 'measured, or estimated from other measurements'
) AS
SELECT toString(node_id) AS node_id, toString(device) AS device_id, toString(name) AS name,
  toStartOfMinute(start_at) AS minute, sum(s.mean * s.samples) / sum(s.samples) AS mean, min(s.minimum) AS minimum,
  max(s.maximum) AS maximum, argMax(s.last, s.start_at) AS last, sum(s.samples) AS samples,
  if(countIf(s.quality != 'measured') = 0, 'measured', 'estimated') AS quality
FROM {generation}.hardware_stats AS s GROUP BY node_id, device_id, name, minute;
