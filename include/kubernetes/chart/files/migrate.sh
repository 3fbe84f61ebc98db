if [ -f /run/secrets/millrace/admin-password ]; then
  export MILLRACE_ADMIN_PASSWORD_FILE=/run/secrets/millrace/admin-password
fi
python /opt/millrace/platform/prepare.py
# By the cores of the scheduler's pod, not of the node on which this ran.
airflow pools set millrace_compute "$SLOTS" "cores / threads of a job"
