"""What the tasks do: one module per DAG, plain functions that make requests, run jobs and record results."""
