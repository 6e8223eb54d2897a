"""Recipes that come with the package, one TOML file each: `soundmark train --recipe NAME`."""
