"""Store sessions between runs: in memory, in Prefect, or in AWS Secrets Manager."""
