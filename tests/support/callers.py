"""A model's template that knows thoughts and tools, and what such a model says, for tests of every API."""

from typing import Any, Final

CALLER_TEMPLATE: Final = (
    "{{ if .Tools }}<tools>{{ range .Tools }}{{ . }}{{ end }}</tools>\n{{ end }}"
    "{{ range .Messages }}[{{ .Role }}] {{ if .Thinking }}<think>\n{{ .Thinking }}</think>\n{{ end }}{{ .Content }}"
    '{{ range .ToolCalls }}<tool_call>\n{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}\n</tool_call>'
    "{{ end }}[end]\n{{ end }}[assistant] "
)
TOOL: Final[dict[str, Any]] = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SAYS_CALL: Final = ("I ", "look.\n", "<tool_", 'call>\n{"name": "f", "arguments": {"a": 1, "b": "x"}}\n</tool_call>')
SAYS_THOUGHT: Final = ("<think>\n", "hm", "</think>\n", "Yes", ".")
