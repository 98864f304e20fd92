-- Internal. What the agents said of their nodes: a row an event.
CREATE OR REPLACE VIEW {generation}.node_presence AS
SELECT toString(node_id) AS node_id, hour, at, body,
  JSONExtract(body, 'instance', 'Tuple(provider String, instance_id String, instance_type String, life_cycle String, region String, zone String, zone_id String, notice Nullable(String))') AS instance
FROM {generation}.node_events WHERE type = 'node_present';

-- One row: a node that an agent watched, as it was seen last.
CREATE OR REPLACE VIEW {views}.nodes (
  node_id String COMMENT 'the node',
  host String COMMENT 'host name',
  first_seen_at DateTime64(6, 'UTC') COMMENT 'first node event, UTC',
  last_seen_at DateTime64(6, 'UTC') COMMENT 'newest node event, UTC',
  has_left Bool COMMENT 'whether the agent said goodbye with it',
  cores UInt32 COMMENT 'logical CPUs',
  memory_bytes UInt64 COMMENT 'memory, bytes',
  agent_version String COMMENT 'version of the agent',
  provider Nullable(String) COMMENT 'who rents it out: aws; NULL: nobody, or not known',
  instance_id Nullable(String) COMMENT 'id of the rented machine',
  instance_type Nullable(String) COMMENT 'what is rented, as p5.48xlarge',
  life_cycle Nullable(String) COMMENT 'on-demand, spot, capacity-block or scheduled',
  region Nullable(String) COMMENT 'region of the provider',
  zone Nullable(String) COMMENT 'availability zone, by the letter that the account has for it',
  zone_id Nullable(String) COMMENT 'availability zone, by its id, the same in all accounts',
  notice Nullable(String) COMMENT 'what the provider will do with it and when; NULL: nothing was said'
) AS
SELECT s.node_id AS node_id, JSONExtractString(p.body, 'host') AS host, s.first_seen_at AS first_seen_at,
  s.last_seen_at AS last_seen_at, JSONExtractBool(p.body, 'leaving') AS has_left,
  toUInt32(JSONExtractUInt(p.body, 'cores')) AS cores, JSONExtractUInt(p.body, 'memory_bytes') AS memory_bytes,
  JSONExtractString(p.body, 'agent_version') AS agent_version,
  nullIf(p.instance.provider, '') AS provider, nullIf(p.instance.instance_id, '') AS instance_id,
  nullIf(p.instance.instance_type, '') AS instance_type, nullIf(p.instance.life_cycle, '') AS life_cycle,
  nullIf(p.instance.region, '') AS region, nullIf(p.instance.zone, '') AS zone,
  nullIf(p.instance.zone_id, '') AS zone_id, nullIf(p.instance.notice, '') AS notice
FROM (
  SELECT toString(node_id) AS node_id, min(at) AS first_seen_at, max(at) AS last_seen_at
  FROM {generation}.node_events WHERE type = 'node_present' GROUP BY node_id
) AS s
ANY INNER JOIN (
  -- The bodies of the newest events alone are read.
  SELECT * FROM {generation}.node_presence WHERE (node_id, at) IN
    (SELECT toString(node_id), max(at) FROM {generation}.node_events WHERE type = 'node_present' GROUP BY node_id)
) AS p ON p.node_id = s.node_id;

-- One row: a UTC day of a node on a machine that it rented.
CREATE OR REPLACE VIEW {views}.node_instances (
  day Date COMMENT 'UTC day',
  node_id String COMMENT 'the node',
  provider String COMMENT 'aws',
  instance_id String COMMENT 'id of the rented machine',
  instance_type String COMMENT 'what is rented, as p5.48xlarge',
  life_cycle String COMMENT 'on-demand, spot, capacity-block or scheduled',
  region String COMMENT 'region of the provider',
  zone String COMMENT 'availability zone, by the letter that the account has for it',
  zone_id String COMMENT 'availability zone, by its id, the same in all accounts',
  first_seen_at DateTime64(6, 'UTC') COMMENT 'first node event of the day on it, UTC',
  last_seen_at DateTime64(6, 'UTC') COMMENT 'last node event of the day on it, UTC',
  booted_at DateTime64(6, 'UTC') COMMENT 'first boot of those events, UTC: since then it is charged'
) AS
SELECT toDate(hour, 'UTC') AS day, node_id, instance.provider AS provider, instance.instance_id AS instance_id,
  instance.instance_type AS instance_type, instance.life_cycle AS life_cycle, instance.region AS region,
  instance.zone AS zone, instance.zone_id AS zone_id, min(at) AS first_seen_at, max(at) AS last_seen_at,
  -- The clocks since boot and of the wall are of one moment.
  fromUnixTimestamp64Micro(min(JSONExtractInt(body, 'wall_us') - JSONExtractInt(body, 'boot_us')), 'UTC') AS booted_at
FROM {generation}.node_presence WHERE instance.instance_id != ''
GROUP BY day, node_id, provider, instance_id, instance_type, life_cycle, region, zone, zone_id;
