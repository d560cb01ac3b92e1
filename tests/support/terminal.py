"""Just enough of a terminal to see what a program's output looks like on it."""

import io
import re

_SEQUENCE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def screen(output: str) -> list[str]:
    """The lines on the screen after this output: newlines, returns, moves and erasing are followed, colours left out."""
    lines, row, column, at = [""], 0, 0, 0
    while at < len(output):
        if found := _SEQUENCE.match(output, at):
            count, action = int(found[1]) if found[1].isdigit() else 1, found[2]
            match action:
                case "A":
                    row -= count
                case "D":
                    column -= count
                case "K":
                    lines[row] = lines[row][:column]
                case "J":
                    lines[row:] = [lines[row][:column]]
            at = found.end()
            continue
        match output[at]:
            case "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            case "\r":
                column = 0
            case letter:
                lines[row] = lines[row][:column].ljust(column) + letter + lines[row][column + 1 :]
                column += 1
        at += 1
    return lines
