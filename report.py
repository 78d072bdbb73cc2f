"""Write the page of a finished run; see python report.py --help."""

from deepsad_pl.commands.entry import report

if __name__ == "__main__":
    report()
