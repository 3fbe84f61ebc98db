"""Millrace: an Airflow distribution that takes a model from raw data to production and keeps it good there."""

__version__ = "0.1.0"
