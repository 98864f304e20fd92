-- Not public: the last word on each use and each artifact, and which versions a name has by content.
CREATE OR REPLACE VIEW {generation}.io_facts AS
SELECT run_id, call_id, declared_at AS at, toBool(event = 'artifact_logged') AS is_out, JSONExtractString(told, 'kind') AS kind,
  JSONExtractString(told, 'name') AS name, if(kind = 'dataset', 'dataset', 'artifact') AS family,
  JSONExtract(told, 'version', 'Nullable(String)') AS told_version, JSONExtract(told, 'role', 'Nullable(String)') AS role,
  JSONExtract(told, 'digest', 'Nullable(String)') AS digest, JSONExtract(told, 'uri', 'Nullable(String)') AS uri,
  JSONExtract(told, 'size_bytes', 'Nullable(UInt64)') AS bytes, JSONExtract(told, 'files', 'Nullable(UInt64)') AS files,
  JSONExtract(told, 'manifest_sha256', 'Nullable(String)') AS manifest_sha256,
  JSONExtractString(told, 'status') AS status, JSONExtract(told, 'system', 'Nullable(String)') AS system,
  JSONExtract(told, 'reference', 'Nullable(String)') AS reference,
  JSONExtract(told, 'is_fixed', 'Nullable(Bool)') AS is_fixed, toBool(JSONExtractBool(told, 'is_stored')) AS is_stored,
  JSONExtract(told, 'new_bytes', 'Nullable(UInt64)') AS new_bytes,
  JSONExtract(told, 'aliases', 'Array(String)') AS aliases, JSONExtract(told, 'reasons', 'Array(String)') AS reasons,
  JSONExtract(told, 'rows', 'Nullable(UInt64)') AS rows, JSONExtract(told, 'columns', 'Array(String)') AS columns,
  JSONExtract(told, 'include', 'Array(String)') AS include, JSONExtract(told, 'exclude', 'Array(String)') AS exclude,
  JSONExtract(told, 'done_bytes', 'Nullable(UInt64)') AS done_bytes,
  JSONExtract(told, 'expected_bytes', 'Nullable(UInt64)') AS expected_bytes
FROM (
  SELECT run_id, coalesce(nullIf(JSONExtractString(body, 'use_id'), ''), JSONExtractString(body, 'artifact_id')) AS call_id,
    any(toString(type)) AS event, min(at) AS declared_at, argMax(body, tuple(JSONExtractInt(body, 'stage'), offset)) AS told
  FROM {homed}run_events WHERE type IN ('dataset_used', 'artifact_logged') GROUP BY run_id, call_id
);

-- By the time of the first sight of each content. What was named by a system's own version, without bytes, has none.
CREATE OR REPLACE VIEW {generation}.io_versions AS
SELECT family, name, digest, first_at, first_run,
  concat('v', toString(row_number() OVER (PARTITION BY family, name ORDER BY first_at, digest))) AS version
FROM (
  SELECT family, name, assumeNotNull(digest) AS digest, min(at) AS first_at, argMin(run_id, at) AS first_run
  FROM {generation}.io_facts WHERE digest IS NOT NULL AND status = 'complete' GROUP BY family, name, digest
);

-- One row: an alias and a change of it.
CREATE OR REPLACE VIEW {views}.model_aliases (
  model String COMMENT 'name of the model or other artifact',
  alias String COMMENT 'the name that means one of its versions',
  version Nullable(String) COMMENT 'the version, counted by content: v1, v2 ...; NULL where the alias was taken away',
  digest Nullable(String) COMMENT 'digest of the version; NULL where the alias was taken away',
  run_id Nullable(UUID) COMMENT 'the run that wrote the version',
  set_at DateTime64(6, 'UTC') COMMENT 'since when it means this, UTC',
  set_by Nullable(String) COMMENT 'user who set it',
  is_current Bool COMMENT 'whether it is the newest meaning of the alias, and one'
) AS
SELECT a.model AS model, a.alias AS alias, nullIf(v.version, '') AS version, a.digest AS digest, a.run_id AS run_id,
  a.set_at AS set_at, a.set_by AS set_by,
  toBool(a.digest IS NOT NULL
    AND row_number() OVER (PARTITION BY a.model, a.alias ORDER BY a.set_at DESC, a.digest) = 1) AS is_current
FROM (
  SELECT f.name AS model, arrayJoin(f.aliases) AS alias, f.digest AS digest, toNullable(f.run_id) AS run_id,
    f.at AS set_at, r.user AS set_by
  FROM {generation}.io_facts AS f
  LEFT ANY JOIN (SELECT run_id, user FROM {generation}.run_states FINAL) AS r ON r.run_id = f.run_id
  WHERE f.is_out AND f.status = 'complete' AND f.digest IS NOT NULL
  UNION ALL
  SELECT JSONExtractString(body, 'model') AS model, JSONExtractString(body, 'alias') AS alias,
    JSONExtract(body, 'digest', 'Nullable(String)') AS digest, JSONExtract(body, 'run_id', 'Nullable(UUID)') AS run_id,
    at AS set_at, toNullable(JSONExtractString(body, 'set_by')) AS set_by
  FROM {generation}.admin_events WHERE type = 'alias_set'
) AS a
LEFT ANY JOIN (SELECT name, digest, version FROM {generation}.io_versions WHERE family = 'artifact') AS v
  ON v.name = a.model AND v.digest = a.digest;

