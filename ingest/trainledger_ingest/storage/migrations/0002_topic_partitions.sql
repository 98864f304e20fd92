-- How many partitions each topic has. The number is fixed for the life of a topic's name: were it changed, the
-- events of one run would stand in two partitions, and what is known of a journal in neither of them.
CREATE TABLE {generation}.topic_partitions (
  topic LowCardinality(String),
  partitions UInt16,
  at DateTime64(6, 'UTC')
) ENGINE = MergeTree ORDER BY topic SETTINGS {table_settings};
