"""Run many experiments, like train.py -m but without the -m; see python sweep.py --help."""

from deepsad_pl.commands.entry import sweep

if __name__ == "__main__":
    sweep()
