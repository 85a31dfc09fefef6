# Run `just` to list the recipes. Each is one line that you can also type.

# List the recipes
default:
    @just --list

# Install the project, its development tools and the commit hooks
setup:
    pip install -e ".[dev,docs]"
    pre-commit install

# Run the tests: all of them, or one area: just test tests/memory
test *paths:
    pytest {{ paths }}

# Lint, format check, types, import layers
check:
    ruff check .
    ruff format --check .
    mypy
    lint-imports

# Format the code and sort its imports
format:
    ruff check --fix .
    ruff format .

# Search longer for counterexamples, and shrink what is found: just search tests/memory 1000
search paths="tests" examples="400":
    CTXMEM_SHRINK=1 CTXMEM_EXAMPLES={{ examples }} pytest {{ paths }}

# Run the long tests that `just test` leaves out
soak:
    pytest -m soak

# Generate docs/settings.md, docs/commands.md and the README's pictures
generate:
    python docs/generate.py

# Serve the documentation site at http://127.0.0.1:8000
docs:
    mkdocs serve

# Run everything that CI runs, in an environment of its own
ci:
    bash .ci/run
