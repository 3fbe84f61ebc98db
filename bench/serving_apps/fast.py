"""FastAPI as its tutorial has it. `uvicorn fast:app`."""

import os

import numpy as np
import xgboost as xgb
from fastapi import FastAPI
from pydantic import BaseModel

booster = xgb.Booster({"nthread": 1}, model_file=os.environ["MODEL"])
app = FastAPI()


class Request(BaseModel):
    """Rows of numbers."""

    rows: list[list[float]]


class Answer(BaseModel):
    """A number for each row."""

    predictions: list[float]


@app.post("/predict")
async def predict(request: Request) -> Answer:
    """Predict."""
    return Answer(predictions=booster.inplace_predict(np.array(request.rows, dtype=np.float32)).tolist())
