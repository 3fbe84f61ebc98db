"""Exit 0 where the Airflow component of this pod has beaten its heart within a minute; 1 where it has not.

alive.py JOB_TYPE [starting]. A database that cannot be reached counts as alive, except while starting: restarting the
pod would not bring it back. Imports no Airflow, so it costs a fraction of a second.
"""

import os
import socket
import sys

import psycopg

BEAT = """
SELECT max(latest_heartbeat) > now() - interval '60 seconds'
FROM job WHERE job_type = %s AND hostname = %s AND state = 'running'
"""


def main(job_type, *starting):
    scheme, _, rest = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].partition("://")
    here = socket.gethostbyname(socket.getfqdn())
    try:
        with psycopg.connect(f"{scheme.partition('+')[0]}://{rest}", connect_timeout=5) as database:
            row = database.execute(BEAT, (job_type, here)).fetchone()
    except psycopg.OperationalError as err:
        return f"the database cannot be asked: {type(err).__name__}" if starting else None
    return None if row and row[0] else f"no heartbeat of {job_type} on {here} within a minute"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
