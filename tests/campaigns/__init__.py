"""The long forms of the fault programme: each is a module with a `main`, run by a make target, and ends in a JSON file
of figures that docs/reliability.md quotes. Their short forms are ordinary tests.
"""
