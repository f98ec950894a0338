"""Training: one run, sweeps, searches, distillation."""
