"""llama.cpp, ggml and mtmd through their C APIs: all that touches native memory."""
