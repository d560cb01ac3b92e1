"""What a chat says of itself."""

from collections.abc import Mapping
from typing import Final

COMMANDS: Final = '''\
Available Commands:
  /set            Change a setting of this session
  /show           Show what is known of the model
  /load <model>   Go on with another model
  /save <model>   Save this session as a model
  /clear          Clear session context
  /list           List models
  /bye            Exit
  /?, /help       Help; with set, show or shortcuts more of it

Use """ to begin a multi-line message.
The path of a picture in a message attaches it, where the model can see.
'''

SET: Final = """\
Available Commands:
  /set parameter ...     Set a parameter
  /set system <string>   Set the system message
  /set history           Remember lines in later chats
  /set nohistory         Remember none
  /set wordwrap          Wrap words and show Markdown
  /set nowordwrap        Show the text as it is
  /set format json       Answer in JSON
  /set noformat          Answer in any form
  /set verbose           Show counts and timings
  /set quiet             Show none
  /set think [level]     Think first: high, medium, low, max, or as the model likes
  /set nothink           Answer at once
"""

SHOW: Final = """\
Available Commands:
  /show info         Show details
  /show license      Show the license
  /show modelfile    Show the Modelfile
  /show parameters   Show the parameters of the model, and those set here
  /show system       Show the system message
  /show template     Show the prompt template
"""

PARAMETERS: Final = """\
Available Parameters:
  /set parameter seed <int>               Where random numbers begin
  /set parameter num_predict <int>        Tokens of an answer at most
  /set parameter num_ctx <int>            Tokens of the context
  /set parameter temperature <float>      How daring the answer is
  /set parameter top_k <int>              Choose among so many tokens
  /set parameter top_p <float>            Choose among the likeliest that make up so much
  /set parameter min_p <float>            Choose among those at least so likely, next to the likeliest
  /set parameter repeat_penalty <float>   How much repetition costs
  /set parameter repeat_last_n <int>      How far back repetition is looked for
  /set parameter num_gpu <int>            Layers on the GPU
  /set parameter stop <string> ...        Texts that end the answer
"""

SHORTCUTS: Final = """\
Available keyboard shortcuts:
  Ctrl + a   To the beginning of the line
  Ctrl + e   To the end of the line
   Alt + b   Back one word
   Alt + f   Forward one word
  Ctrl + k   Delete to the end of the line
  Ctrl + u   Delete to the beginning of the line
  Ctrl + w   Delete the word before the cursor

  Ctrl + l   Clear the screen
  Ctrl + g   Write the message in a text editor
  Ctrl + c   Stop the answer
  Ctrl + d   Exit (/bye)
"""

TOPICS: Final[Mapping[str, str]] = {"set": SET, "show": SHOW, "shortcut": SHORTCUTS, "shortcuts": SHORTCUTS}
