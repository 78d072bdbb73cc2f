"""Many experiments in many processes: packs, workers, notes about who is at work."""
