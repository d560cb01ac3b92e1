"""Images and sounds: read by a thread beside the loop, laid out as spans between tokens, encoded once."""
