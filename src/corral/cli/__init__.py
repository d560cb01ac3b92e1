"""What a person types. Reaches the server over HTTP only; `serve` alone imports it, and only when it runs.

Start-up time is part of the contract: no module here imports rich, prompt_toolkit or the server at its top.
"""
