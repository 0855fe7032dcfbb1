"""Points that several processes, on one machine or many, measure together: each is measured once, by whoever is free.

    study = SharedStudy("sweep of resnet20", "postgresql+psycopg://host/name")  # without a URL: SQLite in FPGM_HOME
    study.offer(["a", "b", "c"])
    while study.take(lambda point: {"length": len(point)}):
        pass
    study.results()  # {"a": {"length": 1}, ...}, whoever measured them

Optuna's storage keeps them (extra `together`): taking is atomic, whoever takes a point gives signs of life, and a point
whose taker fell silent is taken by another.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from fpgm_core.errors import FpgmError
from fpgm_core.runtime.extras import require
from fpgm_core.runtime.storage import home

SIGN_OF_LIFE = 15  # seconds between two
_ATTEMPTS = 20  # to open a data base whose tables others are making
_POINT, _RESULT = "point", "result"


class SharedStudy:
    """The points of one study, by name, in a data base; everybody who opens the same one takes part.

    `url` is SQLAlchemy's: SQLite in `FPGM_HOME` where none is given. A taker that gives no sign of life for four times
    `sign_of_life` seconds is given up. Raises FpgmError where the data base cannot be opened.
    """

    def __init__(self, name: str, url: str | None = None, *, sign_of_life: int = SIGN_OF_LIFE) -> None:
        self._optuna = optuna = require("optuna", extra="together")
        if url is None:
            home().mkdir(parents=True, exist_ok=True)
            url = f"sqlite:///{home() / 'together.sqlite'}"
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with self._told():
            storage = self._opened(url, sign_of_life)
            self._study = optuna.create_study(
                storage=storage, study_name=name, load_if_exists=True, sampler=optuna.samplers.RandomSampler()
            )

    def offer(self, points: Iterable[str]) -> None:
        """Offer points to be measured; those that somebody offered before are not offered again."""
        with self._told():
            known = {trial.user_attrs.get(_POINT) for trial in self._trials()}
            for point in points:
                if point not in known:
                    self._study.enqueue_trial({}, user_attrs={_POINT: point})

    def take(self, measure: Callable[[str], Mapping[str, Any]]) -> bool:
        """Take a point that waits, and keep what `measure` makes of it, plain values; whether there was one.

        An error of `measure` is raised here, and the point waits for another taker.
        """
        states = self._optuna.trial.TrialState
        failed = list[BaseException]()

        def objective(trial: Any) -> float:
            point = trial.user_attrs.get(_POINT)
            if point is None or self._has_another(trial, point):  # offered twice in one moment
                raise self._optuna.TrialPruned
            try:
                result = dict(measure(point))
            except BaseException as error:
                failed.append(error)
                self._study.enqueue_trial({}, user_attrs={_POINT: point})
                raise self._optuna.TrialPruned from error
            trial.set_user_attr(_RESULT, result)
            return 0.0

        with self._told():
            self._optuna.storages.fail_stale_trials(self._study)
            if not self._trials(states.WAITING):
                return False
            with suppress(self._optuna.exceptions.UpdateFinishedTrialError):  # this taker was given up meanwhile
                self._study.optimize(objective, n_trials=1)
        if failed:
            raise failed[0]
        return True

    def results(self) -> dict[str, dict[str, Any]]:
        """What has been measured so far, by point, in the order in which the points were offered."""
        with self._told():
            done = self._trials(self._optuna.trial.TrialState.COMPLETE)
        return {trial.user_attrs[_POINT]: trial.user_attrs[_RESULT] for trial in done}

    def _has_another(self, trial: Any, point: str) -> bool:
        """Whether an earlier offer of the point waits, is being measured or was."""
        states = self._optuna.trial.TrialState
        others = self._trials(states.WAITING, states.RUNNING, states.COMPLETE)
        return any(one.number < trial.number and one.user_attrs.get(_POINT) == point for one in others)

    def _trials(self, *states: Any) -> list[Any]:
        found: list[Any] = self._study.get_trials(deepcopy=False, states=states or None)
        return found

    def _opened(self, url: str, sign_of_life: int, attempts: int = _ATTEMPTS) -> Any:
        """The data base; its tables are made by whoever is first, and the others look again."""
        storages, errors = self._optuna.storages, require("sqlalchemy", extra="together").exc
        try:
            return storages.RDBStorage(
                url, heartbeat_interval=sign_of_life, grace_period=4 * sign_of_life,
                heartbeat_stale_trial_callback=storages.RetryHeartbeatStaleTrialCallback(),
            )  # fmt: skip
        except errors.DBAPIError as error:
            told = str(error)
            passes = isinstance(error, errors.IntegrityError) or "already exists" in told or "is locked" in told
            if not (passes and attempts > 1):
                raise
        time.sleep(0.1)
        return self._opened(url, sign_of_life, attempts - 1)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A data base's errors as ours; nothing of what Optuna calls experimental."""
        sqlalchemy = require("sqlalchemy", extra="together")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
                yield
        except (sqlalchemy.exc.SQLAlchemyError, self._optuna.exceptions.StorageInternalError, ImportError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise FpgmError(f"the shared study's data base cannot be used: {reason}; check its URL") from error
