-- One row: a budget that was set.
CREATE OR REPLACE VIEW {views}.budgets (
  scope String COMMENT 'team, project or experiment',
  name String COMMENT 'its name',
  a_month Nullable(Decimal(38, 9)) COMMENT 'money that it may cost in a month; NULL takes the budget away',
  currency String COMMENT 'ISO 4217',
  hard Bool COMMENT 'whether more must not be spent; it is told, nothing is stopped',
  from_month String COMMENT 'first month, YYYY-MM, UTC',
  set_at DateTime64(6, 'UTC') COMMENT 'when it was set, UTC',
  set_by String COMMENT 'who set it',
  note Nullable(String) COMMENT 'why',
  event_ref String COMMENT 'the event: type, topic/partition/offset'
) AS
SELECT JSONExtractString(body, 'scope') AS scope, JSONExtractString(body, 'name') AS name,
  CAST(toDecimal128OrNull(JSONExtract(body, 'nano_a_month', 'Nullable(String)'), 9) / 1000000000
    AS Nullable(Decimal(38, 9))) AS a_month,
  JSONExtractString(body, 'currency') AS currency, JSONExtractBool(body, 'hard') AS hard,
  JSONExtractString(body, 'from_month') AS from_month, at AS set_at, JSONExtractString(body, 'set_by') AS set_by,
  JSONExtract(body, 'note', 'Nullable(String)') AS note,
  concat('budget_set ', toString(topic), '/', toString(partition), '/', toString(offset)) AS event_ref
FROM {generation}.admin_events WHERE type = 'budget_set';

-- One row: an alert that was delivered.
CREATE OR REPLACE VIEW {views}.alerts (
  alert String COMMENT 'what it is about: a budget, month and share; or what was found where, and since when',
  channel String COMMENT 'webhook or smtp',
  sent_at DateTime64(6, 'UTC') COMMENT 'when it was delivered, UTC'
) AS
SELECT JSONExtractString(body, 'alert') AS alert, JSONExtractString(body, 'channel') AS channel, at AS sent_at
FROM {generation}.admin_events WHERE type = 'alert_sent';
