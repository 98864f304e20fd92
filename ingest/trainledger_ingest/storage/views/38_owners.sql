-- One row: who, or which account or namespace, belongs to which teams from an hour on.
CREATE OR REPLACE VIEW {views}.owners (
  subject String COMMENT 'user, account (of a scheduler) or namespace (of pods)',
  name String COMMENT 'its name, as the lines of the bill have it',
  teams Array(String) COMMENT 'teams it may use; the first pays unless the run declares another of them; none ends it',
  from_hour DateTime('UTC') COMMENT 'whole hour from which it counts, UTC',
  set_at DateTime64(6, 'UTC') COMMENT 'when it was set, UTC',
  set_by String COMMENT 'who set it',
  note Nullable(String) COMMENT 'why',
  event_ref String COMMENT 'the event: type, topic/partition/offset'
) AS
SELECT JSONExtractString(body, 'subject') AS subject, JSONExtractString(body, 'name') AS name,
  JSONExtract(body, 'teams', 'Array(String)') AS teams,
  toDateTime(intDiv(JSONExtractInt(body, 'from_hour_us'), 1000000), 'UTC') AS from_hour, at AS set_at,
  JSONExtractString(body, 'set_by') AS set_by, JSONExtract(body, 'note', 'Nullable(String)') AS note,
  concat('owner_set ', toString(topic), '/', toString(partition), '/', toString(offset)) AS event_ref
FROM {generation}.admin_events WHERE type = 'owner_set';

-- What counts for a name at a time is the last term that begins before it: the latest beginning, then the one set last.
CREATE OR REPLACE VIEW {generation}.owner_terms AS
-- A user has its plain name, others `account:NAME` and `namespace:NAME`, as in the lines of the bill.
SELECT toNullable(if((JSONExtractString(body, 'subject') AS subject) = 'user', '', concat(subject, ':'))
    || JSONExtractString(body, 'name')) AS name,
  arraySort(groupArray((toDateTime(intDiv(JSONExtractInt(body, 'from_hour_us'), 1000000), 'UTC'), offset, idx,
    JSONExtract(body, 'teams', 'Array(String)')))) AS terms,
  argMax(concat('owner_set ', toString(topic), '/', toString(partition), '/', toString(offset)), (offset, idx)) AS newest_ref,
  argMax(at, (offset, idx)) AS newest_at, argMax(JSONExtractString(body, 'set_by'), (offset, idx)) AS newest_by
FROM {generation}.admin_events
WHERE type = 'owner_set'
GROUP BY name;
