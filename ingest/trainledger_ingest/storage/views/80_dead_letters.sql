-- One row: a record that could not be understood.
CREATE OR REPLACE VIEW {views}.dead_letters (
  topic String COMMENT 'topic of the record',
  partition UInt16 COMMENT 'its partition',
  offset UInt64 COMMENT 'its offset',
  at DateTime64(6, 'UTC') COMMENT 'when it was given up, UTC',
  reason String COMMENT 'short reason',
  message String COMMENT 'what is wrong with it'
) AS
SELECT toString(topic) AS topic, partition, offset, at, toString(reason) AS reason, message FROM {generation}.dead_letters;
