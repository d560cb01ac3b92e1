"""What is tried where neither the template nor its family says how calls are written: the forms that models know best."""

from typing import Final

from corral.parse.formats import CallFormat, JsonCalls, Pair

BARE: Final = CallFormat(body=JsonCalls(), separator="\n")
FORMAT: Final = CallFormat(around_each=Pair("<tool_call>\n", "\n</tool_call>"), separator="\n", body=JsonCalls(), also=(BARE,))