-- One row: a run and an input or output.
CREATE OR REPLACE VIEW {views}.run_io (
  run_id UUID COMMENT 'the run',
  direction String COMMENT 'in: the run reads it; out: the run wrote it',
  kind String COMMENT 'dataset, model or file',
  name String COMMENT 'what people call it',
  version Nullable(String) COMMENT 'as it was told, else counted by content: v1, v2 ... in the order of first sight',
  role Nullable(String) COMMENT 'what for, e.g. train or eval',
  digest Nullable(String) COMMENT 'sha256: of the bytes of a file, or of the top node of the manifest of a folder; table-v1: of the values of a table',
  uri Nullable(String) COMMENT 'where it is or was, without secrets',
  bytes Nullable(UInt64) COMMENT 'size of all its files, bytes',
  files Nullable(UInt64) COMMENT 'how many files it has',
  at DateTime64(6, 'UTC') COMMENT 'when the run said so, UTC',
  alias Nullable(String) COMMENT 'the alias by which the run asked for it',
  status String COMMENT 'declared (not measured yet), complete, partial, unstable, unmeasured (no bytes here), failed',
  is_stored Bool COMMENT 'whether its bytes are kept as blobs',
  new_bytes Nullable(UInt64) COMMENT 'bytes that were not kept before',
  manifest_sha256 Nullable(String) COMMENT 'the top node of the manifest of a folder',
  system Nullable(String) COMMENT 'the system that keeps its versions: git, lfs, dvc, delta, iceberg, huggingface, s3 ...',
  reference Nullable(String) COMMENT 'the version in that system',
  is_fixed Nullable(Bool) COMMENT 'whether that version can never mean other bytes',
  reasons Array(String) COMMENT 'what could not be found out or stored, and why',
  rows Nullable(UInt64) COMMENT 'rows of a table in memory',
  columns Array(String) COMMENT 'columns of a table in memory, each as name: type; of very many the first',
  include Array(String) COMMENT 'patterns of the paths that were counted; empty: all',
  exclude Array(String) COMMENT 'patterns of the paths that were left out',
  done_bytes Nullable(UInt64) COMMENT 'bytes that were hashed (of an artifact: and stored) so far, told while it takes long',
  expected_bytes Nullable(UInt64) COMMENT 'bytes of it in all, where that is known yet'
) AS
SELECT u.run_id AS run_id, if(u.is_out, 'out', 'in') AS direction, u.kind AS kind, u.name AS name,
  multiIf(u.by_alias, nullIf(v.version, ''), u.told_version IS NOT NULL, u.told_version, nullIf(v.version, '')) AS version,
  u.role AS role, u.digest AS digest, u.uri AS uri, u.bytes AS bytes, u.files AS files, u.at AS at,
  if(u.by_alias, u.told_version, NULL) AS alias, u.status AS status, u.is_stored AS is_stored,
  u.new_bytes AS new_bytes, u.manifest_sha256 AS manifest_sha256, u.system AS system, u.reference AS reference,
  u.is_fixed AS is_fixed, u.reasons AS reasons, u.rows AS rows, u.columns AS columns, u.include AS include,
  u.exclude AS exclude, u.done_bytes AS done_bytes, u.expected_bytes AS expected_bytes
FROM (
  SELECT f.run_id AS run_id, f.is_out AS is_out, f.kind AS kind, f.name AS name, f.family AS family, f.told_version AS
    told_version, f.role AS role, f.uri AS uri, f.bytes AS bytes, f.files AS files, f.at AS at, f.status AS status,
    f.is_stored AS is_stored, f.new_bytes AS new_bytes, f.manifest_sha256 AS manifest_sha256, f.system AS system,
    f.reference AS reference, f.is_fixed AS is_fixed, f.reasons AS reasons, f.rows AS rows, f.columns AS columns,
    f.include AS include, f.exclude AS exclude, f.done_bytes AS done_bytes, f.expected_bytes AS expected_bytes,
    NOT f.is_out AND f.family = 'artifact' AND f.uri IS NULL AS is_asked,
    -- What an artifact was asked by, seen from when it was asked: a version, the newest then, or what the alias meant.
    multiIf(f.digest IS NOT NULL, f.digest, is_asked AND match(assumeNotNull(f.told_version), '^v[0-9]+$'), nullIf(n.digest, ''),
      is_asked AND f.told_version = 'latest', nullIf(l.digest, ''),
      is_asked, a.digest, NULL) AS digest,
    is_asked AND NOT match(assumeNotNull(f.told_version), '^v[0-9]+$') AS by_alias
  FROM {generation}.io_facts AS f
  LEFT ANY JOIN (SELECT name, version, digest FROM {generation}.io_versions WHERE family = 'artifact') AS n
    ON n.name = f.name AND n.version = f.told_version
  -- The highest version number then: the bytes that were written for the first time last.
  ASOF LEFT JOIN (SELECT name, min(i.at) AS at, digest FROM {generation}.io_facts AS i
    WHERE is_out AND status = 'complete' AND digest IS NOT NULL GROUP BY name, digest) AS l ON l.name = f.name AND l.at <= f.at
  ASOF LEFT JOIN (SELECT model, alias, set_at, digest FROM {views}.model_aliases) AS a
    ON a.model = f.name AND a.alias = f.told_version AND a.set_at <= f.at
) AS u
LEFT ANY JOIN (SELECT family, name, digest, version FROM {generation}.io_versions) AS v
  ON v.family = u.family AND v.name = u.name AND v.digest = u.digest;
