-- All that was changed goes to disk now, and not in the middle of a measurement.
CHECKPOINT
