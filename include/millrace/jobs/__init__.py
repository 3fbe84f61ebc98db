"""Jobs: units of payload, one flat module each. A job knows no Airflow: a request comes in, an outcome goes out.

A job module has a `Params` model and `run(work, params) -> Outcome`; what else is true of a job stands in
`spec.jobs.TABLE`.
"""
