"""From a data source to arrays every worker can map: read, check, fingerprint, split, once per content.

`prepared` is the door: `prepare` in the driver, `open_prepared` in the workers (numpy only). `source` says what a
source is; `parquet` and `digits` are the two there are.
"""
