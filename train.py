"""Run one experiment, or with -m one for each combination of comma-separated values; see python train.py --help."""

from deepsad_pl.commands.entry import train

if __name__ == "__main__":
    train()
