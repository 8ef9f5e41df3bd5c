"""The demo's models: who is likely to leave, and whose salary looks like a mistake.

``tools/train_demo_models.py`` makes what is in ``models/``: the models, and how good they
are on people whom the training did not see. The feature queries beside them are written
by hand.
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

MODELS_FOLDER = Path(__file__).parent / "models"
"""Of each model: its ONNX file and the SQL of its features; and ``metrics.json``."""

PREDICTION = "prediction"
"""The column that both models give: the chance to leave, or how many deviations a salary is off."""

_YEARS = {"minimum": 0, "maximum": 80}
_RATING = {"name": "rating", "nullable": True, "minimum": 0, "maximum": 5}
_GRADE = {"name": "grade", "minimum": 1, "maximum": 7}
_INPUTS: dict[str, list[dict[str, Any]]] = {
    "attrition": [
        {"name": "tenure_years", **_YEARS},
        {"name": "pay_ratio", "minimum": 0, "maximum": 1000},
        _GRADE,
        _RATING,
        {"name": "hours_a_day", "nullable": True, "minimum": 0, "maximum": 24},
        {"name": "years_same_pay", **_YEARS},
        {"name": "on_contract", "minimum": 0, "maximum": 1},
    ],
    "salary_anomaly": [
        {"name": "salary", "minimum": 1, "maximum": 9_999_999},
        {"name": "reference_pay", "minimum": 1, "maximum": 9_999_999},
        _GRADE,
        _RATING,
        {"name": "tenure_years", **_YEARS},
    ],
}


@cache
def metrics() -> dict[str, Any]:
    """How good each model is on rows that its training did not see, beside its baseline."""
    found: dict[str, Any] = json.loads((MODELS_FOLDER / "metrics.json").read_text(encoding="utf-8"))
    return found


def model_settings() -> list[dict[str, Any]]:
    """Return the models as smartstream.yaml names them, for a project with ``install`` done."""
    return [
        {
            "name": name,
            "uri": f"models/{name}.onnx",
            "sha256": metrics()[name]["sha256"],
            "features": f"models/{name}.sql",
            "key": ["employee_id"],
            "inputs": [dict(one) for one in inputs],
            "schedule": "rate(1 hour)",
            "keep": "both",
        }
        for name, inputs in _INPUTS.items()
    ]


def install(folder: Path) -> None:
    """Copy the models and their queries into a project's ``models`` folder."""
    (folder / "models").mkdir(exist_ok=True)
    for name in _INPUTS:
        for path in MODELS_FOLDER.glob(f"{name}.*"):
            shutil.copy(path, folder / "models")
