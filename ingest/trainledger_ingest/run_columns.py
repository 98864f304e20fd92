"""Columns of the derived tables of runs, as Arrow has them."""

import pyarrow as pa

__all__ = ["KEYS", "SCHEMAS"]

_ID = pa.binary(16)
_AT = pa.timestamp("us", tz="UTC")
_SETTING_CHANGES = pa.schema(
    [
        ("run_id", _ID),
        ("key", pa.string()),
        ("set_at", _AT),
        ("ordinal", pa.uint32()),
        ("version", pa.uint64()),
        ("value", pa.string()),
        ("value_number", pa.float64()),
        ("attempt", pa.uint16()),
        ("is_current", pa.bool_()),
        ("gone", pa.bool_()),
    ]
)
# What tells the rows of one run apart.
KEYS: dict[str, tuple[str, ...]] = {
    "writer_states": ("writer_id",),
    "param_changes": ("key", "set_at", "ordinal"),
    "summary_changes": ("key", "set_at", "ordinal"),
    "metric_goals": ("key",),
    "run_states": (),
}
SCHEMAS = {
    "writer_homes": pa.schema(
        [("writer_id", _ID), ("told_run_id", _ID), ("run_id", _ID), ("version", pa.uint64())]
    ),
    "run_states": pa.schema(
        [
            ("run_id", _ID),
            ("version", pa.uint64()),
            ("project", pa.string()),
            ("experiment", pa.string()),
            ("name", pa.string()),
            ("team", pa.string()),
            ("user", pa.string()),
            ("run_group", pa.string()),
            ("tags", pa.list_(pa.string())),
            ("parent_run", _ID),
            ("state", pa.string()),
            ("state_reason", pa.string()),
            ("attempts", pa.uint16()),
            ("ranks", pa.uint32()),
            ("nodes", pa.uint32()),
            ("started_at", _AT),
            ("ended_at", _AT),
            ("last_event_at", _AT),
            ("grade", pa.string()),
            ("grade_if_repeated", pa.string()),
            ("told_end", pa.uint64()),
            ("gone", pa.bool_()),
        ]
    ),
    "writer_states": pa.schema(
        [
            ("run_id", _ID),
            ("writer_id", _ID),
            ("version", pa.uint64()),
            ("attempt", pa.uint16()),
            ("rank", pa.uint32()),
            ("local_rank", pa.uint32()),
            ("world_size", pa.uint32()),
            ("role", pa.string()),
            ("parent_writer", _ID),
            ("node_id", pa.string()),
            ("pid", pa.uint32()),
            ("owner", pa.string()),
            ("device_ids", pa.list_(pa.string())),
            ("started_at", _AT),
            ("last_event_at", _AT),
            ("state", pa.string()),
            ("exit_code", pa.int32()),
            ("signal", pa.int32()),
            ("gap_points", pa.uint64()),
            ("node_rank", pa.uint32()),
            ("launcher", pa.string()),
            ("joined", pa.string()),
            ("decides", pa.bool_()),
            ("gone", pa.bool_()),
        ]
    ),
    "param_changes": _SETTING_CHANGES,
    "summary_changes": _SETTING_CHANGES,
    "metric_goals": pa.schema(
        [
            ("run_id", _ID),
            ("key", pa.string()),
            ("version", pa.uint64()),
            ("goal", pa.string()),
            ("gone", pa.bool_()),
        ]
    ),
    "provenance_facts": pa.schema(
        [
            ("run_id", _ID),
            ("attempt", pa.uint16()),
            ("version", pa.uint64()),
            ("vcs", pa.string()),
            ("repository", pa.string()),
            ("commit", pa.string()),
            ("branch", pa.string()),
            ("dirty", pa.bool_()),
            ("entry_point", pa.string()),
            ("argv", pa.list_(pa.string())),
            ("python", pa.string()),
            ("packages", pa.map_(pa.string(), pa.string())),
            ("os", pa.string()),
            ("reasons", pa.list_(pa.string())),
            ("snapshot_id", pa.string()),
            ("snapshot_sha256", pa.string()),
            ("patch_sha256", pa.string()),
            ("patch_bytes", pa.uint64()),
            ("left_out", pa.uint64()),
            ("left_out_files", pa.list_(pa.string())),
            ("code_root", pa.string()),
            ("cwd", pa.string()),
            ("launcher", pa.list_(pa.string())),
            ("variables", pa.map_(pa.string(), pa.string())),
            ("program", pa.string()),
            ("package_ids", pa.map_(pa.string(), pa.string())),
            ("package_sources", pa.map_(pa.string(), pa.string())),
            ("lock_sha256", pa.string()),
            ("lock_files", pa.map_(pa.string(), pa.string())),
            ("image_digest", pa.string()),
            ("image_source", pa.string()),
            ("driver", pa.string()),
            ("cuda", pa.string()),
            ("cudnn", pa.string()),
            ("nccl", pa.string()),
            ("system", pa.map_(pa.string(), pa.string())),
            ("libraries", pa.map_(pa.string(), pa.string())),
            ("randomness", pa.map_(pa.string(), pa.string())),
        ]
    ),
}
