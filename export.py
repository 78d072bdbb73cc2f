"""Export the detector of a finished run as one file; see python export.py --help."""

from deepsad_pl.commands.entry import export

if __name__ == "__main__":
    export()
