"""What runs in a worker process: `python -m corral.engine.llamacpp.worker` and the loaded model that its loop steps.

- `batch`: which tokens a step computes, and what comes of it: jobs, slots of KV memory, the prefixes they share
- `grammar`: the course of an answer between thought, grammar and free text
- `embed`: jobs that make vectors or scores of texts
- `media`: images and sounds, from files to spans of a sequence
- `native`: llama.cpp's C API as Python objects; the others meet it through protocols, and run without it in tests
"""
