-- Whose sample it is: ranks of one run are not equally far. Samples from before are of no writer, and are looked at no more.
ALTER TABLE {generation}.progress_samples ADD COLUMN IF NOT EXISTS writer_id UUID CODEC(ZSTD(1)) AFTER run_id;
