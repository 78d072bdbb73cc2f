"""Many experiments: train.py in multirun mode, so comma lists need no -m: python sweep.py --help."""

from deepsad_pl.commands.main import sweep

if __name__ == "__main__":
    sweep()
