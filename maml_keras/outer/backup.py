"""A backup that is never half written."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import keras

from maml_keras.backend.documents import reason, writing
from maml_keras.outer.finite_weights import check_writable


class WholeBackup(keras.callbacks.BackupAndRestore):
    """Resumes an interrupted training after the last completed epoch.

    Works like Keras's `BackupAndRestore`, but Ctrl-C or a crash during writing keeps
    the previous backup: the new backup is written beside the old one and then
    replaces it. Weights that are NaN or infinite raise a `ValueError`, and the last
    backup stays.

    Args:
        backup_dir: str or path of the folder.
        delete_checkpoint: bool, whether to remove the backup when training ends.

    >>> import tempfile
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     backup = WholeBackup(pathlib.Path(folder) / "backup")
    ...     x = np.ones([4, 1])
    ...     _ = model.fit(x, x, epochs=2, verbose=0, callbacks=[backup])
    """

    def __init__(
        self,
        backup_dir: str | pathlib.Path,
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__(str(backup_dir), delete_checkpoint=delete_checkpoint)
        self._folder = pathlib.Path(backup_dir)
        self._new = self._folder.with_name(self._folder.name + ".new")
        self._before = self._folder.with_name(self._folder.name + ".before")
        self._over = self._folder.with_name(self._folder.name + ".over")

    def exists(self) -> bool:
        """True if there is a backup to resume from."""
        return self._folder.exists() or self._before.exists()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restores the last complete backup.

        Raises:
            ValueError: if the backup is damaged, is that of another model, or is not
                that of the other workers.
        """
        if self._writes and not self._folder.exists() and self._before.exists():
            # Interrupted between the two renames in `_save_model`.
            self._before.rename(self._folder)
        replicas = self._replicas
        if replicas is not None:
            replicas.of_all(0)  # Nobody reads before the first worker is done.
        try:
            super().on_train_begin(logs)
        except Exception as error:
            raise ValueError(
                f"The backup in {self._folder} cannot be restored: {reason(error)}. "
                "Remove the folder to train from the beginning."
            ) from error
        if replicas is not None:
            replicas.check_same(
                self.model._initial_epoch or 0,
                "backup",
                f"Keep {self._folder} on a file system that all workers share.",
            )

    @property
    def _replicas(self) -> Any:
        return getattr(self.model, "_replicas", None)

    @property
    def _writes(self) -> bool:
        return self._replicas is None or bool(self._replicas.writes)

    def _save_model(self) -> None:
        if not self._writes:
            return
        check_writable(self.model, "A backup")
        self._clear()
        self._write_to(self._new)
        try:
            with writing(self._new):
                super()._save_model()
        finally:
            self._write_to(self._folder)
        if self._folder.exists():
            self._folder.rename(self._before)
        self._new.rename(self._folder)
        self._clear()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Removes the backup if `delete_checkpoint` is set."""
        # Otherwise Keras would also start a later `fit` at this epoch.
        self.model._initial_epoch = 0
        if self.delete_checkpoint and self._writes:
            self.remove()

    def remove(self) -> None:
        """Removes the backup in one rename, so that no half of it can be restored."""
        self._clear()
        if self._folder.exists():
            self._folder.rename(self._over)
            self._clear()

    def _clear(self) -> None:
        for folder in (self._new, self._before, self._over):
            shutil.rmtree(folder, ignore_errors=True)

    def _write_to(self, folder: pathlib.Path) -> None:
        self.backup_dir = str(folder)
        for attribute in ("_weights_path", "_training_metadata_path"):
            name = pathlib.Path(getattr(self, attribute)).name
            setattr(self, attribute, str(folder / name))
