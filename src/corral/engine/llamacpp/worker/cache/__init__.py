"""What was computed and has left KV memory: in RAM for what is parked, on disk for what outlives the worker. Worker side."""
