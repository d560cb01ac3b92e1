"""`corral bench`: a load generator for any server that speaks Ollama's API or OpenAI's.

`texts` and `workloads` make requests, `dialects` writes and reads them, `sending` times one, `loops` sends many, `rounds` gives
every server its turns, `figures` makes numbers of what came back, and `report`, `document` and `plot` show them. `command` is
the command line, and the only module that is imported to show its help.
"""
