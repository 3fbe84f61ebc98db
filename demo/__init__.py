"""The demo: the whole loop on the 2013 flights, through a real Airflow."""
