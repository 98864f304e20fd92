-- Among the events of nodes, nearly all say who used how much. A query for another kind reads only where there is one.
ALTER TABLE {generation}.node_events ADD INDEX IF NOT EXISTS kinds type TYPE set(16) GRANULARITY 1;
ALTER TABLE {generation}.node_events MATERIALIZE INDEX kinds;
-- Minutes of GPUs and hosts are asked for by time, and the time stands last in these orders.
ALTER TABLE {generation}.hardware_stats ADD INDEX IF NOT EXISTS times start_at TYPE minmax GRANULARITY 1;
ALTER TABLE {generation}.hardware_stats MATERIALIZE INDEX times;
ALTER TABLE {generation}.run_gpu_windows ADD INDEX IF NOT EXISTS times start_at TYPE minmax GRANULARITY 1;
ALTER TABLE {generation}.run_gpu_windows MATERIALIZE INDEX times;
