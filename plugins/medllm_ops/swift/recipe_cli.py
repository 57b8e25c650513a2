"""``medllm-ops recipe``: list, show, check, explain and migrate recipes; which model families work here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from medllm_ops.errors import MedllmError
from medllm_ops.models.families import Member, families
from medllm_ops.swift.check import check_recipe
from medllm_ops.swift.explain import explain as explain_name
from medllm_ops.swift.families import Status, standing
from medllm_ops.swift.migrate.migrate import migrate_files
from medllm_ops.swift.recipe import list_recipes, read_recipe, recipe_file

recipe_app = typer.Typer(no_args_is_help=True, help=__doc__)
console = Console(highlight=False)
EXIT_WRONG = 1
PIPED_WIDTH = 200


@recipe_app.command("list")
def list_all() -> None:
    """List the recipes that ship."""
    table = _table("name", "model", "stages", "what it is for")
    for name in list_recipes():
        recipe = read_recipe(name)
        table.add_row(name, recipe.model, " ".join(recipe.stages), recipe.description.strip().partition(". ")[0])
    _print_table(table)


@recipe_app.command()
def show(recipe: Annotated[str, typer.Argument(help="A recipe's name or file.", show_default=False)]) -> None:
    """Print a recipe as it stands in its file, comments included."""
    typer.echo(recipe_file(recipe).read_bytes(), nl=False)


@recipe_app.command()
def check(
    recipes: Annotated[list[str], typer.Argument(help="Names or files of recipes.", show_default=False)],
) -> None:
    """Check recipes against the fields of this version and the installed ms-swift; nothing is fetched or started.

    Exit code 1 if one of them is wrong.
    """
    wrong = 0
    for name in recipes:
        try:
            checked = check_recipe(read_recipe(name))
        except MedllmError as error:
            wrong += 1
            typer.echo(f"error: {error}", err=True)
            continue
        console.print(f"[bold]{checked.recipe.name}[/] holds: {', '.join(checked.recipe.stages)}", soft_wrap=True)
        for note in checked.notes:
            console.print(f"  note: {note}", soft_wrap=True, markup=False)
    if wrong:
        raise typer.Exit(EXIT_WRONG)


@recipe_app.command()
def explain(
    field: Annotated[str, typer.Argument(help="A field of a recipe, an argument of ms-swift, or a name of 1.x.")],
) -> None:
    """Tell what a field does: unit, limits, default, and what it was in ms-swift 1.x."""
    console.print(explain_name(field), soft_wrap=True, markup=False)


@recipe_app.command()
def migrate(
    old: Annotated[
        list[Path],
        typer.Argument(help="Python scripts or shell commands of ms-swift 1.x, in order.", exists=True, dir_okay=False),
    ],
    out: Annotated[Path, typer.Option("--out", help="The recipe to write; it must not be there yet.")],
) -> None:
    """Make a recipe of old scripts; nothing of them is executed, and what needs you is listed."""
    migrated = migrate_files(old, out)
    console.print(f"{out}: {', '.join(migrated.recipe.stages)}", soft_wrap=True, markup=False)
    if migrated.human:
        console.print(f"{len(migrated.human)} for you to decide, also at the end of the recipe:")
    for sentence in migrated.human:
        console.print(f"  {sentence}", soft_wrap=True, markup=False)


@recipe_app.command("families")
def list_families() -> None:
    """Show which models of the six families can be trained with what is installed here."""
    table = _table("family", "models", "type / template", "status", "why")
    for family in families().values():
        for number, member in enumerate(family.members):
            found = standing(member)
            colour = {Status.TRAINED: "green", Status.NOT_PROVEN: "yellow"}.get(found.status, "red")
            title = family.title if number == 0 else ""
            kind = f"{member.model_type} / {member.template}"
            table.add_row(title, _models(member), kind, f"[{colour}]{found.status.value}[/]", found.reason)
    _print_table(table)


def _table(*headings: str) -> Table:
    """A table that cuts nothing off: what has no room in a line goes on in the next one."""
    return Table(*(Column(heading, overflow="fold") for heading in headings), show_lines=True)


def _print_table(table: Table) -> None:
    """Print it as wide as the terminal is; where there is none, so wide that no name is broken in two."""
    told = console.is_terminal or "COLUMNS" in os.environ
    Console(highlight=False, width=None if told else PIPED_WIDTH).print(table)


def _models(member: Member) -> str:
    """The newest model, and how many others train alike."""
    others = len(member.models) - 1
    return member.name.rpartition("/")[2] + (f" and {others} more" if others else "")
