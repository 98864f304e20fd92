"""The configuration files that the embedded engine is opened with.

The engine would otherwise load any `config.xml` of the working directory, and its own defaults give up rows
that were acknowledged (`old_parts_lifetime` is 0, merges are not fsynced). So both files are always ours:
`config.xml` (memory, durability of parts, backups inside the folder only) and `users.xml` (one user,
`default`, which the engine always logs in as; grants on the product's databases and nothing that reads files
or networks).
"""

import os
from pathlib import Path
from xml.sax.saxutils import escape

__all__ = ["write_engine_config"]

_CONFIG = """<clickhouse>
  <users_config>{users}</users_config>
  <timezone>UTC</timezone>
  <max_server_memory_usage>{memory_bytes_max}</max_server_memory_usage>
  <mark_cache_size>67108864</mark_cache_size>
  <backups><allowed_path>{backups}</allowed_path></backups>
  <merge_tree>
    <fsync_after_insert>1</fsync_after_insert>
    <fsync_part_directory>1</fsync_part_directory>
    <min_rows_to_fsync_after_merge>1</min_rows_to_fsync_after_merge>
    <min_compressed_bytes_to_fsync_after_merge>1</min_compressed_bytes_to_fsync_after_merge>
    <old_parts_lifetime>480</old_parts_lifetime>
    <non_replicated_deduplication_window>0</non_replicated_deduplication_window>
    <lightweight_mutation_projection_mode>rebuild</lightweight_mutation_projection_mode>
  </merge_tree>
</clickhouse>
"""

_USERS = """<clickhouse>
  <profiles><default>
    <async_insert>0</async_insert>
    <max_insert_threads>1</max_insert_threads>
    <min_insert_block_size_rows>10000000</min_insert_block_size_rows>
    <min_insert_block_size_bytes>4000000000</min_insert_block_size_bytes>
    <allow_python_table_function>0</allow_python_table_function>
    <allow_introspection_functions>0</allow_introspection_functions>
    <session_timezone>UTC</session_timezone>
    <output_format_arrow_string_as_string>1</output_format_arrow_string_as_string>
    <output_format_arrow_compression_method>none</output_format_arrow_compression_method>
  </default></profiles>
  <users><default>
    <password></password>
    <networks><ip>::/0</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
    <grants>
      <query>GRANT SELECT, INSERT, ALTER, DROP, TRUNCATE, OPTIMIZE, SHOW ON {prefix}*.*</query>
      <query>GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW ON {prefix}*.*</query>
      <query>GRANT BACKUP ON {prefix}*.*</query>
      <query>GRANT TABLE ENGINE ON MergeTree</query>
      <query>GRANT TABLE ENGINE ON ReplacingMergeTree</query>
      <query>GRANT TABLE ENGINE ON AggregatingMergeTree</query>
      <query>GRANT TABLE ENGINE ON SummingMergeTree</query>
      <query>GRANT SELECT ON system.*</query>
      <query>GRANT KILL QUERY ON *.*</query>
      <query>GRANT SYSTEM MERGES ON {prefix}*.*</query>
    </grants>
  </default></users>
  <quotas><default></default></quotas>
</clickhouse>
"""


def write_engine_config(folder: Path, *, database: str, memory_bytes_max: int, backups: Path) -> Path:
    """Write both files into `folder` (made if missing, 0700) and return the path of `config.xml`.

    The grants cover every database whose name begins with `database`, so that a rebuild into
    `<database>_g2` is possible. A repeat is harmless."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    users = folder / "users.xml"
    config = folder / "config.xml"
    _replace(users, _USERS.format(prefix=database))
    text = _CONFIG.format(
        users=escape(str(users)), memory_bytes_max=memory_bytes_max, backups=escape(f"{backups}{os.sep}")
    )
    _replace(config, text)
    return config


def _replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
