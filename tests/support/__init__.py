"""What tests of several rooms stand on: a project with sample data, requests, and the context of an Airflow task."""
