"""Observations from CSV, JSON Lines and Parquet files, plain or gzipped, whole or growing."""

from optimizer.integrations.files.source import FileSource, forget

__all__ = ["FileSource", "forget"]
