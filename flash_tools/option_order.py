"""Options of a command that stand before a word that is a command of its own.

`tidegate provision --bench A scrap 0100` would leave `--bench A` out, and end unit 0100 of another bench.
"""

from __future__ import annotations

import typer

from flash_tools.errors import FlashToolError


def refuse_options_before(ctx: typer.Context, command: str) -> None:
    """FlashToolError names the first of them, and where it belongs. Those of the environment are for all words."""
    for option in ctx.command.params:
        source = ctx.get_parameter_source(option.name or "")
        if source is not None and source.name == "COMMANDLINE":
            name, word = option.opts[0], ctx.invoked_subcommand
            raise FlashToolError(
                f"{name} stands before `{word}`, which does not see it; nothing was done. Write it behind: tidegate "
                f"{command} {word} {name} …"
            )
