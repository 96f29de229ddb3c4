"""The command line of training: LightningCLI with our defaults, and `export`."""

import sys
import warnings
from pathlib import Path
from typing import Any

import lightning
from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from ffsplat.errors import UsageError
from ffsplat.io.atomic import atomic_output
from train.callbacks import LAST, PAUSED, StopOnSignal, Throughput
from train.data import TrainingData
from train.export import export, read_run
from train.module import TrainingModule

SAVE_EVERY = 500
"""Steps from one last.ckpt to the next."""


class Trainer(lightning.Trainer):
    """Lightning's trainer; checkpoints are read without unpickling, and it can export."""

    def fit(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, model: TrainingModule, datamodule: TrainingData, ckpt_path: str | Path | None = None
    ) -> None:
        """Train. `ckpt_path` is a checkpoint to go on from; `last` finds the newest of --out.

        Raises UsageError where a run would overwrite another one, CheckpointError for a file that
        no run wrote.
        """
        last = Path(self.default_root_dir) / LAST
        if ckpt_path is None and last.exists():
            raise UsageError(f"{last} already exists", hint="--ckpt_path last, or another --out")
        if ckpt_path == "last" and not last.exists():
            ckpt_path = None  # the first start of a job that is restarted with the same command
        path = None if ckpt_path is None else self._found(ckpt_path)
        super().fit(model, datamodule=datamodule, ckpt_path=path, weights_only=True)

    def validate(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, model: TrainingModule, datamodule: TrainingData, ckpt_path: str | Path = "last"
    ):
        """Measure the moving average of a checkpoint on rooms of the split `preview`."""
        path = self._found(ckpt_path)
        return super().validate(model, datamodule=datamodule, ckpt_path=path, weights_only=True)

    def test(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, model: TrainingModule, datamodule: TrainingData, ckpt_path: str | Path = "last"
    ):
        """Measure the moving average of a checkpoint on held-out rooms."""
        path = self._found(ckpt_path)
        return super().test(model, datamodule=datamodule, ckpt_path=path, weights_only=True)

    def export(
        self, model: TrainingModule, folder: Path, datamodule: TrainingData,
        ckpt_path: str | Path = "last", card: Path | None = None,
    ) -> None:  # fmt: skip
        """Write the moving average of a checkpoint as a folder that ffsplat loads, with its card.

        `card` is a README.md to take instead of the one that is made from the run.
        """
        export(self._found(ckpt_path), folder, card)

    def _found(self, path: str | Path | None) -> Path:
        # The config that a run keeps of itself says null.
        found = Path(self.default_root_dir) / LAST if path in ("last", None) else Path(path)
        if not found.exists():
            raise UsageError(f"{found} does not exist", hint="name the folder of the run by --out")
        if found.is_file():  # runs that shard their weights write folders
            read_run(found)
        return found


class KeepConfig(SaveConfigCallback):
    """Writes the whole recipe of a run, defaults and all, to config.yaml beside its weights."""

    def save_config(self, trainer, pl_module, stage) -> None:
        """Write it; a resumed run replaces it."""
        text = self.parser.dump(self.config, skip_none=False)
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_output(folder / "config.yaml", overwrite=True) as file:
            file.write(text.encode())


class CommandLine(LightningCLI):
    """`python -m train fit|validate|test|export --config RECIPE`."""

    def __init__(self, args: list[str] | None = None):
        self.stop: StopOnSignal | None = None
        super().__init__(
            TrainingModule,
            TrainingData,
            trainer_class=Trainer,
            trainer_defaults=DEFAULTS,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            save_config_callback=KeepConfig,
            save_config_kwargs={"save_to_log_dir": False},
            parser_kwargs={"exit_on_error": False},
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The methods of Trainer that are commands, and what of them is no option."""
        return {name: {"model", "datamodule"} for name in ("fit", "validate", "test", "export")}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What a run is beside its recipe: where it lies, how often it is kept, when it pauses."""
        parser.add_argument("--out", type=Path, required=True, help="Folder of the run.")
        parser.add_argument("--save_every", type=int, default=SAVE_EVERY, help="Steps.")
        parser.add_argument(
            "--pause_after", type=float | None, help="Minutes; --ckpt_path last goes on."
        )
        parser.link_arguments("out", "trainer.default_root_dir")

    def instantiate_trainer(self, **kwargs: Any) -> lightning.Trainer:
        """Add the callbacks and loggers that every run has."""
        assert self.subcommand is not None
        config = self.config[self.subcommand]
        out = Path(config.out)
        checkpoint = ModelCheckpoint(
            dirpath=out, filename=Path(LAST).stem, every_n_train_steps=config.save_every,
            enable_version_counter=False,
        )  # fmt: skip
        writes = self.subcommand == "fit"
        if not writes:
            self.save_config_callback = None  # config.yaml stays that of the run
        self.stop = StopOnSignal(config.pause_after)
        every = [checkpoint, self.stop, Throughput()] if writes else []
        loggers = [
            CSVLogger(out, name="csv", flush_logs_every_n_steps=1),
            TensorBoardLogger(out, name="", version="tensorboard"),
        ]
        if self.subcommand == "export":  # needs no accelerator, whatever the run had
            kwargs |= {"accelerator": "cpu", "devices": 1, "strategy": "auto"}
        return super().instantiate_trainer(
            callbacks=[*(self._get(self.config_init, "trainer.callbacks") or []), *every],
            logger=loggers if writes else False,
            **kwargs,
        )


DEFAULTS = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 50,
    "max_epochs": -1,
}
"""A batch is one step of an endless list, so there are no epochs; sources share by rank."""


QUIET = (
    ".*LeafSpec",
    "You have overridden `transfer_batch_to_device`",
    "Checkpoint directory .* exists and is not empty",
    "Experiment logs directory .* exists and is not empty",
    "You're resuming from a checkpoint that ended before the epoch",
    "It is recommended to use `self.log",
    "The '.*_dataloader' does not have many workers",
)
"""Warnings of Lightning about what is meant to be so: every step is resumed exactly."""


def run(args: list[str] | None = None) -> None:
    """Run one command, of the process or `args`.

    A run that a signal ended exits as the signal says, so that a scheduler starts it again.
    """
    for message in QUIET:
        warnings.filterwarnings("ignore", message)
    try:
        line = CommandLine(args)
    except (ArgumentError, MisconfigurationException) as error:
        command = (args or sys.argv[1:])[0]
        raise UsageError(str(error), hint=f"python -m train {command} --help") from None
    if line.stop is not None and 0 < line.stop.received < PAUSED:
        sys.exit(128 + line.stop.received)
