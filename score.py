"""Score new data with the detector of a finished run; see python score.py --help."""

from deepsad_pl.commands.entry import score

if __name__ == "__main__":
    score()
