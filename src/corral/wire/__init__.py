"""What crosses a boundary, as msgspec Structs and nothing else. Its modules are imported one by one: `from corral.wire import ollama`."""
