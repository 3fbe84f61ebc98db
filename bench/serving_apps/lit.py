"""LitServe with batching, one worker. `python lit.py PORT`, in an environment of its own."""

from __future__ import annotations

import os
import sys
from typing import Any

import litserve
import numpy as np
import xgboost as xgb


class Api(litserve.LitAPI):  # type: ignore[misc]
    """Rows in, numbers out."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.booster = xgb.Booster({"nthread": 1}, model_file=os.environ["MODEL"])

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # what is said of it is read
        """One request's rows."""
        return np.array(request["rows"], dtype=np.float32)

    def batch(self, inputs: list[Any]) -> Any:
        """Rows of several requests, and how many each has."""
        return np.concatenate(inputs), [len(rows) for rows in inputs]

    def predict(self, given: Any) -> Any:
        """Predict them together."""
        rows, counts = given
        return np.split(self.booster.inplace_predict(rows), np.cumsum(counts)[:-1])

    def unbatch(self, output: Any) -> Any:
        """To each its own."""
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        """One request's answer."""
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(max_batch_size=64, batch_timeout=0.001), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
