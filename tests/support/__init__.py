"""What the tests build on: model files, fakes."""
