-- Of what each line held, the part whose use was not measured, so that a missing sample is never counted as not used.
-- Empty for hours that were dealt before this column was there: then all that was not measured as used is unknown.
ALTER TABLE {generation}.node_hours ADD COLUMN IF NOT EXISTS unseen Array(UInt64);
ALTER TABLE {generation}.node_hour_revisions ADD COLUMN IF NOT EXISTS unseen Array(UInt64);
