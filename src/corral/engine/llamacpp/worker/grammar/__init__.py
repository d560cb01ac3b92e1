"""Answers that are bound: grammars compiled by llguidance, and the course of an answer between thought and text."""
