"""Guessing what an answer says next, so that several of its tokens are computed in one step. No native code."""
