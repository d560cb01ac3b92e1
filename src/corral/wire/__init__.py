"""What crosses a boundary, as msgspec Structs and nothing else. Import its modules: `from corral.wire import ollama`."""
