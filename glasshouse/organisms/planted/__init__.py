"""Organisms: a recipe file each, with its card. Adding one is adding a file that holds an `ORGANISM` of the file's name
(see `glasshouse.organisms.planting`)."""
