"""Run many experiments in many processes: packs, workers, and notes about running and failed experiments."""
