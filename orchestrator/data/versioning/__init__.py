"""Which data it was: fingerprints of content, and the pointers of DVC, lakeFS, Delta Lake and Iceberg."""
