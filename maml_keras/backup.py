"""A backup that is never half written."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import keras


class WholeBackup(keras.callbacks.BackupAndRestore):
    """As Keras's own, but Ctrl-C or a crash while it writes leaves the one before.

    It is written beside the folder and then takes its place.

    Args:
        backup_dir: the folder.
    """

    def __init__(self, backup_dir: str | pathlib.Path) -> None:
        super().__init__(str(backup_dir))
        self._folder = pathlib.Path(backup_dir)
        self._new = self._folder.with_name(self._folder.name + ".new")
        self._before = self._folder.with_name(self._folder.name + ".before")

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
        """Removes it."""
        super().on_train_end(logs)
        self._clear()

    def _clear(self) -> None:
        for folder in (self._new, self._before):
            shutil.rmtree(folder, ignore_errors=True)

    def _write_to(self, folder: pathlib.Path) -> None:
        self.backup_dir = str(folder)
        for attribute in ("_weights_path", "_training_metadata_path"):
            name = pathlib.Path(getattr(self, attribute)).name
            setattr(self, attribute, str(folder / name))
