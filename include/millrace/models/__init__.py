"""What predicts. XGBoost and torch are imported when a model of that kind is opened."""

import os

# Threads that spin while they wait make two threads on busy cores fifteen times slower; read when libgomp loads, which
# XGBoost and torch each bring.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
