"""Continuous batching: which tokens the next step computes, where in KV memory, and what comes of it. No native code."""
