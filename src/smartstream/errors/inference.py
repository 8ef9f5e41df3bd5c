"""Models: finding, loading and running them, and the features that they read."""

from __future__ import annotations

from smartstream.errors.base import ExitCode, Retry, SmartStreamError


class InferenceError(SmartStreamError):
    """A model, its features or its run."""

    hint = "Previous predictions stay; `smartstream model ls` shows each model's last run."


class ModelMissing(InferenceError):
    """There is no model at its `uri`, or the package that reads it is not installed."""

    hint = "Check `uri` of the model; `pip install 'smartstream[models]'` brings the packages."


class ModelHashMismatch(InferenceError):
    """The model's file is not the one that `sha256` names."""

    hint = "Set `sha256` to the hash of the file that was reviewed, or put that file back."


class ModelNotAllowed(InferenceError):
    """The model would run code that the configuration does not allow."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Review the code, then set `allow_code: true` and `sha256`, or list the types in `trusted_types`."


class SignatureMismatch(InferenceError):
    """The features do not have the columns and types that the model expects."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Change the feature query or the model's `inputs`; `smartstream model test NAME` tries them."


class FeaturesInvalid(InferenceError):
    """The feature query can't be used: its text, its tables or the rows that it gives."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Mend the SQL file of the model; `smartstream model test NAME` tries it."


class ScheduleInvalid(InferenceError):
    """A schedule that is none of `rate(…)`, `cron(…)` and the five fields of cron."""

    exit_code = ExitCode.CONFIGURATION
    hint = "Write rate(1 hour), cron(0 6 * * ? *) or 0 6 * * *."


class ModelFailed(InferenceError):
    """The model raised an error, or gave something else than one prediction for each row."""


class ModelTimeout(InferenceError):
    """The model took longer than its `timeout`."""

    retry = Retry.TRANSIENT
    hint = "Raise `timeout` of the model, or lower `chunk_rows`."


class ModelOutOfMemory(InferenceError):
    """The model needs more than its `memory`."""

    hint = "Raise `memory` of the model, or lower `chunk_rows`."


class ModelUnavailable(InferenceError):
    """A remote model or registry does not answer, or refuses."""

    retry = Retry.TRANSIENT
    hint = "SmartStream tries again at the next run of the schedule."


class ModelBusy(InferenceError):
    """Another process scores with the same model at this moment."""

    retry = Retry.TRANSIENT
    hint = "Wait until it has ended; a process that died is taken for ended after a while."


class RunsFailed(InferenceError):
    """Some of the models that were due could not be run."""

    hint = "Each has a line in `analytics.model_runs` that says why; previous predictions stay."
