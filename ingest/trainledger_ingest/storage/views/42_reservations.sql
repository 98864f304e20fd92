-- One row: a job and a node that it had, by the records of a scheduler.
CREATE OR REPLACE VIEW {views}.reservations (
  reservation_id String COMMENT 'names job and node; the same in every reading',
  node_id String COMMENT 'the node',
  source String COMMENT 'sacct or opencost',
  cluster String COMMENT 'cluster of the scheduler',
  job String COMMENT 'the job or pod as its scheduler shows it',
  owner Nullable(String) COMMENT 'user of the job; NULL for a pod',
  account Nullable(String) COMMENT 'account of the job, or namespace of the pod',
  start_at DateTime64(6, 'UTC') COMMENT 'when it got the node, UTC',
  end_at DateTime64(6, 'UTC') COMMENT 'up to when it is known to have had it, UTC',
  is_over Bool COMMENT 'whether it ended',
  state String COMMENT 'as the scheduler names it',
  restarts UInt32 COMMENT 'how often it was started again before',
  partition Nullable(String) COMMENT 'partition or pool',
  qos Nullable(String) COMMENT 'quality of service',
  cpu_milli UInt64 COMMENT 'thousandths of a core of this node',
  device_milli UInt64 COMMENT 'thousandths of a device of this node',
  memory_bytes Nullable(UInt64) COMMENT 'bytes of memory of this node',
  node_cores Nullable(UInt32) COMMENT 'cores of the node as the scheduler counts them; NULL where nobody said',
  node_devices Nullable(UInt32) COMMENT 'devices of the node; NULL where nobody said',
  read_at DateTime64(6, 'UTC') COMMENT 'when the records were read, UTC',
  set_by String COMMENT 'who read them'
) AS
SELECT JSONExtractString(body, 'reservation_id') AS reservation_id, toString(node_id) AS node_id,
  JSONExtractString(body, 'source') AS source, JSONExtractString(body, 'cluster') AS cluster,
  JSONExtractString(body, 'job') AS job, JSONExtract(body, 'owner', 'Nullable(String)') AS owner,
  JSONExtract(body, 'account', 'Nullable(String)') AS account,
  fromUnixTimestamp64Micro(JSONExtractInt(body, 'start_us'), 'UTC') AS start_at,
  fromUnixTimestamp64Micro(JSONExtractInt(body, 'end_us'), 'UTC') AS end_at,
  JSONExtractBool(body, 'is_over') AS is_over, JSONExtractString(body, 'state') AS state,
  toUInt32(JSONExtractUInt(body, 'restarts')) AS restarts,
  JSONExtract(body, 'partition', 'Nullable(String)') AS partition, JSONExtract(body, 'qos', 'Nullable(String)') AS qos,
  JSONExtractUInt(body, 'cpu_milli') AS cpu_milli, JSONExtractUInt(body, 'device_milli') AS device_milli,
  JSONExtract(body, 'memory_bytes', 'Nullable(UInt64)') AS memory_bytes,
  JSONExtract(body, 'node_cores', 'Nullable(UInt32)') AS node_cores,
  JSONExtract(body, 'node_devices', 'Nullable(UInt32)') AS node_devices,
  fromUnixTimestamp64Micro(JSONExtractInt(body, 'read_us'), 'UTC') AS read_at, JSONExtractString(body, 'set_by') AS set_by
FROM (
  -- The word that counts, as in cost/reservations.py.
  SELECT node_id, body FROM {generation}.node_events WHERE type = 'reservation'
  ORDER BY JSONExtractBool(body, 'is_over') DESC, if(JSONExtractBool(body, 'is_over'), 0, JSONExtractInt(body, 'end_us')) DESC,
    JSONExtractInt(body, 'read_us') DESC, toString(producer_id) DESC, seq DESC
  LIMIT 1 BY JSONExtractString(body, 'reservation_id')
);

-- One row: a node on which an agent ran.
CREATE OR REPLACE VIEW {views}.watched_nodes (
  node_id String COMMENT 'the node',
  host String COMMENT 'its host name, as it was last told',
  cores UInt32 COMMENT 'logical CPUs, as they were last told',
  devices UInt32 COMMENT 'accelerators, as they were last told; instances of one are not counted',
  last_seen_at DateTime64(6, 'UTC') COMMENT 'its newest event, UTC'
) AS
SELECT toString(n.node_id) AS node_id, host, cores, ifNull(d.devices, 0) AS devices, last_seen_at
FROM (
  SELECT node_id, JSONExtractString(argMax(body, at), 'host') AS host,
    toUInt32(JSONExtractUInt(argMax(body, at), 'cores')) AS cores, max(at) AS last_seen_at
  FROM {generation}.node_events WHERE type = 'node_present' GROUP BY node_id
) AS n
LEFT ANY JOIN (
  SELECT node_id, toUInt32(arrayCount(d -> JSONExtract(d, 'parent_id', 'Nullable(String)') IS NULL,
    JSONExtractArrayRaw(argMax(body, at), 'devices'))) AS devices
  FROM {generation}.node_events WHERE type = 'devices' GROUP BY node_id
) AS d ON d.node_id = n.node_id;
