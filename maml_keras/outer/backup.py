"""A backup that is never half written."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import keras


class WholeBackup(keras.callbacks.BackupAndRestore):
    """Goes on after an interruption with the last epoch that had ended.

    As Keras's `BackupAndRestore`, but Ctrl-C or a crash while it writes leaves the
    backup before: the new one is written beside it and then takes its place.

    Args:
        backup_dir: str or path of the folder.
        delete_checkpoint: bool, whether it is removed when training ends.

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
        """True if there is something to go on with."""
        return self._folder.exists() or self._before.exists()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restores the last whole one."""
        if not self._folder.exists() and self._before.exists():
            self._before.rename(self._folder)  # Cut between the two moves below.
        super().on_train_begin(logs)

    def _save_model(self) -> None:
        self._clear()
        self._write_to(self._new)
        try:
            super()._save_model()
        finally:
            self._write_to(self._folder)
        if self._folder.exists():
            self._folder.rename(self._before)
        self._new.rename(self._folder)
        self._clear()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Removes it, unless it was to stay."""
        # Keras would begin a later `fit` there, too.
        self.model._initial_epoch = 0
        if self.delete_checkpoint:
            self.remove()

    def remove(self) -> None:
        """Removes it at once: half of a backup must not be restored either."""
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
