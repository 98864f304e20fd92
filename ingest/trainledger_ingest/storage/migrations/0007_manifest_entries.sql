-- What stands in the folders of datasets and artifacts: the way from a file's digest up to the manifests that it is
-- in. A folder is named by the SHA-256 of its node and has its rows once, however many versions share it. The rows
-- are facts of content, so none is ever wrong or out of date; a row that a crash made come twice is merged away.
CREATE TABLE {generation}.manifest_entries (
  child FixedString(32),
  is_folder Bool,
  folder FixedString(32),
  name String CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree PRIMARY KEY child ORDER BY (child, folder, name)
SETTINGS index_granularity = 1024, {table_settings};

-- The folders whose entries, and those of every folder below, are in manifest_entries.
CREATE TABLE {generation}.manifest_folders (
  folder FixedString(32)
) ENGINE = ReplacingMergeTree ORDER BY folder SETTINGS index_granularity = 1024, {table_settings};
