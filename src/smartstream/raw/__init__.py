"""Raw: the durable changelog, Parquet files and the manifest that makes them exist."""
