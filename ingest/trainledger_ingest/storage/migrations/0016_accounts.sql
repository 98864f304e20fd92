-- The account of a scheduler or the namespace of a pod that a line is for: `account:NAME` or `namespace:NAME`.
ALTER TABLE {generation}.node_hours ADD COLUMN IF NOT EXISTS
  accounts Array(Nullable(String)) DEFAULT arrayResize(CAST([] AS Array(Nullable(String))), length(kinds), NULL);
ALTER TABLE {generation}.node_hour_revisions ADD COLUMN IF NOT EXISTS
  accounts Array(Nullable(String)) DEFAULT arrayResize(CAST([] AS Array(Nullable(String))), length(kinds), NULL);
ALTER TABLE {generation}.closed_hours ADD COLUMN IF NOT EXISTS
  accounts Array(Nullable(String)) DEFAULT arrayResize(CAST([] AS Array(Nullable(String))), length(kinds), NULL);
ALTER TABLE {generation}.statement_lines ADD COLUMN IF NOT EXISTS account Nullable(String);
ALTER TABLE {generation}.statement_adjustments ADD COLUMN IF NOT EXISTS account Nullable(String);
