# `make demo` starts the demo, `make test` proves everything; both need only Python 3.11 and make.
# PYTHON= names an interpreter; PORT= WORKERS= DATABASE_URL= REDIS_URL= are read by the demo.
VENV = .venv
export PYTHON

.PHONY: demo test format lint types contracts docs bench requirements clean help
help:
	@echo "make demo | test [STAGE=..] | format | lint | types | contracts | docs | bench | requirements | clean"

demo:
	@sh scripts/environment.sh $(VENV) requirements/demo.txt
	@exec $(VENV)/bin/python demo/run.py

test:
	@sh scripts/environment.sh $(VENV) requirements/test.txt
	@exec $(VENV)/bin/python scripts/test.py $(STAGE)

format:
	@sh scripts/environment.sh $(VENV) requirements/test.txt
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

lint types contracts:
	@$(MAKE) --no-print-directory test STAGE=$@

docs:
	@sh scripts/environment.sh $(VENV) requirements/test.txt
	@rm -rf build/docs build/doctrees # what is kept of a build is not read again, and its warnings are not said again
	@$(VENV)/bin/python -m sphinx -q -W --keep-going -c docs -d build/doctrees . build/docs
	@echo "build/docs/index.html"

bench:
	@sh scripts/environment.sh .venv-bench requirements/bench.txt
	@exec .venv-bench/bin/python benchmarks/run.py

requirements:
	@sh scripts/environment.sh $(VENV) requirements/test.txt
	@sh scripts/requirements.sh

clean:
	rm -rf .venv .venv-django61 .venv-bench build dist htmlcov .coverage* .*_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
