"""What answers over HTTP, and what it has answered; it imports nothing that trains, no Airflow and no Feast."""
